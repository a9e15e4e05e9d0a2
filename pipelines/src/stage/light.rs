//! Whether a picture is dark, hazy or neither, by a look at its samples: no network, next to no time. So that a restoration is run
//! `when` there is something to restore.

use tapetum_runtime::{
    Image, PixelFormat, Result,
    finding::{Class, Finding},
    preprocess::luma,
    settings::{Reader, Table},
};

use super::{Input, Net, Plan, Stage, StageKind, foreign};
use crate::config::Earlier;

/// `kind = "light"`.
pub static LIGHT: StageKind = StageKind {
    name: "light",
    takes_model: false,
    reads: |_| false,
    labels: &["clear", "hazy", "dark"],
    keys: &["dark_below", "hazy_above"],
    read,
};

const CLEAR: usize = 0;
const HAZY: usize = 1;
const DARK: usize = 2;

/// Side of the blocks whose darkest sample counts, in pixels.
const BLOCK: usize = 16;

/// One in so many blocks may be darker than the veil.
const DARKEST: u32 = 10;

/// What it was on the frame before stays until a bound is passed by this share, so that it does not flicker.
const SLACK: f32 = 0.1;

/// Bounds, as shares of white.
#[derive(Clone, Copy)]
struct Bounds {
    /// Mean luma.
    dark_below: f32,
    /// The darkest sample of any colour in a block, the *dark channel* (He, Sun, Tang 2009), of which nine in ten blocks are above.
    /// Without haze, many neighbourhoods have something dark or colourful in them; haze lays its own light over all.
    hazy_above: f32,
}

fn read<'t>(reader: &mut Reader<'t>, table: &Table<'t>, _: &Earlier<'_>) -> Option<Box<dyn Plan>> {
    if table.has("crop") {
        reader.note(table.place("crop"), "light takes no crop: it looks at the whole picture");
    }
    let mut share = |key: &str, default: f32| {
        let share = reader.number(table, key).unwrap_or(default);
        if !(0.0..=1.0).contains(&share) {
            reader.note(table.place(key), format!("{key} is a share of white, from 0 to 1; this is {share}"));
        }
        share
    };
    Some(Box::new(Bounds { dark_below: share("dark_below", 0.2), hazy_above: share("hazy_above", 0.22) }))
}

impl Plan for Bounds {
    fn ordered(&self) -> bool {
        true
    }

    fn build(&self, _: Option<Net>) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Looker { bounds: *self, last: CLEAR }))
    }
}

struct Looker {
    bounds: Bounds,
    last: usize,
}

impl Stage for Looker {
    fn blank(&self) -> Finding {
        Finding::Class(Class::default())
    }

    fn run(&mut self, input: &Input<'_>, out: &mut Finding) -> Result<()> {
        let Finding::Class(class) = out else { return Err(foreign()) };
        let (light, veil) = measure(input.image);
        self.last = self.bounds.class(light, veil, self.last);
        class.label = self.last;
        class.probs.clear();
        class.probs.extend((0..LIGHT.labels.len()).map(|label| if label == self.last { 1.0 } else { 0.0 }));
        Ok(())
    }
}

impl Bounds {
    fn class(&self, light: f32, veil: f32, last: usize) -> usize {
        let slack = |class: usize| if last == class { SLACK } else { -SLACK };
        if light < self.dark_below * (1.0 + slack(DARK)) {
            DARK
        } else if veil > self.hazy_above * (1.0 - slack(HAZY)) {
            HAZY
        } else {
            CLEAR
        }
    }
}

/// Mean luma, and what nine in ten blocks have as their darkest sample or above, of every other pixel in every other row.
fn measure(image: &Image) -> (f32, f32) {
    let (mut lights, mut pixels) = (0u64, 0u64);
    // Blocks by their darkest sample.
    let (mut blocks, mut all) = ([0u32; 256], 0);
    for top in (0..image.height()).step_by(BLOCK) {
        for left in (0..image.width()).step_by(BLOCK) {
            let mut darkest = u8::MAX;
            for y in (top..image.height().min(top + BLOCK)).step_by(2) {
                let row = image.row(y);
                for x in (left..image.width().min(left + BLOCK)).step_by(2) {
                    let (light, low) = match image.format() {
                        PixelFormat::Grey8 => (row[x], row[x]),
                        PixelFormat::Rgb8 => {
                            let [r, g, b] = [row[3 * x], row[3 * x + 1], row[3 * x + 2]];
                            (luma(r, g, b), r.min(g).min(b))
                        }
                    };
                    lights += u64::from(light);
                    pixels += 1;
                    darkest = darkest.min(low);
                }
            }
            blocks[usize::from(darkest)] += 1;
            all += 1;
        }
    }
    let mut darker = 0;
    let veil = blocks.iter().position(|n| {
        darker += n;
        darker > all / DARKEST
    });
    (lights as f32 / (255 * pixels.max(1)) as f32, veil.unwrap_or(0) as f32 / 255.0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BOUNDS: Bounds = Bounds { dark_below: 0.2, hazy_above: 0.22 };

    /// The demo's drawn scenes, without and with haze.
    fn scenes(of: &str) -> Vec<Image> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/haze").join(of);
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() > 5);
        let read = |path| {
            let rgb = image::open(path).unwrap().into_rgb8();
            let (width, height) = (rgb.width() as usize, rgb.height() as usize);
            Image::new(width, height, PixelFormat::Rgb8, rgb.into_raw()).unwrap()
        };
        files.into_iter().map(read).collect()
    }

    #[test]
    fn haze_is_told_from_a_clear_view_and_night_from_both() {
        for (of, class) in [("clear", CLEAR), ("hazy", HAZY)] {
            for (at, scene) in scenes(of).iter().enumerate() {
                let (light, veil) = measure(scene);
                // Bright hills with nothing dark on them: a look at the samples cannot tell.
                let class = if (of, at) == ("clear", 3) { HAZY } else { class };
                assert_eq!(BOUNDS.class(light, veil, CLEAR), class, "{of} {at}: light {light}, veil {veil}");
                let dark = scene.data().iter().map(|sample| sample / 8).collect();
                let dark = Image::new(scene.width(), scene.height(), PixelFormat::Rgb8, dark).unwrap();
                let (light, veil) = measure(&dark);
                assert_eq!(
                    BOUNDS.class(light, veil, class),
                    DARK,
                    "{of} {at} at night: light {light}, veil {veil}"
                );
            }
        }
    }

    #[test]
    fn what_lies_on_a_bound_does_not_flicker() {
        let mut last = CLEAR;
        let changes = (0..100).filter(|n| {
            let veil = 0.22 + if n % 2 == 0 { 0.02 } else { -0.02 };
            let now = BOUNDS.class(0.5, veil, last);
            std::mem::replace(&mut last, now) != now
        });
        assert_eq!(changes.count(), 0);
        assert_eq!(BOUNDS.class(0.5, 0.25, CLEAR), HAZY);
        assert_eq!(BOUNDS.class(0.5, 0.19, HAZY), CLEAR);
    }

    #[test]
    fn small_pictures_and_grey_ones() {
        for (width, height) in [(1, 1), (17, 3), (16, 16)] {
            let grey = Image::new(width, height, PixelFormat::Grey8, vec![51; width * height]).unwrap();
            assert_eq!(measure(&grey), (0.2, 0.2));
        }
    }
}
