//! Runs the inflater under libFuzzer; what is checked stands in `src/inflate.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::inflate::run(bytes));
