//! tract: the embedded engine.
