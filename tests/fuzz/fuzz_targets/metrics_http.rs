//! Runs the HTTP of the metrics port under libFuzzer; what is checked stands in `src/metrics_http.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::metrics_http::run(bytes));
