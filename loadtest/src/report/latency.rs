//! Distributions of latencies. hdrhistogram counts them; a report has their percentile curve.

use hdrhistogram::Histogram;

use crate::report::document::{Latency, Point};

/// Latencies below a microsecond are not told apart.
const LOWEST: u64 = 1_000;

/// Latencies above ten minutes count as ten minutes.
const HIGHEST: u64 = 600_000_000_000;

/// Significant digits.
const DIGITS: u8 = 3;

/// Steps of the curve for each halving of the distance to 100 %.
const STEPS: u32 = 8;

/// An empty distribution.
pub(crate) fn new() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS).expect("the bounds are in order")
}

/// Adds a distribution to another.
pub(crate) fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    if !from.is_empty() {
        into.add(from).expect("both have the same bounds");
    }
}

/// The summary of a distribution, for a report.
pub(crate) fn summarise(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    let value = |quantile| histogram.value_at_quantile(quantile).min(histogram.max());
    Latency {
        count: histogram.len(),
        min: histogram.min(),
        mean: histogram.mean(),
        p50: value(0.5),
        p90: value(0.9),
        p99: value(0.99),
        p999: value(0.999),
        p9999: value(0.9999),
        max: histogram.max(),
        curve: curve(histogram),
    }
}

fn curve(histogram: &Histogram<u64>) -> Vec<Point> {
    let mut seen = 0;
    let mut points: Vec<Point> = Vec::new();
    for step in histogram.iter_quantiles(STEPS) {
        let count = step.count_since_last_iteration();
        seen += count;
        if count == 0 {
            continue;
        }
        points.push(Point {
            quantile: seen as f64 / histogram.len() as f64,
            value: step.value_iterated_to().min(histogram.max()),
            count,
        });
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_ascends_and_holds_every_value() {
        let mut histogram = new();
        for value in 1..=10_000_u64 {
            histogram.saturating_record(value * 1_000);
        }
        let latency = summarise(&histogram);
        assert_eq!(latency.count, 10_000);
        assert_eq!(latency.curve.iter().map(|p| p.count).sum::<u64>(), 10_000);
        let ascending = latency.curve.windows(2);
        assert!(
            ascending
                .clone()
                .all(|w| w[0].quantile < w[1].quantile && w[0].value <= w[1].value)
        );
        let last = latency.curve.last().unwrap();
        assert!((last.quantile - 1.0).abs() < 1e-9);
        assert!(latency.p50.abs_diff(5_000_000) < 10_000, "{}", latency.p50);
        assert!(latency.p99.abs_diff(9_900_000) < 10_000, "{}", latency.p99);
    }

    #[test]
    fn nothing_measured_is_all_zero() {
        let latency = summarise(&new());
        assert_eq!((latency.count, latency.max), (0, 0));
        assert!(latency.curve.is_empty());
    }
}
