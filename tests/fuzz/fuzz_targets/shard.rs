//! Runs shards under libFuzzer; what is checked stands in `src/shard/mod.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::shard::run(bytes));
