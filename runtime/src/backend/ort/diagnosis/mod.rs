//! What keeps a provider of ONNX Runtime from running here, each with the next step: the provider's own library says what
//! it needs, the machine's files say what is there. Nothing is loaded.
//!
//! | File | Holds |
//! |---|---|
//! | `facts` | which versions belong together |
//! | `host` | what the machine has |

mod facts;
mod host;

use std::path::{Path, PathBuf};

use facts::{CUDA_OPENS, Family, JETPACKS_TO_FLASH, JetPack, cuda_major, family, jetpack, least_driver};
pub(super) use host::Host;
use host::{L4t, find, others};

use super::{
    dynamic::{self, Dynamic},
    places::Places,
    provider::Provider,
};
use crate::backend::Trouble;

/// All that does not fit `provider` on `host`. `loads`: whether the system's loader has found its libraries.
pub(super) fn diagnose(host: &Host, places: &Places, provider: Provider, loads: bool) -> Vec<Trouble> {
    let Some(name) = provider.library() else { return Vec::new() };
    let (candidates, _) = places.candidates(provider);
    // A bare name is meant for the system's search.
    let searched = host.folders(&[]);
    let folders = candidates.iter().filter_map(|c| match c.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) => Some(folder.to_path_buf()),
        None => find(&searched, &c.to_string_lossy())?.parent().map(Path::to_path_buf),
    });
    let file = folders.map(|folder| folder.join(name)).find(|file| file.exists());
    let jetson = host.jetson();
    let is_nvidia = matches!(provider, Provider::Cuda | Provider::TensorRt);
    let mut troubles = Vec::new();
    let dynamic = match &file {
        None => {
            troubles.push(no_provider(host, provider, jetson, places));
            None
        }
        Some(file) => match dynamic::read(file) {
            Err(why) => {
                troubles.push(Trouble {
                    what: format!("{}: {why}", file.display()),
                    next: format!("remove its folder and fetch it again: {}", provider.fetch()),
                });
                None
            }
            Ok(dynamic) => Some(dynamic),
        },
    };
    let cuda = dynamic.as_ref().and_then(|d| cuda_major(d.needed.iter().map(String::as_str)));
    match jetson {
        Some(l4t) if is_nvidia => troubles.extend(of_jetson(l4t, cuda)),
        None if is_nvidia => troubles.extend(of_driver(host, cuda)),
        _ => {}
    }
    if let (Some(file), Some(dynamic)) = (file, dynamic) {
        if dynamic.arch != Some(host.arch) {
            troubles.push(Trouble {
                what: format!(
                    "{} is for {}, this machine is {}",
                    file.display(),
                    dynamic.arch.unwrap_or("another processor"),
                    host.arch
                ),
                next: own_build(host, provider, jetson),
            });
        } else {
            // What the loader has found need not be sought.
            let linked = dynamic.needed.iter().map(String::as_str).filter(|_| !loads);
            let links_cudnn = dynamic.needed.iter().any(|soname| family(soname) == Family::Cudnn);
            let opens = (provider == Provider::Cuda && !links_cudnn).then_some(CUDA_OPENS);
            let needed: Vec<&str> = linked.chain(opens).collect();
            troubles.extend(of_libraries(host, &file, &dynamic, &needed, jetson));
        }
    }
    troubles
}

/// Where an ONNX Runtime with `provider` comes from.
fn own_build(host: &Host, provider: Provider, jetson: Option<L4t>) -> String {
    let release = jetson.and_then(|l4t| jetpack(l4t.major, l4t.minor));
    match (jetson, host.arch) {
        (Some(_), _) if provider != Provider::OpenVino => match release {
            Some(j) => format!("{}, and set TAPETUM_ORT to it", for_jetpack(j)),
            None => {
                "set TAPETUM_ORT to an ONNX Runtime 1.24 or newer that was built for this Jetson".to_owned()
            }
        },
        (None, "x86_64") => provider.fetch().to_owned(),
        _ => format!(
            "none is published for {}: build ONNX Runtime 1.24 or newer with it and set TAPETUM_ORT to it",
            host.arch
        ),
    }
}

fn for_jetpack(j: &JetPack) -> String {
    format!("take or build an ONNX Runtime 1.24 or newer for CUDA {} and TensorRT {}", j.cuda, j.tensorrt)
}

fn no_provider(host: &Host, provider: Provider, jetson: Option<L4t>, places: &Places) -> Trouble {
    let (lacking, next) = (provider.library().unwrap_or_default(), own_build(host, provider, jetson));
    match &places.told {
        Some(told) => Trouble {
            what: format!("TAPETUM_ORT={} is without {lacking}", told.display()),
            next: format!(
                "{next}; TAPETUM_ORT must point to that one, or be unset where it is in the user's cache"
            ),
        },
        None => Trouble { what: format!("no ONNX Runtime here has {lacking}"), next },
    }
}

/// A Jetson's CUDA comes with its JetPack.
fn of_jetson(l4t: L4t, cuda: Option<u32>) -> Option<Trouble> {
    let j = jetpack(l4t.major, l4t.minor)?;
    let here = format!(
        "{} (L4T R{}.{}) brings CUDA {} and TensorRT {}",
        j.name, l4t.major, l4t.minor, j.cuda, j.tensorrt
    );
    if !j.fits {
        return Some(Trouble {
            what: format!("{here}, for which there is no ONNX Runtime 1.24 or newer"),
            next: format!("flash {JETPACKS_TO_FLASH}"),
        });
    }
    let has: u32 = j.cuda.split('.').next()?.parse().ok()?;
    let wants = cuda.filter(|wants| *wants != has)?;
    Some(Trouble {
        what: format!("this ONNX Runtime was built for CUDA {wants}; {here}"),
        next: format!("{}, and set TAPETUM_ORT to it", for_jetpack(j)),
    })
}

/// GPU and driver of what is no Jetson.
fn of_driver(host: &Host, cuda: Option<u32>) -> Option<Trouble> {
    let least = cuda.and_then(least_driver);
    let install = match (least, cuda) {
        (Some(least), Some(cuda)) => {
            format!("install NVIDIA's driver {least} or newer (for CUDA {cuda}) and restart")
        }
        _ => "install NVIDIA's driver and restart".to_owned(),
    };
    let Some(driver) = host.driver() else {
        return Some(match host.has_gpu() {
            true => Trouble {
                what: "an NVIDIA GPU is there, but its driver is not loaded (no /proc/driver/nvidia/version)".to_owned(),
                next: install,
            },
            false => Trouble {
                what: "no NVIDIA GPU is seen here, and no driver of it".to_owned(),
                next: "run another engine here (ort, ort:openvino); in a virtual machine or a container, pass the GPU through"
                    .to_owned(),
            },
        });
    };
    let least = least.filter(|least| numbers(&driver) < numbers(least))?;
    let cuda = cuda.unwrap_or_default();
    Some(Trouble {
        what: format!("driver {driver} is too old for CUDA {cuda}, which needs {least} or newer"),
        next: format!("{install}; or set TAPETUM_ORT to an ONNX Runtime that was built for an older CUDA"),
    })
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// What of `needed` the loader will not find for the library at `file`, one trouble for all of one family.
fn of_libraries(
    host: &Host,
    file: &Path,
    dynamic: &Dynamic,
    needed: &[&str],
    jetson: Option<L4t>,
) -> Vec<Trouble> {
    let beside = file.parent().unwrap_or(Path::new("")).to_path_buf();
    let own: Vec<PathBuf> = dynamic
        .folders
        .iter()
        .map(|folder| PathBuf::from(folder.replace("$ORIGIN", &beside.to_string_lossy())))
        .collect();
    let searched = host.folders(&own);
    let off_the_path = host.off_the_path();
    let everywhere: Vec<PathBuf> = searched.iter().chain(&off_the_path).cloned().collect();
    let lacks = needed.iter().filter(|soname| find(&searched, soname).is_none());
    let mut missing: Vec<(Family, &str)> = lacks.map(|soname| (family(soname), *soname)).collect();
    missing.sort();
    let mut troubles = Vec::new();
    for group in missing.chunk_by(|a, b| a.0 == b.0) {
        let (lost, elsewhere): (Vec<_>, Vec<_>) =
            group.iter().map(|(_, soname)| *soname).partition(|soname| find(&off_the_path, soname).is_none());
        if let Some(path) = elsewhere.first().and_then(|soname| find(&off_the_path, soname)) {
            let folder = path.parent().unwrap_or(&path).to_path_buf();
            troubles.push(Trouble {
                what: format!("{} is in {}, where the loader does not look", elsewhere.join(", "), folder.display()),
                next: format!(
                    "add that folder to LD_LIBRARY_PATH, or to a file in /etc/ld.so.conf.d and run ldconfig ({})",
                    folder.display()
                ),
            });
        }
        let Some(first) = lost.first() else { continue };
        let wanted = wanted(group[0].0, &lost, dynamic);
        let found: Vec<String> =
            others(&everywhere, first).iter().map(|path| path.display().to_string()).collect();
        let found =
            if found.is_empty() { "none found".to_owned() } else { format!("found {}", found.join(", ")) };
        let named = if wanted.is_empty() { String::new() } else { format!(" ({wanted})") };
        troubles.push(Trouble {
            what: format!("{} wanted{named}; {found}", lost.join(", ")),
            next: next(group[0].0, &wanted, host, jetson),
        });
    }
    troubles
}

/// `CUDA 13`, `cuDNN 9`: what has the libraries that are `lost`.
fn wanted(family: Family, lost: &[&str], dynamic: &Dynamic) -> String {
    let major = |stem: &str| {
        let version = lost.iter().find_map(|soname| soname.strip_prefix(stem)?.split_once(".so."));
        version
            .map(|(_, version)| version.split('.').next().unwrap_or(version).to_owned())
            .unwrap_or_default()
    };
    let text = match family {
        Family::Cuda => {
            let major = cuda_major(dynamic.needed.iter().map(String::as_str));
            format!("CUDA {}", major.map(|m| m.to_string()).unwrap_or_default())
        }
        Family::Cudnn => format!("cuDNN {}", major("libcudnn")),
        Family::TensorRt => {
            let nvinfer = major("libnvinfer");
            format!("TensorRT {}", if nvinfer.is_empty() { major("libnvonnxparser") } else { nvinfer })
        }
        Family::Driver => "NVIDIA's driver".to_owned(),
        Family::Own | Family::System => String::new(),
    };
    text.trim_end().to_owned()
}

fn next(family: Family, wanted: &str, host: &Host, jetson: Option<L4t>) -> String {
    match (family, jetson) {
        (Family::Driver, Some(_)) => {
            "it comes with JetPack's flash image; in a container, start it with --runtime nvidia".to_owned()
        }
        (Family::Driver, None) => match host.driver() {
            Some(driver) => format!(
                "the kernel has driver {driver}: install its user part too; in a container, start it with the NVIDIA \
                 Container Toolkit (--gpus all)"
            ),
            None => "it comes with NVIDIA's driver".to_owned(),
        },
        (Family::Cuda | Family::Cudnn | Family::TensorRt, Some(_)) => {
            format!(
                "sudo apt install nvidia-jetpack brings JetPack's; if that is not {wanted}, set TAPETUM_ORT to an ONNX Runtime built for it"
            )
        }
        (Family::Cuda | Family::Cudnn | Family::TensorRt, None) => {
            format!("install {wanted} from NVIDIA's package repository")
        }
        (Family::Own, _) => "it belongs beside ONNX Runtime: remove its folder and fetch it again".to_owned(),
        (Family::System, _) => "install the system's package that has it".to_owned(),
    }
}

#[cfg(test)]
mod tests;
