//! Runs offers of extensions under libFuzzer; what is checked stands in `src/extension.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::extension::run(bytes));
