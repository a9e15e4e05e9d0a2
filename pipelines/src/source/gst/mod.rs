//! Cameras by a GStreamer pipeline, as OpenCV reads it: CSI cameras behind a vendor's image processor, and whatever else GStreamer
//! has an element for.
//!
//! `gst:nvarguscamerasrc sensor-id=0 ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1`

#[cfg(feature = "opencv")]
mod capture;

use tapetum_runtime::{Error, Result};

use super::Opened;

/// For people.
pub const USAGE: &str = match cfg!(feature = "opencv") {
    true => "gst:ELEMENT ! … ! appsink (a GStreamer pipeline, by OpenCV)",
    false => "gst:… (a GStreamer pipeline; in a build with the feature opencv)",
};

/// How a pipeline of this kind begins.
pub(super) const SCHEME: &str = "gst:";

/// How long a pipeline may take to start. OpenCV waits for ever for one whose camera is not there or whose element is not installed.
#[cfg(feature = "opencv")]
const START: std::time::Duration = std::time::Duration::from_secs(10);

/// Properties that may be shown: they tell one camera from another and hold no secret.
const SHOWN: [&str; 5] = ["sensor-id", "sensor_id", "device", "camera-id", "pattern"];

/// Opens `spec` if it is a pipeline.
pub(super) fn open(spec: &str) -> Option<Opened> {
    let pipeline = spec.strip_prefix(SCHEME)?.trim();
    Some(sound(spec).and_then(|()| built(pipeline)))
}

/// What can be told without GStreamer, if `spec` is of this kind.
pub(super) fn sound(spec: &str) -> Result<()> {
    let Some(pipeline) = spec.strip_prefix(SCHEME) else { return Ok(()) };
    let last = pipeline.rsplit('!').next().and_then(|element| element.split_whitespace().next());
    match last {
        Some("appsink") => Ok(()),
        _ => Err(Error::config(format!(
            "{}: a pipeline must end in an appsink, such as \
             \"gst:videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink\"",
            shown(pipeline)
        ))),
    }
}

/// A pipeline as it is shown to people: its elements, and of their properties only those that cannot be secret.
pub(super) fn shown(pipeline: &str) -> String {
    let pipeline = pipeline.strip_prefix(SCHEME).unwrap_or(pipeline);
    let mut quoted = false;
    let words: Vec<&str> = pipeline
        .split(|c: char| {
            quoted ^= c == '"';
            c.is_whitespace() && !quoted
        })
        .filter(|word| !word.is_empty())
        .collect();
    // A mark that stands alone is between elements; one in a word or in quotes is part of a value.
    let strange = |word: &str| word.contains(['!', '"', '\'']);
    let element = |words: &[&str]| {
        let name = words.first().copied().unwrap_or_default();
        // Caps have no secrets, but a name with an address or a quote in it is none.
        let name = if name.contains("://") || strange(name) { "…" } else { name };
        let told = words.iter().skip(1).copied().filter(|word| {
            !strange(word) && word.split_once('=').is_some_and(|(key, _)| SHOWN.contains(&key))
        });
        std::iter::once(name).chain(told).collect::<Vec<_>>().join(" ")
    };
    let elements: Vec<String> = words.split(|word| *word == "!").map(element).collect();
    format!("{SCHEME}{}", elements.join(" ! "))
}

#[cfg(feature = "opencv")]
fn built(pipeline: &str) -> Opened {
    let capture = capture::Capture::within(START, pipeline, &shown(pipeline))?;
    // OpenCV's read cannot be interrupted: a thread of its own may wait in it.
    let live = super::live::Live::start(Box::new(capture), super::live::Stop::default())?;
    Ok(Box::new(live))
}

#[cfg(not(feature = "opencv"))]
fn built(pipeline: &str) -> Opened {
    Err(Error::unsupported(format!(
        "{}: pipelines of GStreamer are read by OpenCV, which is not in this build; build it with --features opencv",
        shown(pipeline)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_holds_no_secret() {
        for (pipeline, seen) in [
            (
                "nvarguscamerasrc sensor-id=1 ! nvvidconv ! appsink drop=1",
                "gst:nvarguscamerasrc sensor-id=1 ! nvvidconv ! appsink",
            ),
            (
                "rtspsrc location=rtsp://a:b@h/ user-pw=1234 ! decodebin ! appsink",
                "gst:rtspsrc ! decodebin ! appsink",
            ),
            ("rtsp://a:b@h/ ! appsink", "gst:… ! appsink"),
            ("rtspsrc user-pw=hun!ter ! appsink", "gst:rtspsrc ! appsink"),
            ("rtspsrc user-pw=\"a ! b\" ! appsink", "gst:rtspsrc ! appsink"),
            (
                "v4l2src device=/dev/video2 ! video/x-raw,width=640 ! appsink",
                "gst:v4l2src device=/dev/video2 ! video/x-raw,width=640 ! appsink",
            ),
        ] {
            assert_eq!(shown(pipeline), seen);
        }
    }

    #[test]
    fn a_pipeline_ends_in_an_appsink() {
        assert!(sound("gst:videotestsrc ! videoconvert ! appsink drop=1 max-buffers=1").is_ok());
        for pipeline in ["", "videotestsrc", "videotestsrc ! autovideosink", "appsink ! x"] {
            let error = sound(&format!("{SCHEME}{pipeline}")).unwrap_err().to_string();
            assert!(error.contains("must end in an appsink"), "{error}");
        }
    }
}
