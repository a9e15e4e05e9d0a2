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

use std::time::Duration;

use tapetum_runtime::Result;

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
    Some(Options::parse(text(spec)?).and_then(built))
}

/// What stands behind the kind of source; `None` of another kind.
fn text(spec: &str) -> Option<&str> {
    let device = || spec.starts_with("/dev/video") || spec.starts_with("/dev/v4l/");
    spec.strip_prefix("v4l2:").or_else(|| device().then_some(spec))
}

/// Whether `spec` asks for what there is, if it is of this kind.
pub(super) fn sound(spec: &str) -> Result<()> {
    text(spec).map_or(Ok(()), |text| Options::parse(text).map(|_| ()))
}

/// How long the camera may be silent, if its specification says so or a rate that it follows from.
pub(super) fn silence(spec: &str) -> Option<Duration> {
    let options = Options::parse(text(spec)?).ok()?;
    let said = spec.contains("stall=").then_some(options.stall);
    said.or_else(|| Some(Duration::from_secs_f64(3.0 / options.fps?)))
}

/// `spec` of a camera that may be silent for so long; as it is if it says that itself, or is none.
pub(super) fn with_silence(spec: &str, silence: Duration) -> String {
    if text(spec).is_none() || spec.contains("stall=") {
        return spec.to_owned();
    }
    let mark = if spec.contains('?') { '&' } else { '?' };
    format!("{spec}{mark}stall={}", silence.as_secs_f64().clamp(0.1, 3600.0))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_camera_may_be_silent_is_what_it_says_or_follows_from_its_rate() {
        let s = Duration::from_secs;
        for (spec, silence) in [
            ("v4l2:/dev/video0?stall=30", Some(s(30))),
            ("/dev/video0?fps=0.1&stall=2", Some(s(2))),
            ("v4l2:/dev/video0?fps=0.1", Some(s(30))),
            ("v4l2:/dev/video0", None),
            ("rtsp://cam/#stall=30", None),
        ] {
            assert_eq!(super::silence(spec), silence, "{spec}");
        }
        assert_eq!(with_silence("v4l2:/dev/video0", s(6)), "v4l2:/dev/video0?stall=6");
        assert_eq!(with_silence("/dev/video0?fps=5", s(9000)), "/dev/video0?fps=5&stall=3600");
        for same in ["v4l2:/dev/video0?stall=30", "rtsp://cam/", "loop:a.mp4"] {
            assert_eq!(with_silence(same, s(6)), same);
        }
    }
}
