//! A pickle reader that can describe a state dict and do nothing else.
//!
//! `opcodes` names the instructions, `globals` is the allow-list, `source` reads with a place and a ceiling,
//! `value` is what comes out, `machine` runs the instructions and `rebuild` says what the allowed names make.

mod globals;
mod machine;
mod opcodes;
mod rebuild;
mod source;
mod value;

pub(super) use machine::parse;
pub(super) use source::Source;
pub(super) use value::{Arena, Id, Node};

/// A pickle that has been read to its end.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) arena: Arena,
    pub(super) root: Id,
}
