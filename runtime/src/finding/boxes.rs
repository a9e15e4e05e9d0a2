//! Detection.

/// Boxes of a frame, the highest score first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Boxes(pub Vec<Detection>);

/// One box.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Detection {
    /// Index into the contract's labels.
    pub label: usize,
    /// 0–1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the frame; may reach beyond its edges.
    pub xyxy: [f32; 4],
}
