//! Who watches a run while it goes on, and may end it.

use crate::scenario::scenarios::Scenario;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connections are opened.
    Connecting,
    /// Messages are sent, and not measured yet.
    WarmingUp,
    /// Messages are sent and measured.
    Measuring,
    /// What is owed is waited for.
    Draining,
    /// Connections are closed.
    Closing,
}

/// How a run stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The kind of load.
    pub scenario: Scenario,
    /// What it is doing.
    pub stage: Stage,
    /// Seconds since the load began.
    pub elapsed_seconds: f64,
    /// How long warm-up and measurement take together, in seconds.
    pub total_seconds: f64,
    /// Connections open.
    pub connections: usize,
    /// Connections that there are to be.
    pub wanted: usize,
    /// Messages sent a second, of late.
    pub published_rate: f64,
    /// Deliveries a second, of late.
    pub received_rate: f64,
    /// Median latency of late, in nanoseconds.
    pub latency_p50: u64,
    /// 99th percentile of late, in nanoseconds.
    pub latency_p99: u64,
    /// Deliveries found lost so far.
    pub lost: u64,
}

/// Told of a run ten times a second, by the thread that called `run`.
pub trait Observer {
    /// How it stands.
    fn on_progress(&self, _progress: &Progress) {}

    /// Whether it is to end early; what was measured until then is reported.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
