//! Test patterns: the same specification gives the same frames, bit for bit.

use std::time::Duration;

use tapetum_runtime::{Error, Frame, Image, PixelFormat, Result, seed::Seeded, settings::hint};

use super::{Next, Opened, Source, SourceInfo, spec::Spec};

/// For people.
pub const USAGE: &str = "synthetic:KIND (bars, noise, moving, eye), with ?seed=N&size=WxH&fps=N&frames=N";

/// A kind of pattern and how it is drawn: frame number, time in seconds, seed.
type Draw = fn(&mut Image, u64, f64, u64);

const KINDS: [(&str, Draw); 4] = [("bars", bars), ("noise", noise), ("moving", moving), ("eye", eye)];

/// Frames that are drawn.
pub struct Synthetic {
    info: SourceInfo,
    draw: Draw,
    seed: u64,
    size: (usize, usize),
    fps: f64,
    frames: u64,
    next: u64,
}

pub(super) fn open(spec: &str) -> Option<Opened> {
    let rest = spec.strip_prefix("synthetic:")?;
    Some(Synthetic::open(rest).map(|source| Box::new(source) as Box<dyn Source>))
}

impl Synthetic {
    /// Opens `KIND?seed=N&size=WxH&fps=N&frames=N`; 300 frames of 640×480 at 30 frames/s from seed 1 by default.
    ///
    /// # Errors
    /// An unknown kind or key, or a value out of bounds.
    pub fn open(text: &str) -> Result<Self> {
        let spec = Spec::parse(text, &["seed", "size", "fps", "frames"])?;
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let Some((_, draw)) = KINDS.iter().find(|(name, _)| *name == spec.name) else {
            let name = spec.name;
            return Err(Error::config(format!("no test pattern {name:?}{}", hint(name, &names))));
        };
        let seed = spec.get("seed", 1, "a whole number", |v| v.parse().ok())?;
        let size = spec.get("size", (640, 480), "WxH, each side from 1 to 8192 pixels", |v| {
            let (w, h) = v.split_once(['x', '×'])?;
            let side = |s: &str| s.parse().ok().filter(|n: &usize| (1..=8192).contains(n));
            Some((side(w)?, side(h)?))
        })?;
        let frames = spec.get("frames", 300, "a whole number", |v| v.parse().ok())?;
        let fps = spec.fps()?;
        let info = SourceInfo {
            name: format!("synthetic:{text}"),
            live: false,
            frames: Some(frames),
            interval: Some(Duration::from_secs_f64(1.0 / fps)),
            size: Some(size),
        };
        Ok(Self { info, draw: *draw, seed, size, fps, frames, next: 0 })
    }
}

impl Source for Synthetic {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Next> {
        if self.next == self.frames {
            return Ok(Next::End);
        }
        let seconds = self.next as f64 / self.fps;
        frame.seq = self.next;
        frame.pts = Duration::from_secs_f64(seconds);
        frame.captured = None;
        frame.image.reset(self.size.0, self.size.1, PixelFormat::Rgb8);
        (self.draw)(&mut frame.image, self.next, seconds, self.seed);
        self.next += 1;
        Ok(Next::Frame)
    }
}

/// Sets every pixel to what `colour` says of its column and row.
fn fill(image: &mut Image, mut colour: impl FnMut(usize, usize) -> [u8; 3]) {
    let width = image.width();
    for (n, pixel) in image.data_mut().chunks_exact_mut(3).enumerate() {
        pixel.copy_from_slice(&colour(n % width, n / width));
    }
}

/// Eight colour bars.
fn bars(image: &mut Image, _: u64, _: f64, _: u64) {
    let width = image.width();
    fill(image, |x, _| {
        let bar = 7 - x * 8 / width;
        [1, 2, 0].map(|bit| if bar >> bit & 1 == 1 { 235 } else { 16 })
    });
}

/// Every pixel of every frame at random.
fn noise(image: &mut Image, frame: u64, _: f64, seed: u64) {
    let mut random = Seeded::new(seed ^ frame.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    image.data_mut().iter_mut().for_each(|byte| *byte = random.below(256) as u8);
}

/// A bright square on a grey ground, going around in 4 seconds.
fn moving(image: &mut Image, _: u64, seconds: f64, seed: u64) {
    let (width, height) = (image.width() as f64, image.height() as f64);
    let side = width.min(height) / 5.0;
    let angle = std::f64::consts::TAU * (seconds / 4.0 + seed as f64 / 7.0);
    let (cx, cy) = (width / 2.0 + width / 4.0 * angle.cos(), height / 2.0 + height / 4.0 * angle.sin());
    fill(image, |x, y| {
        let inside = (x as f64 - cx).abs() < side / 2.0 && (y as f64 - cy).abs() < side / 2.0;
        if inside { [240, 220, 60] } else { [90, 90, 90] }
    });
}

/// An eye under a Placido disc: sclera, iris, pupil, bright rings, a lid that blinks every 4 seconds, and a dark spot that
/// breaks the rings from 2 seconds after the blink on. A picture to look at, not one that the demo networks know.
fn eye(image: &mut Image, _: u64, seconds: f64, seed: u64) {
    let (width, height) = (image.width() as f64, image.height() as f64);
    let mut random = Seeded::new(seed);
    let mut draw = |lo: f32, hi: f32| f64::from(random.uniform(lo, hi));
    let (cx, cy) = (width * draw(0.4, 0.6), height * draw(0.4, 0.6));
    let iris = width.min(height) * draw(0.26, 0.34);
    let (spot_angle, spot_far) = (draw(0.0, 6.0), draw(0.3, 0.7));
    let (sx, sy) = (cx + iris * spot_far * spot_angle.cos(), cy + iris * spot_far * spot_angle.sin());
    let phase = seconds % 4.0;
    // The lid comes down and goes up again within 0.4 s.
    let lid = if phase < 0.4 { height * (1.0 - (phase - 0.2).abs() / 0.2) } else { 0.0 };
    let spot = iris * 0.12 * (phase - 2.0).clamp(0.0, 2.0);
    fill(image, |x, y| {
        let (x, y) = (x as f64, y as f64);
        if y < lid {
            return [150, 112, 96];
        }
        let far = (x - cx).hypot(y - cy) / iris;
        let ring = far < 1.1 && (far * 9.0).fract() < 0.3;
        let base = match far {
            f if f < 0.35 => 18.0,
            f if f < 1.0 => 70.0 + 20.0 * (far * 40.0).sin(),
            _ => 190.0,
        };
        let broken = (x - sx).hypot(y - sy) < spot;
        let grey = if ring && !broken { 235.0 } else { base };
        [grey as u8; 3]
    });
}
