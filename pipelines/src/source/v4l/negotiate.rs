//! What to ask of a driver, out of what it offers, and how what it gave differs from what was wanted.
//!
//! A driver takes any wish and gives what is nearest to it in its own eyes. So the choice is made here first, from the list of
//! what it has, and what it then gives is held against the wish.

use tapetum_runtime::{Error, Result};

use super::{Options, format::Format};

/// Sizes that a camera offers: one, or all within bounds at steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Least width and height, in pixels.
    pub least: (u32, u32),
    /// Greatest.
    pub most: (u32, u32),
    /// Steps from the least on.
    pub step: (u32, u32),
}

impl Sizes {
    /// One size.
    pub fn one(width: u32, height: u32) -> Self {
        Self { least: (width, height), most: (width, height), step: (1, 1) }
    }

    /// The one nearest to `want`.
    fn nearest(&self, want: (u32, u32)) -> (u32, u32) {
        let side = |want: u32, least: u32, most: u32, step: u32| {
            let off = want.clamp(least, most.max(least)) - least;
            least + off / step.max(1) * step.max(1)
        };
        (
            side(want.0, self.least.0, self.most.0, self.step.0),
            side(want.1, self.least.1, self.most.1, self.step.1),
        )
    }
}

/// The size nearest to `want` (640×480 unless said): the least difference of width and height together, the larger of two.
/// `None` if there are none.
pub fn nearest_size(sizes: &[Sizes], want: Option<(u32, u32)>) -> Option<(u32, u32)> {
    let want = want.unwrap_or((640, 480));
    let off = |(w, h): &(u32, u32)| u64::from(w.abs_diff(want.0)) + u64::from(h.abs_diff(want.1));
    let all = sizes.iter().map(|s| s.nearest(want)).filter(|(w, h)| *w > 0 && *h > 0);
    all.min_by_key(|size| (off(size), std::cmp::Reverse(*size)))
}

/// A format with the size and the highest rate that it can be had at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// The format.
    pub format: Format,
    /// Width and height, in pixels; `None` if the driver does not say.
    pub size: Option<(u32, u32)>,
    /// The highest frames per second at this size; `None` if the driver does not say.
    pub fps: Option<f64>,
}

/// Rates are compared within a hundredth: 30 is 29.97.
fn reaches(fps: f64, want: f64) -> bool {
    fps >= want * 0.99
}

/// Which offer to take: the format asked for, or the first of [`super::format::FORMATS`] of the right size and rate. Where none
/// has both, the size decides before the rate, and the higher rate is better. An unsaid size or rate counts as right.
///
/// # Errors
/// [`tapetum_runtime::ErrorKind::Unsupported`] with what there is, if the format asked for is not, or none that can be read.
pub fn choose(offers: &[Offer], codes: &[[u8; 4]], options: &Options) -> Result<Offer> {
    let wanted = |offer: &&Offer| options.format.is_none_or(|format| format == offer.format);
    let worth = |offer: &Offer| {
        let size = options.size.is_none_or(|want| offer.size.is_none_or(|size| size == want));
        let want = options.fps.unwrap_or(24.0);
        let rate = offer.fps.filter(|fps| !reaches(*fps, want)).unwrap_or(want);
        (size, (rate * 1e3) as u64)
    };
    // The first of the best.
    let best = offers.iter().filter(wanted).rev().max_by_key(|offer| worth(offer)).copied();
    best.ok_or_else(|| {
        let codes: Vec<_> = codes.iter().map(|c| c.escape_ascii().to_string()).collect();
        let what = match options.format {
            Some(format) => format!("no {} ({})", format.word, format.fourcc.escape_ascii()),
            None => format!("no format that can be read ({})", Format::words().join(", ")),
        };
        let there = if codes.is_empty() { "none".to_owned() } else { codes.join(", ") };
        Error::unsupported(format!("the camera has {what}; its formats are {there}"))
    })
}

/// What the driver gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// Its code of the format.
    pub fourcc: [u8; 4],
    /// Width and height, in pixels.
    pub size: (u32, u32),
    /// Frames per second; `None` if the driver does not say.
    pub fps: Option<f64>,
}

/// How `given` differs from what `options` ask for, a phrase each; nothing if it is what was asked for.
pub fn differences(options: &Options, given: &Given) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(format) = options.format.filter(|f| f.fourcc != given.fourcc) {
        found.push(format!("format {} instead of {}", given.fourcc.escape_ascii(), format.word));
    }
    if let Some((w, h)) = options.size.filter(|size| *size != given.size) {
        found.push(format!("size {}×{} instead of {w}×{h}", given.size.0, given.size.1));
    }
    match (options.fps, given.fps) {
        (Some(want), Some(fps)) if !reaches(fps, want) || !reaches(want, fps) => {
            found.push(format!("{fps:.2} frames/s instead of {want:.2}"));
        }
        (Some(want), None) => found.push(format!("an unsaid rate instead of {want:.2} frames/s")),
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(word: &str, size: (u32, u32), fps: f64) -> Offer {
        Offer { format: Format::by_word(word).unwrap(), size: Some(size), fps: Some(fps) }
    }

    fn chosen(offers: &[Offer], text: &str) -> String {
        let codes: Vec<_> = offers.iter().map(|o| o.format.fourcc).collect();
        match choose(offers, &codes, &Options::parse(&format!("/dev/video0?{text}")).unwrap()) {
            Ok(offer) => offer.format.word.to_owned(),
            Err(e) => e.to_string(),
        }
    }

    /// What a webcam on USB 2 offers at 1280×720.
    fn webcam() -> [Offer; 2] {
        [offer("yuyv", (1280, 720), 10.0), offer("mjpeg", (1280, 720), 30.0)]
    }

    #[test]
    fn jpeg_is_taken_only_where_raw_pixels_do_not_reach_the_rate() {
        assert_eq!(chosen(&webcam(), "size=1280x720&fps=30"), "mjpeg");
        assert_eq!(chosen(&webcam(), "size=1280x720&fps=10"), "yuyv");
        assert_eq!(chosen(&webcam(), "size=1280x720"), "mjpeg");
        assert_eq!(chosen(&webcam(), "size=1280x720&fps=60"), "mjpeg");
    }

    #[test]
    fn the_size_decides_before_the_rate() {
        let offers = [offer("yuyv", (640, 480), 30.0), offer("mjpeg", (1920, 1080), 15.0)];
        assert_eq!(chosen(&offers, "size=1920x1080&fps=30"), "mjpeg");
    }

    #[test]
    fn the_format_asked_for_is_taken_or_refused_with_what_there_is() {
        assert_eq!(chosen(&webcam(), "format=yuyv&fps=30"), "yuyv");
        assert_eq!(
            chosen(&webcam(), "format=nv12"),
            "the camera has no nv12 (NV12); its formats are YUYV, MJPG"
        );
        assert!(chosen(&[], "").contains("no format that can be read (rgb, bgr, yuyv"));
        assert!(chosen(&[], "").ends_with("its formats are none"));
    }

    #[test]
    fn what_a_driver_does_not_say_is_taken_as_right() {
        let mute = Offer { size: None, fps: None, ..offer("nv12", (1, 1), 1.0) };
        assert_eq!(chosen(&[mute, offer("mjpeg", (640, 480), 30.0)], "size=640x480&fps=30"), "nv12");
    }

    #[test]
    fn the_nearest_size_lies_within_the_bounds_and_on_the_steps() {
        let steps = Sizes { least: (32, 16), most: (1920, 1080), step: (8, 2) };
        assert_eq!(nearest_size(&[steps], Some((641, 361))), Some((640, 360)));
        assert_eq!(nearest_size(&[steps], Some((9999, 9999))), Some((1920, 1080)));
        assert_eq!(nearest_size(&[steps], Some((1, 1))), Some((32, 16)));
        let listed = [Sizes::one(320, 240), Sizes::one(640, 360), Sizes::one(1280, 720)];
        assert_eq!(nearest_size(&listed, Some((640, 480))), Some((640, 360)));
        assert_eq!(nearest_size(&listed, None), Some((640, 360)));
        assert_eq!(nearest_size(&[], None), None);
        // What a driver may say.
        let odd = Sizes { least: (100, 100), most: (0, 0), step: (0, 0) };
        assert_eq!(nearest_size(&[odd, Sizes::one(0, 9)], Some((640, 480))), Some((100, 100)));
    }

    #[test]
    fn what_differs_is_told() {
        let options = Options::parse("/dev/video0?size=1000x1000&fps=60&format=yuyv").unwrap();
        let given = Given { fourcc: *b"MJPG", size: (1280, 720), fps: Some(12.5) };
        assert_eq!(
            differences(&options, &given),
            [
                "format MJPG instead of yuyv",
                "size 1280×720 instead of 1000×1000",
                "12.50 frames/s instead of 60.00"
            ]
        );
        let options = Options::parse("/dev/video0?size=640x360&fps=30&format=yuyv").unwrap();
        let given = Given { fourcc: *b"YUYV", size: (640, 360), fps: Some(29.97) };
        assert!(differences(&options, &given).is_empty());
        assert_eq!(differences(&options, &Given { fps: None, ..given }).len(), 1);
        assert!(differences(&Options::new("/dev/video0"), &given).is_empty());
    }
}
