//! What the zoo's default contracts have in common.

use tapetum_runtime::contract::{
    Colour, Filter, InputContract, OutputContract, OutputKind, PadRule, ResizeRule, SizePolicy,
};

use super::{InputSize, SizeRule};

/// The input's and the outputs' part of a contract: what a network knows about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Ports {
    /// How the input is made.
    pub input: InputContract,
    /// What the outputs mean, in the graph's order.
    pub outputs: Vec<OutputContract>,
}

/// Mean and standard deviation of ImageNet's training pictures, RGB, on the 0–1 scale (as torchvision states them).
pub const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Pillow's bilinear, which PyTorch's training pipelines resize with.
pub const STRETCH: ResizeRule = ResizeRule::Stretch { filter: Filter::BilinearAntialiased };

/// An RGB picture called `image`, values divided by 255. With an open size nothing is resized: the frame's own size is
/// padded as `pad` says.
pub fn rgb(size: InputSize, rule: &SizeRule, resize: ResizeRule, pad: PadRule) -> InputContract {
    let (size, resize) = match size {
        InputSize::Fixed { height, width } => (SizePolicy::Fixed { height, width }, resize),
        InputSize::Dynamic => {
            let of = rule.dynamic_multiple.max(1);
            let min = rule.min.max(1).next_multiple_of(of);
            (SizePolicy::Multiple { of, min_height: min, min_width: min }, ResizeRule::None)
        }
    };
    InputContract {
        name: "image".into(),
        size,
        resize,
        colour: Colour::Rgb,
        scale: 1.0 / 255.0,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        pad,
    }
}

/// As [`rgb`] without padding, normalised by [`IMAGENET`].
pub fn imagenet(size: InputSize, rule: &SizeRule, resize: ResizeRule) -> InputContract {
    let mut input = rgb(size, rule, resize, PadRule::None);
    input.mean = IMAGENET.0.to_vec();
    input.std = IMAGENET.1.to_vec();
    input
}

/// Output `name` that means `kind`.
pub fn output(name: &str, kind: OutputKind) -> OutputContract {
    OutputContract { name: name.into(), kind }
}

/// A restored picture called `restored`: 0–1, clamped, the padding cut off.
pub fn restored() -> OutputContract {
    output("restored", OutputKind::Image { range: [0.0, 1.0], clamp: true, crop: true })
}

/// `labels` if there are `n` of them, else `class_0`, `class_1`, ...
pub fn labels(n: usize, known: &[&str]) -> Vec<String> {
    if known.len() == n {
        return known.iter().map(|&l| l.into()).collect();
    }
    (0..n).map(|i| format!("class_{i}")).collect()
}
