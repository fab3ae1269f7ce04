//! Runs the reader of replies under libFuzzer; what is checked stands in `src/replies.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::replies::run(bytes));
