//! Runs the upgrade from HTTP under libFuzzer; what is checked stands in `src/upgrade.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::upgrade::run(bytes));
