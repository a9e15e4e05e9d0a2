//! Which version of what belongs together, as NVIDIA publishes it (CUDA's release notes, JetPack's). The only place of
//! these facts; to add a release, add a line.

/// A release of JetPack: what a Jetson has, which nobody changes piece by piece.
pub struct JetPack {
    pub name: &'static str,
    /// The releases of Linux for Tegra that it holds: major, and the least minor.
    pub l4t: (u32, u32),
    pub cuda: &'static str,
    pub tensorrt: &'static str,
    /// Whether an ONNX Runtime that this program takes (1.24 or newer) can be built for it.
    pub fits: bool,
}

/// The newer first within a major.
pub const JETPACKS: &[JetPack] = &[
    JetPack { name: "JetPack 7.2", l4t: (39, 0), cuda: "13.2", tensorrt: "10.16", fits: true },
    JetPack { name: "JetPack 7.0 or 7.1", l4t: (38, 0), cuda: "13.0", tensorrt: "10.13", fits: true },
    JetPack { name: "JetPack 6.1 or 6.2", l4t: (36, 4), cuda: "12.6", tensorrt: "10.3", fits: true },
    JetPack { name: "JetPack 6.0", l4t: (36, 0), cuda: "12.2", tensorrt: "8.6", fits: false },
    JetPack { name: "JetPack 5", l4t: (35, 0), cuda: "11.4", tensorrt: "8.5", fits: false },
];

/// What to flash where a JetPack is too old.
pub const JETPACKS_TO_FLASH: &str = "JetPack 6.2 or 7.2";

/// By CUDA's major version the oldest Linux driver that runs it.
pub const DRIVERS: &[(u32, &str)] = &[(11, "450.80.02"), (12, "525.60.13"), (13, "580.65.06")];

/// Whom a library belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// The driver brings it.
    Driver,
    Cuda,
    Cudnn,
    TensorRt,
    /// Comes in one folder with ONNX Runtime.
    Own,
    /// The system's.
    System,
}

const FAMILIES: &[(&str, Family)] = &[
    ("libcuda.", Family::Driver),
    ("libnvidia-", Family::Driver),
    ("libcudart.", Family::Cuda),
    ("libcublas", Family::Cuda),
    ("libcurand.", Family::Cuda),
    ("libcufft.", Family::Cuda),
    ("libcusparse", Family::Cuda),
    ("libcusolver", Family::Cuda),
    ("libnvrtc", Family::Cuda),
    ("libnvJitLink.", Family::Cuda),
    ("libcudnn", Family::Cudnn),
    ("libnvinfer", Family::TensorRt),
    ("libnvonnxparser", Family::TensorRt),
    ("libonnxruntime", Family::Own),
    ("libopenvino", Family::Own),
    ("libtbb", Family::Own),
];

/// Whom the library of this soname belongs to.
pub fn family(soname: &str) -> Family {
    FAMILIES.iter().find(|(start, _)| soname.starts_with(start)).map_or(Family::System, |(_, family)| *family)
}

/// Those of CUDA's libraries that carry its own major version; the others count for themselves.
const CARRY_CUDA: &[&str] = &["libcudart.so.", "libcublas.so.", "libcublasLt.so."];

/// The major version of CUDA that a provider which needs `sonames` was built for.
pub fn cuda_major<'s>(sonames: impl IntoIterator<Item = &'s str>) -> Option<u32> {
    sonames.into_iter().find_map(|soname| {
        let rest = CARRY_CUDA.iter().find_map(|start| soname.strip_prefix(start))?;
        rest.split('.').next()?.parse().ok()
    })
}

/// The oldest driver for CUDA `major`.
pub fn least_driver(major: u32) -> Option<&'static str> {
    DRIVERS.iter().find(|(of, _)| *of == major).map(|(_, driver)| *driver)
}

/// What the CUDA provider of ONNX Runtime 1.24 or newer opens by itself for convolutions, if it does not link to it.
pub const CUDA_OPENS: &str = "libcudnn.so.9";

/// What `major.minor` of Linux for Tegra is.
pub fn jetpack(major: u32, minor: u32) -> Option<&'static JetPack> {
    JETPACKS.iter().find(|j| j.l4t.0 == major && j.l4t.1 <= minor)
}

/// Where NVIDIA's installers put libraries that the loader need not search: a `*` is any text.
pub const OFF_THE_PATH: &[&str] = &[
    "/usr/local/cuda/lib64",
    "/usr/local/cuda-*/lib64",
    "/usr/local/cuda-*/targets/x86_64-linux/lib",
    "/usr/local/cuda-*/targets/sbsa-linux/lib",
    "/usr/local/cuda-*/targets/aarch64-linux/lib",
    "/usr/local/TensorRT*/lib",
    "/opt/TensorRT*/lib",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_needs_tells_its_cuda() {
        let of = |names: &[&str]| cuda_major(names.iter().copied());
        assert_eq!(of(&["libcurand.so.10", "libcudart.so.13"]), Some(13));
        assert_eq!(of(&["libcudart.so.11.0"]), Some(11));
        assert_eq!(of(&["libcurand.so.10", "libcudart.so.x", "libc.so.6"]), None);
        assert_eq!(family("libcublasLt.so.13"), Family::Cuda);
        assert_eq!(family("libcuda.so.1"), Family::Driver);
        assert_eq!(family("libz.so.1"), Family::System);
    }

    #[test]
    fn a_jetson_is_known_by_its_release() {
        let name = |major, minor| jetpack(major, minor).map(|j| j.name);
        assert_eq!(name(36, 5), Some("JetPack 6.1 or 6.2"));
        assert_eq!(name(36, 3), Some("JetPack 6.0"));
        assert_eq!(name(39, 2), Some("JetPack 7.2"));
        assert_eq!(name(32, 7), None);
    }
}
