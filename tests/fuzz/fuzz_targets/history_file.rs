//! Runs the reader of history files under libFuzzer; what is checked stands in `src/history_file.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::history_file::run(bytes));
