//! The execution providers: their names, their libraries, and our options in their words.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProviderDispatch};
use sha2::{Digest, Sha256};

use crate::{
    Error, Result,
    backend::{
        LoadOptions, ModelSource,
        options::{ArenaGrowth, ConvSearch, EngineOptions, Precision},
    },
};

/// What executes the nodes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's own kernels, on the CPU. Every node runs there.
    Cpu,
    /// Intel's OpenVINO.
    OpenVino,
    /// NVIDIA's CUDA and cuDNN.
    Cuda,
    /// NVIDIA's TensorRT.
    TensorRt,
}

/// Keys and values in the provider's words.
pub(super) type Settings = Vec<(&'static str, String)>;

impl Provider {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Cpu, Self::OpenVino, Self::Cuda, Self::TensorRt];

    /// As in the engine's name and in placements.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::OpenVino => "openvino",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// The file that lies beside ONNX Runtime where it has this provider.
    pub(super) fn library(self) -> Option<&'static str> {
        match self {
            Self::Cpu => None,
            Self::OpenVino => Some("libonnxruntime_providers_openvino.so"),
            Self::Cuda => Some("libonnxruntime_providers_cuda.so"),
            Self::TensorRt => Some("libonnxruntime_providers_tensorrt.so"),
        }
    }

    /// The command that fetches an ONNX Runtime with this provider.
    pub(super) fn fetch(self) -> &'static str {
        match self {
            Self::Cpu => "scripts/fetch-onnxruntime",
            Self::OpenVino => "scripts/fetch-onnxruntime --flavour openvino",
            Self::Cuda | Self::TensorRt => "scripts/fetch-onnxruntime --flavour gpu",
        }
    }

    /// What the provider needs from the system and [`Provider::fetch`] does not bring.
    pub(super) fn needs(self) -> &'static str {
        match self {
            Self::Cpu | Self::OpenVino => "",
            Self::Cuda => "; it needs an NVIDIA GPU with its driver, CUDA and cuDNN",
            Self::TensorRt => "; it needs an NVIDIA GPU with its driver, CUDA, cuDNN and TensorRT",
        }
    }

    /// What the options say the provider computes in.
    pub(super) fn precision(self, options: &LoadOptions) -> Precision {
        match self {
            Self::Cpu => Precision::Fp32,
            Self::OpenVino => options.engines.openvino.precision,
            Self::Cuda => options.engines.cuda.precision,
            Self::TensorRt => options.engines.tensorrt.precision,
        }
    }

    /// Whether it compiles a model for given shapes.
    pub(super) fn compiles(self) -> bool {
        matches!(self, Self::OpenVino | Self::TensorRt)
    }

    /// What the session itself is told beside the provider's options. OpenVINO takes a model that its NPU cannot compile to
    /// its own CPU plugin, in fp32, and is credited with the nodes all the same; this entry forbids it. ONNX Runtime reads
    /// it too, and then refuses every node that is left to its CPU kernels.
    pub(super) fn session_entry(self, engines: &EngineOptions) -> Option<(&'static str, &'static str)> {
        let npu = self == Self::OpenVino && engines.openvino.device.split('.').next() == Some("NPU");
        npu.then_some(("session.disable_cpu_ep_fallback", "1"))
    }

    /// The provider with its options, for a session; nothing for the CPU, which every session has. An error of the
    /// provider is an error of the session: by itself the `ort` crate would log it and run on the CPU.
    pub(super) fn dispatch(
        self,
        options: &LoadOptions,
        model: &ModelSource<'_>,
    ) -> Result<Option<ExecutionProviderDispatch>> {
        let with = |settings: Settings| -> Result<Settings> {
            match settings.iter().find(|(_, value)| value.contains('\0')) {
                Some((key, _)) => Err(Error::config(format!("{} option {key} holds a zero", self.name()))),
                None => Ok(settings),
            }
        };
        let dispatch = match self {
            Self::Cpu => return Ok(None),
            Self::OpenVino => configured(ep::OpenVINO::default(), with(openvino(options)?)?).build(),
            Self::Cuda => configured(ep::CUDA::default(), with(cuda(options))?).build(),
            Self::TensorRt => configured(ep::TensorRT::default(), with(tensorrt(options, model)?)?).build(),
        };
        Ok(Some(dispatch.error_on_failure()))
    }
}

fn configured<E: ArbitrarilyConfigurableExecutionProvider>(provider: E, settings: Settings) -> E {
    settings.into_iter().fold(provider, |provider, (key, value)| provider.with_arbitrary_config(key, value))
}

/// The precision is always said, or OpenVINO takes bf16 where the processor has it. Its threads are not tied to
/// cores: each session would tie its own to the same ones.
pub(super) fn openvino(options: &LoadOptions) -> Result<Settings> {
    let own = &options.engines.openvino;
    let plain = own.device.split('.').next().unwrap_or("CPU");
    let hint = match own.precision {
        Precision::Bf16 if plain == "CPU" && !has_bf16() => {
            return Err(Error::unsupported(
                "this processor has no bf16 arithmetic; OpenVINO would compute fp32 and not say so",
            ));
        }
        Precision::Bf16 => "bf16",
        Precision::Fp16 => "f16",
        _ => "f32",
    };
    let mut config = format!("\"INFERENCE_PRECISION_HINT\":\"{hint}\"");
    if plain == "CPU" {
        config += ",\"ENABLE_CPU_PINNING\":\"NO\"";
    }
    let mut settings =
        vec![("device_type", own.device.clone()), ("load_config", format!("{{\"{plain}\":{{{config}}}}}"))];
    if let Some(threads) = own.threads.or(options.threads).filter(|_| plain == "CPU") {
        settings.push(("num_of_threads", threads.max(1).to_string()));
    }
    if let Some(cache) = own.cache.as_ref().or(options.keep.as_ref()) {
        settings.push(("cache_dir", folder(cache)?));
    }
    Ok(settings)
}

fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// TF32 is always said: CUDA's provider uses it by itself.
fn cuda(options: &LoadOptions) -> Settings {
    let own = &options.engines.cuda;
    let arena = match own.arena {
        ArenaGrowth::Doubling => "kNextPowerOfTwo",
        ArenaGrowth::Exact => "kSameAsRequested",
    };
    let search = match own.conv_search {
        ConvSearch::Exhaustive => "EXHAUSTIVE",
        ConvSearch::Heuristic => "HEURISTIC",
        ConvSearch::Default => "DEFAULT",
    };
    let mut settings = vec![
        ("device_id", own.device.to_string()),
        ("use_tf32", flag(own.precision == Precision::Tf32)),
        ("arena_extend_strategy", arena.to_owned()),
        ("cudnn_conv_algo_search", search.to_owned()),
    ];
    if let Some(mib) = own.memory_limit_mib {
        settings.push(("gpu_mem_limit", bytes(mib)));
    }
    settings
}

pub(super) fn tensorrt(options: &LoadOptions, model: &ModelSource<'_>) -> Result<Settings> {
    let own = &options.engines.tensorrt;
    let mut settings = vec![
        ("device_id", own.device.to_string()),
        ("trt_fp16_enable", flag(own.precision == Precision::Fp16)),
        ("trt_bf16_enable", flag(own.precision == Precision::Bf16)),
        ("trt_int8_enable", flag(own.precision == Precision::Int8)),
        ("trt_context_memory_sharing_enable", flag(own.share_context_memory)),
    ];
    if let Some(mib) = own.workspace_mib {
        settings.push(("trt_max_workspace_size", bytes(mib)));
    }
    if let Some(profile) = &options.profile {
        let shape = |extents: &[usize]| {
            let extents: Vec<String> = extents.iter().map(usize::to_string).collect();
            format!("{}:{}", profile.input(), extents.join("x"))
        };
        settings.extend([
            ("trt_profile_min_shapes", shape(profile.least())),
            ("trt_profile_opt_shapes", shape(profile.usual())),
            ("trt_profile_max_shapes", shape(profile.most())),
        ]);
    }
    if let Some(cache) = own.engine_cache.as_ref().or(options.keep.as_ref()) {
        settings.extend([("trt_engine_cache_enable", flag(true)), ("trt_engine_cache_path", folder(cache)?)]);
    }
    if let Some(cache) = own.timing_cache.as_ref().or(options.keep.as_ref()) {
        settings.extend([("trt_timing_cache_enable", flag(true)), ("trt_timing_cache_path", folder(cache)?)]);
    }
    if let Some(table) = &own.calibration {
        settings.push(("trt_int8_calibration_table_name", table.clone()));
    }
    if let Some(models) = &own.context_models {
        let ModelSource::Path(path) = model else {
            return Err(Error::config("context_models needs the model from a file, not from memory"));
        };
        settings.extend([
            ("trt_dump_ep_context_model", flag(true)),
            ("trt_ep_context_file_path", folder(&models.join(context_name(path, own.precision)?))?),
            // The engine in the file itself. Beside it, the file would name the place in the engine cache where it was built,
            // which is renamed when it is whole, and TensorRT's provider takes no absolute path again.
            ("trt_ep_context_embed_mode", "1".to_owned()),
        ]);
    }
    Ok(settings)
}

/// `tf-net-0123456789ab-fp16_ctx.onnx`, by the digest of the model: others may be called as it is, in another folder.
fn context_name(model: &Path, precision: Precision) -> Result<String> {
    let unreadable = |e: io::Error| Error::config(format!("{}: {e}", model.display())).caused_by(e);
    let mut file = File::open(model).map_err(unreadable)?;
    let (mut digest, mut block) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut block).map_err(unreadable)? {
            0 => break,
            n => digest.update(&block[..n]),
        }
    }
    let short: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    Ok(format!("{stem}-{short}-{}_ctx.onnx", precision.name()))
}

fn flag(on: bool) -> String {
    if on { "1" } else { "0" }.to_owned()
}

fn bytes(mib: usize) -> String {
    ((mib as u64) << 20).to_string()
}

/// A path as a provider takes it: whole, and a text.
fn folder(path: &Path) -> Result<String> {
    let whole = std::path::absolute(path)
        .map_err(|e| Error::config(format!("{}: {e}", path.display())).caused_by(e))?;
    whole
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::config(format!("{}: a provider takes only paths in UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Profile;

    fn value<'s>(settings: &'s Settings, key: &str) -> Option<&'s str> {
        settings.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str())
    }

    #[test]
    fn what_is_not_said_is_fp32_and_said_to_the_provider() {
        let options = LoadOptions { threads: Some(3), ..LoadOptions::default() };
        let settings = openvino(&options).unwrap();
        assert_eq!(value(&settings, "device_type"), Some("CPU"));
        assert_eq!(value(&settings, "num_of_threads"), Some("3"));
        assert!(value(&settings, "load_config").unwrap().contains("\"INFERENCE_PRECISION_HINT\":\"f32\""));
        assert_eq!(value(&cuda(&options), "use_tf32"), Some("0"));
        let settings = tensorrt(&options, &ModelSource::Bytes(&[])).unwrap();
        for key in ["trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"] {
            assert_eq!(value(&settings, key), Some("0"), "{key}");
        }
    }

    #[test]
    fn an_npu_may_not_hand_the_model_to_the_cpu() {
        let mut engines = EngineOptions::default();
        for (device, forbidden) in [("CPU", false), ("GPU.1", false), ("NPU", true), ("NPU.0", true)] {
            engines.openvino.device = device.into();
            let entry = Provider::OpenVino.session_entry(&engines);
            assert_eq!(entry.is_some(), forbidden, "{device}");
            assert!(entry.is_none_or(|entry| entry == ("session.disable_cpu_ep_fallback", "1")));
            assert_eq!(Provider::TensorRt.session_entry(&engines), None);
        }
    }

    #[test]
    fn its_own_threads_come_before_the_plan() {
        let mut engines = EngineOptions::default();
        engines.openvino.threads = Some(2);
        let options = LoadOptions { threads: Some(5), engines, ..LoadOptions::default() };
        assert_eq!(value(&openvino(&options).unwrap(), "num_of_threads"), Some("2"));
    }

    #[test]
    fn a_limit_is_bytes() {
        let mut engines = EngineOptions::default();
        engines.cuda.memory_limit_mib = Some(2048);
        let options = LoadOptions { engines, ..LoadOptions::default() };
        assert_eq!(value(&cuda(&options), "gpu_mem_limit"), Some("2147483648"));
    }

    #[test]
    fn a_context_model_holds_its_engine_and_is_one_file_per_model_and_precision() {
        let root = std::env::temp_dir().join(format!("tapetum-context-{}", std::process::id()));
        let model = |folder: &str, text: &str| {
            std::fs::create_dir_all(root.join(folder)).unwrap();
            std::fs::write(root.join(folder).join("net.onnx"), text).unwrap();
            root.join(folder).join("net.onnx")
        };
        let models = [model("a", "one"), model("b", "another")];
        let mut options =
            LoadOptions { keep: Some("/kept/.entry.building".into()), ..LoadOptions::default() };
        options.engines.tensorrt.context_models = Some("/cache".into());
        let mut files = std::collections::BTreeSet::new();
        for precision in [Precision::Fp32, Precision::Fp16] {
            options.engines.tensorrt.precision = precision;
            for model in &models {
                let settings = tensorrt(&options, &ModelSource::Path(model)).unwrap();
                assert_eq!(value(&settings, "trt_ep_context_embed_mode"), Some("1"));
                files.insert(value(&settings, "trt_ep_context_file_path").unwrap().to_owned());
            }
        }
        assert_eq!(files.len(), 4, "{files:?}");
        // The SHA-256 of "one" begins so.
        assert!(files.contains("/cache/net-7692c3ad3540-fp16_ctx.onnx"), "{files:?}");
        assert!(tensorrt(&options, &ModelSource::Bytes(&[])).is_err());
        assert!(tensorrt(&options, &ModelSource::Path(&root.join("none.onnx"))).is_err());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_kept_and_for_which_shapes_is_said_unless_a_folder_was_chosen() {
        let mut options = LoadOptions { keep: Some("/kept/entry".into()), ..LoadOptions::default() };
        options.profile =
            Some(Profile::new("image", &[1, 3, 64, 64], &[1, 3, 512, 512], &[8, 3, 512, 512]).unwrap());
        assert_eq!(value(&openvino(&options).unwrap(), "cache_dir"), Some("/kept/entry"));
        let settings = tensorrt(&options, &ModelSource::Bytes(&[])).unwrap();
        for (key, expected) in [
            ("trt_engine_cache_enable", "1"),
            ("trt_engine_cache_path", "/kept/entry"),
            ("trt_timing_cache_enable", "1"),
            ("trt_timing_cache_path", "/kept/entry"),
            ("trt_profile_min_shapes", "image:1x3x64x64"),
            ("trt_profile_opt_shapes", "image:1x3x512x512"),
            ("trt_profile_max_shapes", "image:8x3x512x512"),
        ] {
            assert_eq!(value(&settings, key), Some(expected), "{key}");
        }
        options.engines.openvino.cache = Some("/own".into());
        options.engines.tensorrt.engine_cache = Some("/own".into());
        assert_eq!(value(&openvino(&options).unwrap(), "cache_dir"), Some("/own"));
        let settings = tensorrt(&options, &ModelSource::Bytes(&[])).unwrap();
        assert_eq!(value(&settings, "trt_engine_cache_path"), Some("/own"));
        assert_eq!(value(&settings, "trt_timing_cache_path"), Some("/kept/entry"));
        // Nothing is kept, and no shapes are said, where nobody asked.
        let settings = tensorrt(&LoadOptions::default(), &ModelSource::Bytes(&[])).unwrap();
        assert!(!settings.iter().any(|(key, _)| key.contains("cache") || key.contains("profile")));
    }

    #[test]
    fn a_zero_in_an_option_is_an_error_not_a_panic() {
        let mut engines = EngineOptions::default();
        engines.openvino.device = "CPU\0".into();
        let options = LoadOptions { engines, ..LoadOptions::default() };
        assert!(Provider::OpenVino.dispatch(&options, &ModelSource::Bytes(&[])).is_err());
    }
}
