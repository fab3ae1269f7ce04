//! Runs the decoder under libFuzzer; what is checked stands in `src/decoder.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::decoder::run(bytes));
