//! What the fuzz targets do with the bytes they are given, one module each.
//!
//! Two callers share this: the harnesses in `fuzz_targets/`, which libFuzzer drives, and `tests/corpora.rs` of the relay,
//! which replays the committed corpora on every `cargo test`. A target is a plain function that panics where a promise is
//! broken. What it compares the relay with is written here a second time, from the RFCs, or is somebody else's code.

pub mod decoder;
pub mod head;
pub mod input;
pub mod metrics_http;
pub mod shard;
pub mod upgrade;
