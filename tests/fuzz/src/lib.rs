//! The fuzz targets, one module each.
//!
//! Two callers share them: libFuzzer runs the harnesses in `fuzz_targets/`, and the relay's `tests/corpora.rs` replays
//! the corpora in every `cargo test`. A target is a function that panics at a broken promise. It compares the relay
//! with a second implementation, written here from the RFCs or by somebody else.

pub mod decoder;
pub mod head;
pub mod input;
pub mod metrics_http;
pub mod shard;
pub mod upgrade;
