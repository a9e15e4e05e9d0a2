//! Which size the input has and where the picture lies in it, from the contract and the region's size alone.

use super::view::Target;
use crate::{
    Error, Rect, Result,
    contract::{InputContract, PadRule, ResizeRule, SizePolicy},
};

/// Where everything is. The input holds the canvas, the canvas holds the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// (width, height) of the network's input.
    pub(super) input: (usize, usize),
    /// What the resize rule made: picture and fill. What surrounds it is padding.
    pub(super) canvas: Rect,
    /// The picture, in the input's coordinates.
    pub(super) picture: Rect,
    /// The size that the region is resized to, and which part of that is the picture.
    pub(super) target: Target,
}

/// Refuses a contract that no region could be laid out by. Contracts from files are validated; these may be made by
/// hand.
pub(super) fn check(contract: &InputContract) -> Result<()> {
    let bad = |what: String| Err(Error::bad_file(format!("contract: input: {what}")));
    let channels = contract.colour.channels();
    let (means, stds) = (contract.mean.len(), contract.std.len());
    if means != channels || stds != channels {
        return bad(format!("{means} means and {stds} stds for {channels} channels"));
    }
    if contract.std.contains(&0.0) {
        return bad(format!("a std of 0 in {:?}", contract.std));
    }
    let (height, width) = least(&contract.size);
    let multiple = match contract.size {
        SizePolicy::Fixed { .. } => 1,
        SizePolicy::Multiple { of: multiple, .. } | SizePolicy::Range { multiple, .. } => multiple,
    };
    if height == 0 || width == 0 || multiple == 0 || contract.pad.multiple() == Some(0) {
        return bad(format!("a size or multiple of 0 in {:?}, {:?}", contract.size, contract.pad));
    }
    match (contract.resize, &contract.size) {
        (ResizeRule::None | ResizeRule::Stretch { .. }, _) => Ok(()),
        (ResizeRule::Letterbox { .. }, SizePolicy::Fixed { .. }) => Ok(()),
        (ResizeRule::ShorterSideCrop { shorter_side, .. }, SizePolicy::Fixed { height, width }) => {
            if shorter_side < *height.max(width) {
                return bad(format!(
                    "a shorter side of {shorter_side} does not hold a centre of {height}×{width}"
                ));
            }
            Ok(())
        }
        (rule, size) => bad(format!("{rule:?} needs an input of fixed size, not {size:?}")),
    }
}

/// Lays out a region of `width × height`.
pub(super) fn layout(contract: &InputContract, width: usize, height: usize) -> Result<Layout> {
    if width == 0 || height == 0 {
        return Err(Error::bad_input(format!("a region of {width}×{height} pixels holds no picture")));
    }
    let refuse = |made: &str| {
        let (size, pad) = (rule(&contract.size), contract.pad);
        Error::bad_input(format!(
            "a region of {width}×{height} gives {made}; the model takes {size} (pad: {pad:?})"
        ))
    };
    // The canvas and the picture in it, both from the canvas's own corner.
    let (canvas, picture, target) = match (contract.resize, &contract.size) {
        (ResizeRule::None, _) => whole((width, height)),
        (ResizeRule::Stretch { .. }, size) => {
            let (h, w) = stretched(size, height, width).ok_or_else(|| refuse("a size without a bound"))?;
            whole((w, h))
        }
        (ResizeRule::Letterbox { .. }, &SizePolicy::Fixed { height: h, width: w }) => {
            letterbox((width, height), (w, h))
        }
        (ResizeRule::ShorterSideCrop { shorter_side, .. }, &SizePolicy::Fixed { height: h, width: w }) => {
            shorter_side_crop((width, height), shorter_side, (w, h))
                .ok_or_else(|| refuse("a size without a bound"))?
        }
        (resize, size) => {
            return Err(Error::bad_file(format!(
                "contract: input: {resize:?} needs a fixed size, not {size:?}"
            )));
        }
    };
    let (min_height, min_width) = match contract.size {
        // Padding rounds up; it does not bring a frame of any size to the one size.
        SizePolicy::Fixed { .. } => (1, 1),
        ref size => least(size),
    };
    let (input, at) = match contract.pad {
        PadRule::None => (Some(canvas), (0, 0)),
        PadRule::ReflectRightBottom { multiple } => {
            (padded(canvas, (min_width, min_height), multiple), (0, 0))
        }
        PadRule::ZeroCentred { multiple } => {
            let input = padded(canvas, (min_width, min_height), multiple);
            let (w, h) = input.unwrap_or(canvas);
            (input, ((w - canvas.0) / 2, (h - canvas.1) / 2))
        }
    };
    let (w, h) = input.ok_or_else(|| refuse("a size without a bound"))?;
    if !contract.size.takes(h, w) {
        return Err(refuse(&format!("an input of {w}×{h} (width×height)")));
    }
    let canvas = Rect { x: at.0, y: at.1, width: canvas.0, height: canvas.1 };
    let picture = Rect { x: picture.x + at.0, y: picture.y + at.1, ..picture };
    Ok(Layout { input: (w, h), canvas, picture, target })
}

type Parts = ((usize, usize), Rect, Target);

/// All of the picture and nothing else.
fn whole(size: (usize, usize)) -> Parts {
    let all = Rect { x: 0, y: 0, width: size.0, height: size.1 };
    (size, all, Target { size, window: all })
}

/// As ultralytics' `LetterBox` (8.3) with its defaults: the largest size of the same aspect ratio, rounded to even at
/// a half and never 0; the odd pixel of the border is at the right or the bottom.
fn letterbox((width, height): (usize, usize), (w, h): (usize, usize)) -> Parts {
    let gain = (h as f64 / height as f64).min(w as f64 / width as f64);
    let side = |from: usize, most: usize| ((from as f64 * gain).round_ties_even() as usize).clamp(1, most);
    let size = (side(width, w), side(height, h));
    let before = |border: usize| (border as f64 / 2.0 - 0.1).round_ties_even().max(0.0) as usize;
    let picture = Rect { x: before(w - size.0), y: before(h - size.1), width: size.0, height: size.1 };
    ((w, h), picture, whole(size).2)
}

/// As torchvision's `Resize(shorter_side)` and `CenterCrop((h, w))` on a Pillow image: the longer side rounded down,
/// the corner of the centre rounded to even at a half.
fn shorter_side_crop(
    (width, height): (usize, usize),
    shorter: usize,
    (w, h): (usize, usize),
) -> Option<Parts> {
    let (short, long) = (width.min(height), width.max(height));
    let long = (shorter.checked_mul(long)? as f64 / short as f64) as usize;
    let size = if width <= height { (shorter, long) } else { (long, shorter) };
    let corner = |of: usize, part: usize| ((of - part) as f64 / 2.0).round_ties_even() as usize;
    let window = Rect { x: corner(size.0, w), y: corner(size.1, h), width: w, height: h };
    Some(((w, h), whole((w, h)).1, Target { size, window }))
}

/// The size (height, width) that a stretch goes to: each axis to the next multiple, and to the nearest bound if it is
/// outside the bounds. `None` if there is no such number.
fn stretched(size: &SizePolicy, height: usize, width: usize) -> Option<(usize, usize)> {
    let up = |v: usize, least: usize, of: usize| v.max(least).checked_next_multiple_of(of);
    Some(match *size {
        SizePolicy::Fixed { height, width } => (height, width),
        SizePolicy::Multiple { of, min_height, min_width } => {
            (up(height, min_height, of)?, up(width, min_width, of)?)
        }
        SizePolicy::Range { min_height, min_width, max_height, max_width, multiple } => {
            let most = |max: usize| max / multiple * multiple;
            (
                up(height, min_height, multiple)?.min(most(max_height)),
                up(width, min_width, multiple)?.min(most(max_width)),
            )
        }
    })
}

/// (width, height) rounded up to a multiple and to at least `least`.
fn padded(size: (usize, usize), least: (usize, usize), multiple: usize) -> Option<(usize, usize)> {
    let up = |v: usize, least: usize| v.max(least).checked_next_multiple_of(multiple);
    Some((up(size.0, least.0)?, up(size.1, least.1)?))
}

/// The least (height, width).
fn least(size: &SizePolicy) -> (usize, usize) {
    match *size {
        SizePolicy::Fixed { height, width } => (height, width),
        SizePolicy::Multiple { min_height, min_width, .. }
        | SizePolicy::Range { min_height, min_width, .. } => (min_height, min_width),
    }
}

/// The policy in words, width before height as pictures are spoken of.
fn rule(size: &SizePolicy) -> String {
    match *size {
        SizePolicy::Fixed { height, width } => format!("{width}×{height} only"),
        SizePolicy::Multiple { of, min_height, min_width } => {
            format!("multiples of {of} from {min_width}×{min_height} on")
        }
        SizePolicy::Range { min_height, min_width, max_height, max_width, multiple } => {
            format!("multiples of {multiple} from {min_width}×{min_height} to {max_width}×{max_height}")
        }
    }
}
