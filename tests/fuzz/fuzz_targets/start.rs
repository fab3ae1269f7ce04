//! Runs the starts of streams under libFuzzer; what is checked stands in `src/start.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::start::run(bytes));
