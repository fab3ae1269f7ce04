//! Runs the HTTP of the metrics port under libFuzzer. `src/metrics_http.rs` has the checks.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fanwire_fuzz::metrics_http::run(bytes));
