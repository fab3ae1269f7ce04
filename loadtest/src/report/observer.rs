//! The observer of a run: it is told of the progress, and may end the run early.

use crate::scenario::scenarios::Scenario;

/// The stage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connections are opened.
    Connecting,
    /// Messages are sent and not measured yet.
    WarmingUp,
    /// Messages are sent and measured.
    Measuring,
    /// Missing deliveries are awaited.
    Draining,
    /// Connections are closed.
    Closing,
}

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The kind of load.
    pub scenario: Scenario,
    /// Its stage.
    pub stage: Stage,
    /// Seconds since the load began.
    pub elapsed_seconds: f64,
    /// Length of warm-up and measurement together, in seconds.
    pub total_seconds: f64,
    /// Connections open.
    pub connections: usize,
    /// Connections to be opened.
    pub wanted: usize,
    /// Messages sent a second, since the last progress.
    pub published_rate: f64,
    /// Deliveries a second, since the last progress.
    pub received_rate: f64,
    /// Median latency since the last progress, in nanoseconds.
    pub latency_p50: u64,
    /// 99th percentile of latency since the last progress, in nanoseconds.
    pub latency_p99: u64,
    /// Deliveries found lost so far.
    pub lost: u64,
}

/// Watches a run. The thread that called `run` calls it ten times a second.
pub trait Observer {
    /// Is told of the progress.
    fn on_progress(&self, _progress: &Progress) {}

    /// Whether the run is to end early. The report then covers the time until now.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
