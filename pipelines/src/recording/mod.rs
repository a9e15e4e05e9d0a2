//! A recording: footage of a camera around what happened, with all that it takes to run it again. A folder:
//!
//! | file | what it holds |
//! |---|---|
//! | `clip.mp4` | the encoded pictures, for players |
//! | `packets.jsonl` | where each lies in it, exact to the nanosecond |
//! | `frames.jsonl` | every frame that the camera gave: what became of it, and what was found on it |
//! | `pipeline.toml` | the pipeline file as it was |
//! | `recording.json` | where it comes from, what ran, digests of the files; written last |
//!
//! | part | what it does |
//! |---|---|
//! | [`format`] | what is in the files |
//! | [`digest`] | digests of what was found, and of pictures |
//! | [`part`] | a recording that grows; completed, also after a kill |
//! | [`read`] | a recording that is whole |
//! | `mp4` | the clip |

pub mod digest;
pub mod format;
mod mp4;
pub mod part;
pub mod read;
