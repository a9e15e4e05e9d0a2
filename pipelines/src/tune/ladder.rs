//! Which precisions an engine can be asked for, and how.

use tapetum_runtime::backend::{EngineOptions, Precision};

/// One way of running a model on an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// What it computes in.
    pub precision: Precision,
    /// What the engine is told to compute in.
    pub told: Precision,
    /// Whether it runs a file that was made in this precision; else the fp32 file.
    pub has_file: bool,
}

impl Rung {
    const FP32: Self = Self::told(Precision::Fp32);

    /// By an option of the engine.
    const fn told(precision: Precision) -> Self {
        Self { precision, told: precision, has_file: false }
    }

    /// As it stands in figures and tables, for example `int8`; what is left of a file in another format runs in what is
    /// named behind the plus sign.
    pub fn name(&self) -> &'static str {
        match (self.precision, self.told) {
            (Precision::Int8, Precision::Bf16) => "int8+bf16",
            (precision, _) => precision.name(),
        }
    }

    /// By a file of its own.
    const fn file(precision: Precision, told: Precision) -> Self {
        Self { precision, told, has_file: true }
    }
}

/// Every precision that some engine can be asked for, as it stands in figures and tables.
pub const PRECISIONS: [&str; 6] = ["fp32", "tf32", "bf16", "fp16", "int8", "int8+bf16"];

/// The rungs that the engine of this name might run, fp32 first and the less precise the later. Whether this machine has
/// the arithmetic is found out by loading.
///
/// fp16 is taken only where it is computed natively: ONNX Runtime's and OpenVINO's CPU kernels widen it again.
pub fn rungs(engine: &str, options: &EngineOptions) -> Vec<Rung> {
    let int8 = Rung::file(Precision::Int8, Precision::Fp32);
    let on_gpu = options.openvino.device.starts_with("GPU");
    match engine {
        "ort:openvino" if on_gpu => vec![Rung::FP32, Rung::told(Precision::Fp16), int8],
        "ort:openvino" => {
            let rest_in_bf16 = Rung::file(Precision::Int8, Precision::Bf16);
            vec![Rung::FP32, Rung::told(Precision::Bf16), int8, rest_in_bf16]
        }
        // Its kernels have no int8 convolution: QDQ pairs run as they stand, slower than fp32.
        "ort:cuda" => {
            let fp16 = Rung::file(Precision::Fp16, Precision::Fp32);
            vec![Rung::FP32, Rung::told(Precision::Tf32), fp16]
        }
        "ort:tensorrt" => vec![
            Rung::FP32,
            Rung::told(Precision::Bf16),
            Rung::told(Precision::Fp16),
            Rung::file(Precision::Int8, Precision::Int8),
        ],
        _ => vec![Rung::FP32, int8],
    }
}

/// The rung of `engine` of this name.
pub fn rung(engine: &str, precision: &str, options: &EngineOptions) -> Option<Rung> {
    rungs(engine, options).into_iter().find(|rung| rung.name() == precision)
}

#[cfg(test)]
mod tests {
    use tapetum_runtime::backend::BACKENDS;

    use super::*;

    #[test]
    fn every_engine_starts_at_fp32_and_names_a_precision_once() {
        for engine in BACKENDS {
            let rungs = rungs(engine.name(), &EngineOptions::default());
            assert_eq!(rungs[0], Rung::FP32, "{}", engine.name());
            for (n, rung) in rungs.iter().enumerate() {
                assert!(rungs[..n].iter().all(|r| r.name() != rung.name()), "{}", engine.name());
                assert!(PRECISIONS.contains(&rung.name()), "{}", rung.name());
                assert_eq!(super::rung(engine.name(), rung.name(), &EngineOptions::default()), Some(*rung));
            }
        }
        let mut gpu = EngineOptions::default();
        gpu.openvino.device = "GPU.1".into();
        assert!(rung("ort:openvino", "fp16", &gpu).is_some() && rung("ort:openvino", "bf16", &gpu).is_none());
    }
}
