//! What a model said about a frame, in the frame's own pixels.
//!
//! One file per kind: the type, and how it is made of a model's output. All of them keep their memory when they are
//! filled again.

pub mod boxes;
pub mod classes;
pub mod embedding;
pub mod image;
pub mod mask;
pub mod restored;

pub use boxes::{BoxDecoder, Boxes, Detection};
pub use classes::{Class, ClassDecoder};
pub use embedding::Embeddings;
pub use image::ImageDecoder;
pub use mask::{Mask, MaskDecoder, MaskPart};
pub use restored::{Kept, Restored, Tiles, Windows};

/// What one stage found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// One class of several.
    Class(Class),
    /// Boxes with labels and scores.
    Boxes(Boxes),
    /// A class per pixel.
    Mask(Mask),
    /// A picture in place of the frame's.
    Image(Restored),
    /// An appearance vector per region.
    Embeddings(Embeddings),
    /// Named numbers, in a fixed order, each `None` while it is not known.
    Measure(Vec<(&'static str, Option<f64>)>),
}
