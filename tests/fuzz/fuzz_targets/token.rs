//! Runs tokens and patterns under libFuzzer; what is checked stands in `src/token.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::token::run(bytes));
