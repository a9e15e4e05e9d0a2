//! Readers for the files that training leaves behind.
