//! The contract that travels inside a model: how its input is made and what its outputs mean.
