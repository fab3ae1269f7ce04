//! Runs as on the command line, without a process.

use loadtest::cli::{command, run_arguments};
use loadtest::report::Report;
use loadtest::report::observer::{Observer, Silent};
use loadtest::scenario::options::Options;
use loadtest::{RunError, run};

/// The options of a command line. The run is short and has no warm-up unless the line says otherwise.
pub(crate) fn options(line: &str) -> Options {
    let mut words = vec!["loadtest"];
    words.extend(line.split_whitespace());
    for (option, value) in [
        ("--warmup", "0s"),
        ("--duration", "200ms"),
        ("--patience", "500ms"),
    ] {
        if !words.contains(&option) {
            words.extend([option, value]);
        }
    }
    let matches = command().try_get_matches_from(words).unwrap();
    run_arguments(&matches).unwrap().options
}

/// The report of a run.
pub(crate) fn load(line: &str) -> Report {
    run(&options(line), &Silent).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The report of a run that ends as soon as `is_over` says so.
pub(crate) fn load_until(line: &str, is_over: impl Fn() -> bool) -> Report {
    struct Until<F>(F);
    impl<F: Fn() -> bool> Observer for Until<F> {
        fn is_stopped(&self) -> bool {
            (self.0)()
        }
    }
    let options = options(&format!("{line} --duration 20s"));
    run(&options, &Until(is_over)).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The error of a run that is refused.
pub(crate) fn refused(line: &str) -> RunError {
    let result = run(&options(line), &Silent);
    result.expect_err(&format!("{line} should be refused"))
}

/// The report of a run that must pass, and must have deliveries if it sends.
pub(crate) fn pass(line: &str) -> Report {
    let report = load(line);
    assert!(report.passed, "{line}: {:?}", report.failures);
    assert!(report.failures.is_empty());
    let deliveries = &report.deliveries;
    if report.configuration.publishers > 0 {
        assert!(deliveries.received > 0, "{line}: nothing was delivered");
        assert_eq!(deliveries.lost, 0, "{line}");
        assert!(report.latency.count > 0 && report.latency.p50 > 0, "{line}");
        assert!(!report.samples.is_empty(), "{line}");
    }
    report
}
