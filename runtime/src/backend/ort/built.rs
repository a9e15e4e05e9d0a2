//! What the engines depend on that a provider builds.

use std::path::{Path, PathBuf};

use super::provider::{self, Provider, Settings};
use crate::{
    Result,
    backend::{Builds, Device, EngineOptions, Found, LoadOptions, ModelSource},
};

/// Options that change nothing in what is built: where OpenVINO's blobs are concerned, its threads.
const OF_THE_RUN: &[&str] = &["num_of_threads"];

/// See [`crate::backend::Backend::builds`].
pub(super) fn builds(provider: Provider, found: &Found, engines: &EngineOptions) -> Result<Option<Builds>> {
    // Neither shapes nor folders: those are not the provider's to say.
    let options = LoadOptions { engines: engines.clone(), ..LoadOptions::default() };
    let path = found.library.as_deref().unwrap_or(Path::new(""));
    let mut unreadable = None;
    let (settings, device, version, slow) = match provider {
        // The graph as ONNX Runtime has optimised it for this processor.
        Provider::Cpu => (Vec::new(), Device::Cpu, None, false),
        Provider::OpenVino if engines.openvino.cache.is_none() => {
            let name = engines.openvino.device.clone();
            let device = if name == "CPU" { Device::Cpu } else { Device::Intel(name) };
            let slow = device != Device::Cpu;
            if device == Device::Cpu && !has_ir_frontend(path) {
                unreadable = Some(NO_FRONTEND.to_owned());
            }
            (provider::openvino(&options)?, device, openvino_version(path), slow)
        }
        Provider::TensorRt if engines.tensorrt.engine_cache.is_none() => {
            let mut options = options.clone();
            // A by-product that needs the model's name, and changes nothing in the engine.
            options.engines.tensorrt.context_models = None;
            let settings = provider::tensorrt(&options, &ModelSource::Bytes(&[]))?;
            let version = tensorrt_version(path);
            if version.is_none() {
                unreadable = Some(NO_VERSION.to_owned());
            }
            (settings, Device::Nvidia(engines.tensorrt.device), version, true)
        }
        _ => return Ok(None),
    };
    let onnxruntime = ("onnxruntime".to_owned(), found.version.clone());
    Ok(Some(Builds {
        versions: match provider {
            Provider::Cpu => vec![onnxruntime],
            _ => vec![
                onnxruntime,
                (provider.name().to_owned(), version.unwrap_or_else(|| "unknown".to_owned())),
            ],
        },
        device,
        precision: provider.precision(&options),
        options: without_runs(settings),
        unreadable,
        slow,
    }))
}

/// Where the CPU provider's optimised model lies, or is to lie; nothing for the others, which have files of their own.
pub(super) fn optimized(provider: Provider, options: &LoadOptions) -> Option<PathBuf> {
    let folder = options.keep.as_ref().filter(|_| provider == Provider::Cpu)?;
    Some(folder.join("optimized.onnx"))
}

/// Said of an OpenVINO that rejects every compiled model for the CPU, its own included.
const NO_FRONTEND: &str = "this OpenVINO writes compiled models for the CPU and cannot read them: they hold a graph in \
                           its own format, whose reader (libopenvino_ir_frontend) is not in the build";

/// Said of a TensorRT that cannot be asked: after an upgrade its engines would pass for those of the new one.
const NO_VERSION: &str = "TensorRT does not tell its version (getInferLibVersion of libnvinfer.so.10), on which its engines \
                          depend";

fn has_ir_frontend(onnxruntime: &Path) -> bool {
    let entries = onnxruntime.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let mut names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with("libopenvino_ir_frontend.so"))
}

fn without_runs(settings: Settings) -> Vec<(String, String)> {
    let kept = settings.into_iter().filter(|(key, _)| !OF_THE_RUN.contains(key));
    kept.map(|(key, value)| (key.to_owned(), value)).collect()
}

/// OpenVINO says its version in the name of its library: `libopenvino.so.2541` is 2025.4.1. The size is added, since
/// builds of one version differ.
fn openvino_version(onnxruntime: &Path) -> Option<String> {
    let entries = std::fs::read_dir(onnxruntime.parent()?).ok()?;
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("libopenvino.so.")?.to_owned();
            Some(format!("{number}, {} bytes", entry.metadata().ok()?.len()))
        })
        .collect();
    found.sort();
    found.pop()
}

/// TensorRT's library, by the name under which the provider is linked to it.
const TENSORRT: &str = "libnvinfer.so.10";

/// TensorRT's own number: 101300 is 10.13.0. ONNX Runtime loads it with the first session only, and the key of what that
/// session builds is wanted before; so it is opened here, where the loader finds it for the provider too.
fn tensorrt_version(onnxruntime: &Path) -> Option<String> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    let beside = onnxruntime.with_file_name(TENSORRT);
    [Path::new(TENSORRT), &beside].into_iter().find_map(|file| {
        // SAFETY: opening a library runs its initialisers. It is the one that the provider is linked to, and about to be run.
        let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) }.ok()?;
        // SAFETY: `getInferLibVersion` takes nothing and returns a 32-bit integer in every release of TensorRT.
        let version = unsafe { library.get::<unsafe extern "C" fn() -> i32>(b"getInferLibVersion\0") }
            .ok()
            // SAFETY: as above.
            .map(|version| unsafe { version() }.to_string());
        // Not unloaded to be loaded again with the first session.
        std::mem::forget(library);
        version
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_not_part_of_what_is_built_but_the_precision_is() {
        let mut options = LoadOptions { threads: Some(2), ..LoadOptions::default() };
        let two = without_runs(provider::openvino(&options).unwrap());
        options.threads = Some(5);
        assert_eq!(two, without_runs(provider::openvino(&options).unwrap()));
        options.engines.openvino.precision = crate::backend::Precision::Fp16;
        assert_ne!(two, without_runs(provider::openvino(&options).unwrap()));
    }

    #[test]
    fn what_is_built_names_its_device_and_whether_it_is_worth_keeping() {
        let found = Found { version: "1.31.1".into(), providers: Vec::new(), library: None };
        let mut engines = EngineOptions::default();
        engines.tensorrt.device = 1;
        engines.tensorrt.precision = crate::backend::Precision::Fp16;
        let of = |provider, engines: &EngineOptions| builds(provider, &found, engines).unwrap();
        let tensorrt = of(Provider::TensorRt, &engines).unwrap();
        assert_eq!((&tensorrt.device, tensorrt.slow), (&Device::Nvidia(1), true));
        assert_eq!(tensorrt.precision.name(), "fp16");
        assert!(tensorrt.options.contains(&("trt_fp16_enable".into(), "1".into())), "{tensorrt:?}");
        assert!(tensorrt.versions.contains(&("onnxruntime".into(), "1.31.1".into())), "{tensorrt:?}");
        // Whether the machine has one or not: with a version it is kept, without one it is not.
        let version = tensorrt.versions.iter().find(|(name, _)| name == "tensorrt").unwrap();
        assert_eq!(tensorrt.unreadable.is_some(), version.1 == "unknown", "{tensorrt:?}");
        assert!(tensorrt.unreadable.as_ref().is_none_or(|why| why.contains("version")), "{tensorrt:?}");
        // A folder is not what an engine depends on, a context model is not what it is.
        engines.tensorrt.context_models = Some("/ctx".into());
        assert_eq!(of(Provider::TensorRt, &engines).unwrap(), tensorrt);
        // Who chose TensorRT's own folder has it his way.
        engines.tensorrt.engine_cache = Some("/own".into());
        assert_eq!(of(Provider::TensorRt, &engines), None);
        assert_eq!(of(Provider::Cuda, &engines), None);

        let cpu = of(Provider::OpenVino, &engines).unwrap();
        assert_eq!((cpu.device, cpu.slow), (Device::Cpu, false));
        assert!(cpu.unreadable.unwrap().contains("libopenvino_ir_frontend"));
        engines.openvino.device = "GPU.1".into();
        let gpu = of(Provider::OpenVino, &engines).unwrap();
        assert_eq!((gpu.device, gpu.slow, gpu.unreadable), (Device::Intel("GPU.1".into()), true, None));
        engines.openvino.cache = Some("/own".into());
        assert_eq!(of(Provider::OpenVino, &engines), None);
    }

    #[test]
    fn openvino_says_its_version_in_the_name_of_its_library() {
        let folder = std::env::temp_dir().join(format!("tapetum-built-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libonnxruntime.so.1.24.1");
        assert_eq!(openvino_version(&library), None);
        std::fs::write(folder.join("libopenvino.so.2541"), "12345").unwrap();
        assert_eq!(openvino_version(&library).as_deref(), Some("2541, 5 bytes"));
        assert!(!has_ir_frontend(&library));
        std::fs::write(folder.join("libopenvino_ir_frontend.so.2541"), "").unwrap();
        assert!(has_ir_frontend(&library));
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// A library with TensorRT's one symbol, as the loader finds it beside ONNX Runtime before any session is made.
    #[test]
    fn tensorrt_is_asked_for_its_version_before_the_first_session() {
        let folder = std::env::temp_dir().join(format!("tapetum-tensorrt-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libonnxruntime.so.1.31.1");
        let code = folder.join("nvinfer.c");
        // With another TensorRT on the machine, that is the one.
        let own = tensorrt_version(&library);
        std::fs::write(&code, "int getInferLibVersion(void) { return 101402; }\n").unwrap();
        let made = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([folder.join(TENSORRT), code])
            .status();
        match made {
            Ok(status) if status.success() => {
                let expected = own.or(Some("101402".to_owned()));
                assert_eq!(tensorrt_version(&library), expected);
            }
            // Whoever builds this has one, under whatever name.
            _ => tapetum_parts::missing("cc", "no C compiler of that name makes a library to ask"),
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
