//! A distribution of times, as a report has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A distribution, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Number of values.
    pub count: u64,
    /// Smallest.
    pub min: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// 99.99th percentile.
    pub p9999: u64,
    /// Largest.
    pub max: u64,
    /// The distribution: points of its percentile curve, ascending, for the charts.
    pub curve: Vec<Point>,
}

/// A point of a distribution's percentile curve.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// Share of values at or below, from 0 to 1.
    pub quantile: f64,
    /// The value in nanoseconds.
    pub value: u64,
    /// Values between the point before and this one.
    pub count: u64,
}
