//! The `tapetum` program.
fn main() {}
