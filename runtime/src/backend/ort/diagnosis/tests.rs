//! Machines made of folders, and libraries made of a dynamic table.

use std::fs;

use super::*;
use crate::backend::ort::dynamic::made;

/// What the providers of the pinned GPU build need.
const CUDA: &[&str] = &[
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcudart.so.13",
    "libcuda.so.1",
    "libc.so.6",
];
const TENSORRT: &[&str] =
    &["libcublas.so.13", "libnvinfer.so.10", "libnvonnxparser.so.10", "libcudart.so.13", "libcudnn.so.9"];

struct Machine(PathBuf, &'static str);

impl Machine {
    fn new(name: &str, arch: &'static str) -> Self {
        let root = std::env::temp_dir().join(format!("tapetum-diagnosis-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Self(root, arch).with("lib/libc.so.6", b"")
    }

    fn with(self, path: &str, bytes: &[u8]) -> Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn libraries(self, folder: &str, names: &[&str]) -> Self {
        names.iter().fold(self, |machine, name| machine.with(&format!("{folder}/{name}"), b""))
    }

    /// ONNX Runtime with both providers, for the machine of this number in ELF.
    fn runtime(self, machine: u16) -> Self {
        self.with("ort/libonnxruntime.so.1.31.1", b"")
            .with("ort/libonnxruntime_providers_cuda.so", &made(machine, CUDA, None))
            .with("ort/libonnxruntime_providers_tensorrt.so", &made(machine, TENSORRT, None))
    }

    fn gpu(self) -> Self {
        self.with("sys/bus/pci/devices/0000:01:00.0/vendor", b"0x10de\n")
            .with("sys/bus/pci/devices/0000:01:00.0/class", b"0x030200\n")
    }

    fn driver(self, version: &str) -> Self {
        let text = format!(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\nGCC 12.2\n"
        );
        self.gpu().with("proc/driver/nvidia/version", text.as_bytes())
    }

    fn troubles(&self, provider: Provider) -> Vec<String> {
        let host = Host { root: self.0.clone(), arch: self.1, told: Vec::new() };
        let places = Places { told: Some(self.0.join("ort")), ..Places::default() };
        let all = diagnose(&host, &places, provider, false);
        all.into_iter().map(|t| format!("{} → {}", t.what, t.next)).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn holds(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

#[test]
fn a_machine_that_has_everything_has_no_trouble() {
    let all = [&CUDA[..4], TENSORRT, &["libcuda.so.1"]].concat();
    let machine = Machine::new("whole", "x86_64").runtime(62).driver("580.65.06").libraries("usr/lib", &all);
    assert_eq!(machine.troubles(Provider::Cuda), Vec::<String>::new());
    assert_eq!(machine.troubles(Provider::TensorRt), Vec::<String>::new());
    assert_eq!(machine.troubles(Provider::Cpu), Vec::<String>::new());
}

#[test]
fn a_wrong_version_is_told_beside_the_one_that_is_wanted() {
    let machine = Machine::new("versions", "x86_64")
        .runtime(62)
        .driver("580.95.05")
        .libraries("usr/lib/x86_64-linux-gnu", &["libcuda.so.1", "libcudnn.so.8.9.7", "libnvinfer.so.8"])
        .libraries("usr/lib/x86_64-linux-gnu", &["libcudart.so.12", "libcublas.so.12"]);
    let troubles = machine.troubles(Provider::TensorRt);
    let [cuda, cudnn, tensorrt] = &troubles[..] else { panic!("{troubles:#?}") };
    holds(cuda, &["libcublas.so.13, libcudart.so.13 wanted (CUDA 13)", "libcublas.so.12", "install CUDA 13"]);
    holds(cudnn, &["libcudnn.so.9 wanted (cuDNN 9); found ", "libcudnn.so.8 →", "install cuDNN 9"]);
    holds(tensorrt, &["libnvinfer.so.10", "(TensorRT 10)", "libnvinfer.so.8", "install TensorRT 10"]);
}

#[test]
fn what_the_provider_opens_by_itself_is_sought_although_the_loader_is_content() {
    let machine = Machine::new("opens", "x86_64").runtime(62).driver("580.95.05").libraries("lib", CUDA);
    let host = Host { root: machine.0.clone(), arch: "x86_64", told: Vec::new() };
    let places = Places { told: Some(machine.0.join("ort")), ..Places::default() };
    let troubles = diagnose(&host, &places, Provider::Cuda, true);
    let [only] = &troubles[..] else { panic!("{troubles:#?}") };
    holds(&only.what, &["libcudnn.so.9 wanted (cuDNN 9); none found"]);
}

#[test]
fn no_gpu_no_driver_and_an_old_driver_are_three_things() {
    let cuda = |machine: Machine| machine.runtime(62).troubles(Provider::Cuda).remove(0);
    holds(&cuda(Machine::new("no-gpu", "x86_64")), &["no NVIDIA GPU is seen", "ort:openvino"]);
    holds(
        &cuda(Machine::new("no-driver", "x86_64").gpu()),
        &["driver is not loaded", "580.65.06 or newer (for CUDA 13)"],
    );
    let old = cuda(Machine::new("old-driver", "x86_64").driver("535.104.05"));
    holds(&old, &["driver 535.104.05 is too old for CUDA 13", "580.65.06", "TAPETUM_ORT"]);
    // The kernel's part is there, the user's is not: a container.
    let machine = Machine::new("container", "x86_64")
        .runtime(62)
        .driver("580.95.05")
        .libraries("lib", &CUDA[..4])
        .libraries("lib", &["libcudnn.so.9"]);
    let troubles = machine.troubles(Provider::Cuda);
    let [driver] = &troubles[..] else { panic!("{troubles:#?}") };
    holds(driver, &["libcuda.so.1 wanted", "driver 580.95.05", "--gpus all"]);
}

#[test]
fn what_the_loader_does_not_search_is_told_with_its_folder() {
    let machine = Machine::new("path", "x86_64")
        .runtime(62)
        .driver("580.65.06")
        .libraries("usr/local/cuda-13.0/lib64", &CUDA[..4])
        .libraries("lib", &["libcuda.so.1", "libcudnn.so.9"]);
    let troubles = machine.troubles(Provider::Cuda);
    let [only] = &troubles[..] else { panic!("{troubles:#?}") };
    holds(only, &["libcublas.so.13", "cuda-13.0/lib64, where the loader does not look", "ld.so.conf.d"]);
    // Told to the loader, all is well.
    let line = format!("{}\n", "/usr/local/cuda-13.0/lib64");
    let machine = machine.with("etc/ld.so.conf.d/cuda.conf", line.as_bytes());
    assert_eq!(machine.troubles(Provider::Cuda), Vec::<String>::new());
}

#[test]
fn a_jetson_is_held_against_its_jetpack() {
    let jetson = |name: &str, release: &str| {
        Machine::new(name, "aarch64").runtime(183).with("etc/nv_tegra_release", release.as_bytes())
    };
    let six = jetson("jp6", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64\n");
    let troubles = six.troubles(Provider::Cuda);
    holds(
        &troubles[0],
        &["built for CUDA 13; JetPack 6.1 or 6.2 (L4T R36.4) brings CUDA 12.6", "TensorRT 10.3"],
    );
    holds(&troubles.join("\n"), &["libcublas.so.13", "nvidia-jetpack", "libcuda.so.1", "--runtime nvidia"]);
    let five = jetson("jp5", "# R35 (release), REVISION: 4.1, GCID: 1\n").troubles(Provider::Cuda);
    holds(&five[0], &["JetPack 5 (L4T R35.4) brings CUDA 11.4", "flash JetPack 6.2 or 7.2"]);
    // 7.2 has the CUDA that is wanted: nothing but the libraries themselves.
    let seven = jetson("jp7", "# R39 (release), REVISION: 2.0, GCID: 1\n")
        .libraries("lib", CUDA)
        .libraries("lib", &["libcudnn.so.9"]);
    assert_eq!(seven.troubles(Provider::Cuda), Vec::<String>::new());
    // By its device tree only, and without an ONNX Runtime for it.
    let bare = Machine::new("jp-tree", "aarch64")
        .with("proc/device-tree/compatible", b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0");
    let troubles = bare.troubles(Provider::TensorRt);
    let [only] = &troubles[..] else { panic!("{troubles:#?}") };
    holds(only, &["is without libonnxruntime_providers_tensorrt.so", "built for this Jetson"]);
}

#[test]
fn another_processors_or_a_broken_library_is_told_as_such() {
    let machine = Machine::new("arch", "aarch64")
        .runtime(62)
        .with("etc/nv_tegra_release", b"# R39 (release), REVISION: 2.0");
    holds(
        &machine.troubles(Provider::Cuda).join("\n"),
        &["is for x86_64, this machine is aarch64", "CUDA 13.2"],
    );
    let machine = Machine::new("broken", "x86_64").driver("580.65.06").runtime(62);
    let machine = machine.with("ort/libonnxruntime_providers_cuda.so", b"\x7fELF\x02\x01 and nothing more");
    let troubles = machine.troubles(Provider::Cuda);
    let [only] = &troubles[..] else { panic!("{troubles:#?}") };
    holds(only, &["libonnxruntime_providers_cuda.so: cut short", "fetch it again", "--flavour gpu"]);
}
