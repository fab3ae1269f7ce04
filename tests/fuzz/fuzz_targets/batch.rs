//! Runs the reader of batches under libFuzzer; what is checked stands in `src/batch.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::batch::run(bytes));
