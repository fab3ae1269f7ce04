//! Runs the HTTP of the metrics port under libFuzzer; what is checked stands in `src/requests.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::requests::run(bytes));
