//! What is asked of a camera.

use std::{path::PathBuf, time::Duration};

use tapetum_runtime::{Error, Result, settings::hint};

use super::{
    controls::{CONTROLS, Control},
    format::Format,
};
use crate::source::spec::Spec;

/// What is asked of a camera; what is `None` is chosen from what the camera offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The device; `/dev/v4l/by-id/…` and `/dev/v4l/by-path/…` stay the same when cameras come and go, `/dev/videoN` does not.
    pub path: PathBuf,
    /// Width and height, in pixels.
    pub size: Option<(u32, u32)>,
    /// Frames per second.
    pub fps: Option<f64>,
    /// How pixels come.
    pub format: Option<Format>,
    /// Refuse a camera that gives something else than was asked for, instead of saying so.
    pub exact: bool,
    /// Longest time without a frame before the camera counts as lost.
    pub stall: Duration,
    /// Buffers that the driver fills in turn.
    pub buffers: u32,
    /// Controls to set, with their values, in the order of [`CONTROLS`].
    pub controls: Vec<(Control, i32)>,
}

impl Options {
    /// Nothing asked of the device at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            size: None,
            fps: None,
            format: None,
            exact: false,
            stall: Duration::from_secs(5),
            buffers: 4,
            controls: Vec::new(),
        }
    }

    /// Reads `PATH?key=value&…`.
    ///
    /// # Errors
    /// A path that is not absolute, an unknown key, a value of the wrong kind.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys = vec!["size", "fps", "format", "exact", "stall", "buffers"];
        keys.extend(CONTROLS.iter().map(|c| c.name));
        let spec = Spec::parse(text, &keys)?;
        if !spec.name.starts_with('/') || spec.name.contains('\0') {
            return Err(Error::config(format!(
                "{:?} is no path of a camera, such as /dev/v4l/by-id/NAME or /dev/video0",
                spec.name
            )));
        }
        let mut options = Self::new(spec.name);
        options.size = spec.get("size", None, "WxH, each side from 1 to 16384 pixels", |v| {
            let (w, h) = v.split_once(['x', '×'])?;
            let side = |s: &str| s.parse().ok().filter(|n: &u32| (1..=16_384).contains(n));
            Some(Some((side(w)?, side(h)?)))
        })?;
        options.fps = spec.get("fps", None, "from 0.001 to 1000 frames per second", |v| {
            v.parse().ok().filter(|fps: &f64| (0.001..=1000.0).contains(fps)).map(Some)
        })?;
        let words = Format::words();
        options.format = match spec.get("format", None, "a word", |v| Some(Some(v.to_owned())))? {
            None => None,
            Some(word) => Some(Format::by_word(&word).ok_or_else(|| {
                Error::config(format!("{}: unknown format {word:?}{}", spec.name, hint(&word, &words)))
            })?),
        };
        options.exact = spec.get("exact", false, "true or false", |v| v.parse().ok())?;
        let stall = spec.get("stall", options.stall.as_secs_f64(), "from 0.1 to 3600 seconds", |v| {
            v.parse().ok().filter(|s: &f64| (0.1..=3600.0).contains(s))
        })?;
        options.stall = Duration::from_secs_f64(stall);
        options.buffers = spec.get("buffers", options.buffers, "from 2 to 32", |v| {
            v.parse().ok().filter(|n| (2..=32).contains(n))
        })?;
        for control in CONTROLS {
            let text = spec.get(control.name, None, "a value", |v| Some(Some(v.to_owned())))?;
            if let Some(text) = text {
                let value = control.value(&text).map_err(|e| e.at(spec.name))?;
                options.controls.push((control, value));
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_alone_asks_for_nothing() {
        let options = Options::parse("/dev/v4l/by-id/usb-046d_C920-video-index0").unwrap();
        assert_eq!(options, Options::new("/dev/v4l/by-id/usb-046d_C920-video-index0"));
        assert_eq!((options.stall, options.buffers), (Duration::from_secs(5), 4));
    }

    #[test]
    fn everything_can_be_asked_for() {
        let text = "/dev/video0?size=640x360&fps=29.97&format=yuyv&exact=true&stall=0.5&buffers=2\
                    &exposure_time=156&exposure=manual&auto_focus=false&brightness=-4";
        let options = Options::parse(text).unwrap();
        assert_eq!(options.size, Some((640, 360)));
        assert_eq!(options.fps, Some(29.97));
        assert_eq!(options.format.unwrap().fourcc, *b"YUYV");
        assert!(options.exact);
        assert_eq!((options.stall, options.buffers), (Duration::from_millis(500), 2));
        // An automatic goes before the value that it would choose.
        let controls: Vec<_> = options.controls.iter().map(|(c, v)| (c.name, *v)).collect();
        assert_eq!(
            controls,
            [("exposure", 1), ("auto_focus", 0), ("brightness", -4), ("exposure_time", 156)]
        );
    }

    #[test]
    fn mistakes_are_told_with_what_was_meant() {
        for (text, says) in [
            ("video0", "no path of a camera"),
            ("/dev/video0?sise=640x480", "did you mean \"size\"?"),
            ("/dev/video0?size=640", "size must be WxH"),
            ("/dev/video0?size=0x480", "size must be WxH"),
            ("/dev/video0?fps=nan", "fps must be from 0.001"),
            ("/dev/video0?format=yuvy", "did you mean \"yuyv\"?"),
            ("/dev/video0?exact=yes", "exact must be true or false"),
            ("/dev/video0?stall=0", "stall must be from 0.1"),
            ("/dev/video0?buffers=1", "buffers must be from 2"),
            ("/dev/video0?exposure=manuel", "did you mean \"manual\"?"),
            ("/dev/video0?gain=much", "gain must be a whole number"),
            ("/dev/video0?auto_focus=1", "auto_focus must be true or false"),
        ] {
            let error = Options::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_control_is_held_to_the_cameras_bounds_and_steps() {
        let gain = CONTROLS.iter().find(|c| c.name == "gain").unwrap();
        assert!(gain.fits(10, 0, 100, 5).is_ok());
        assert!(gain.fits(i32::MAX, i32::MIN, i32::MAX, 1).is_ok());
        assert!(gain.fits(0, 0, 0, 0).is_ok());
        for (value, least, most, step) in [(11, 0, 100, 5), (-1, 0, 100, 1), (101, 0, 100, 1)] {
            let error = gain.fits(value, least, most, step).unwrap_err().to_string();
            assert!(error.contains(&format!("from {least} to {most} in steps of {step}, not {value}")));
        }
    }
}
