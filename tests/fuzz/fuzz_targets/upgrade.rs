//! Runs the upgrade from HTTP under libFuzzer. `src/upgrade.rs` has the checks.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::upgrade::run(bytes));
