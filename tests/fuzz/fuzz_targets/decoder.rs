//! Runs the decoder under libFuzzer. `src/decoder.rs` has the checks.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::decoder::run(bytes));
