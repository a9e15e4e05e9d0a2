//! Errors of ONNX Runtime: whose move it is, and the words that matter.

use ort::ErrorCode as Code;

use super::provider::Provider;
use crate::{Error, ErrorKind};

/// Whose move it is after an error of ONNX Runtime.
pub(super) fn failed<R>(doing: &str, error: ort::Error<R>) -> Error {
    let kind = match error.code() {
        Code::InvalidProtobuf | Code::InvalidGraph | Code::NoModel | Code::NoSuchFile => ErrorKind::BadFile,
        Code::NotImplemented => ErrorKind::Unsupported,
        Code::InvalidArgument if doing == "running" => ErrorKind::BadInput,
        _ if doing == "loading" => ErrorKind::BadFile,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("onnxruntime failed {doing}: {}", error.message()))
}

/// The provider cannot run here, in its own words.
pub(super) fn unavailable<R>(provider: Provider, error: &ort::Error<R>) -> Error {
    let why = reason(error.message());
    let message = format!("the provider {} cannot run: {why}{}", provider.name(), provider.needs());
    Error::new(ErrorKind::Environment, message)
}

/// The part of a message that says what happened: providers put the place in their source files before it, and what
/// was tried next behind it.
fn reason(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no reason given");
    let mut text = line;
    for mark in ["[ONNXRuntimeError] : ", "[ERROR] ", "[OpenVINO] ", "[OpenVINO-EP] "] {
        if let Some((_, rest)) = text.rsplit_once(mark) {
            text = rest;
        }
    }
    // What is left of `[ONNXRuntimeError] : 1 : FAIL : text`.
    if let [code, _, rest] = text.splitn(3, " : ").collect::<Vec<_>>().as_slice()
        && code.parse::<u32>().is_ok()
    {
        text = rest;
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_without_the_places_in_source_files() {
        let message = "/onnxruntime_src/core/session/provider_bridge_ort.cc:2242 virtual void \
                       onnxruntime::ProviderLibrary::Load() [ONNXRuntimeError] : 1 : FAIL : Failed to load library \
                       libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object \
                       file\nmore";
        assert_eq!(
            reason(message),
            "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open \
             shared object file"
        );
        let message =
            "/a/openvino_parser_utils.cc:101 std::string f() [ERROR] [OpenVINO] Unsupported precision\n\n";
        assert_eq!(reason(message), "Unsupported precision");
        assert_eq!(reason("plain words : of any kind"), "plain words : of any kind");
        assert_eq!(reason(""), "no reason given");
    }
}
