//! Changes to the tensors of a checkpoint before a network is built from them.
