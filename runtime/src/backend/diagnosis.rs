//! Why an engine cannot run on this machine, piece by piece.

/// Something of this machine that does not fit what an engine needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is, and what is needed, for example `libcudnn.so.9 is needed (cuDNN 9); found libcudnn.so.8 in /usr/lib`.
    pub what: String,
    /// The next step.
    pub next: String,
}
