//! Runs shards under libFuzzer. `src/shard/mod.rs` has the checks.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::shard::run(bytes));
