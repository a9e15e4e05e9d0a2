//! Cameras of Linux, by V4L2.
//!
//! | file | idea |
//! |---|---|
//! | `options` | what is asked for, as written behind the device's path |
//! | `format` | pixel formats that can be read, and how their bytes lie |
//! | `controls` | brightness, exposure and so on, by name |
//! | `negotiate` | what to ask of a driver, and how what it gave differs |
//! | `sequence` | the driver's frame counter, which repeats and skips |
//! | `device` | the kernel's calls (feature `v4l`) |
//! | `camera` | the source itself (feature `v4l`) |

#[cfg(all(feature = "v4l", target_os = "linux"))]
mod camera;
pub mod controls;
#[cfg(all(feature = "v4l", target_os = "linux"))]
mod device;
pub mod format;
pub mod negotiate;
pub mod options;
pub mod sequence;

pub use options::Options;

use super::Opened;

/// For people.
pub const USAGE: &str = match cfg!(all(feature = "v4l", target_os = "linux")) {
    true => {
        "v4l2:/dev/v4l/by-id/NAME, with ?size=WxH&fps=N&format=WORD&exact=true&stall=SECONDS&CONTROL=VALUE"
    }
    false => "v4l2:/dev/… (in a build with the feature v4l)",
};

/// Opens `spec` if it names a camera of this machine: `v4l2:PATH` or `/dev/videoN`, with options.
pub(super) fn open(spec: &str) -> Option<Opened> {
    let text = match spec.strip_prefix("v4l2:") {
        Some(text) => text,
        None if spec.starts_with("/dev/video") || spec.starts_with("/dev/v4l/") => spec,
        None => return None,
    };
    Some(Options::parse(text).and_then(built))
}

#[cfg(all(feature = "v4l", target_os = "linux"))]
fn built(options: Options) -> Opened {
    Ok(Box::new(camera::Camera::open(options)?))
}

#[cfg(not(all(feature = "v4l", target_os = "linux")))]
fn built(options: Options) -> Opened {
    let path = options.path.display();
    Err(tapetum_runtime::Error::unsupported(format!(
        "v4l2:{path}: cameras by V4L2 are not in this build; build it on Linux with --features v4l"
    )))
}
