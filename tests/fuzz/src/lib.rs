//! The bodies of the fuzz targets, one module each.
//!
//! Two callers share this: the harnesses in `fuzz_targets/`, which libFuzzer drives, and `tests/corpora.rs` of the relay,
//! which replays the committed corpora on every `cargo test`. A target is a plain function that panics if a promise is
//! broken. It compares the relay with a second implementation, written here from the RFCs or taken from another crate.

pub mod batch;
pub mod decoder;
pub mod extension;
pub mod head;
pub mod history_file;
pub mod inflate;
pub mod input;
pub mod metrics_http;
pub mod replies;
pub mod requests;
pub mod shard;
pub mod start;
pub mod token;
pub mod upgrade;
