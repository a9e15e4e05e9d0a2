//! Sources, stages and sinks, the executor, and the programs built from them.
