//! Figures that are computed from a report's counts. Screen, page, comparison and benchmarks all show them.

use crate::report::document::{Generator, Latency, Report};

/// A thread that waited for a CPU for more than this share of the time tells little about the server.
const STARVED: f64 = 0.2;

/// The verdict on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every delivery was right.
    Passed,
    /// Every delivery was right, but the generator was saturated or starved. So its figures tell little about the server.
    Limited,
    /// Something was wrong.
    Failed,
}

impl Report {
    /// The verdict.
    pub(crate) fn verdict(&self) -> Verdict {
        let generator = &self.generator;
        match (self.passed, generator.saturated || generator.is_starved()) {
            (false, _) => Verdict::Failed,
            (true, true) => Verdict::Limited,
            (true, false) => Verdict::Passed,
        }
    }

    /// A count, per second of the measurement.
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        self.rate(count as f64)
    }

    /// Deliveries a second; `None` if nothing was delivered during the measurement.
    pub fn deliveries_per_second(&self) -> Option<f64> {
        let delivered = self.deliveries.received_while_measured;
        (delivered > 0).then(|| self.per_second(delivered))
    }

    /// Bytes on the wire for each delivery; `None` if nothing was delivered during the measurement.
    pub fn wire_bytes_per_delivery(&self) -> Option<f64> {
        let found = &self.deliveries;
        let delivered = found.received_while_measured;
        (delivered > 0).then(|| found.wire_bytes_while_measured as f64 / delivered as f64)
    }

    /// Bytes on the wire for each byte of payload; `None` if nothing was delivered during the measurement.
    pub fn wire_bytes_per_payload_byte(&self) -> Option<f64> {
        let found = &self.deliveries;
        let payload = found.payload_bytes_while_measured;
        (payload > 0).then(|| found.wire_bytes_while_measured as f64 / payload as f64)
    }

    /// Whole messages per read, warm-up included; `None` if none came during the measurement.
    pub fn messages_per_read(&self) -> Option<f64> {
        let found = &self.deliveries;
        let is_known = found.received_while_measured > 0 && found.reads > 0;
        is_known.then(|| found.received as f64 / found.reads as f64)
    }

    /// A latency in nanoseconds; `None` if no message was delivered that was due during the measurement.
    pub(crate) fn latency(&self, of: impl Fn(&Latency) -> u64) -> Option<f64> {
        (self.latency.count > 0).then(|| of(&self.latency) as f64)
    }

    /// Processors that the server had in use.
    pub(crate) fn server_cpus(&self) -> Option<f64> {
        Some(self.rate(self.server.as_ref()?.cpu_seconds))
    }

    /// The server's CPU for each delivery, in nanoseconds.
    pub fn server_cpu_ns_per_delivery(&self) -> Option<f64> {
        self.server.as_ref()?.cpu_ns_per_delivery
    }

    /// The server's resident memory at most, in bytes.
    pub(crate) fn server_peak_bytes(&self) -> Option<f64> {
        Some(self.server.as_ref()?.rss_peak_bytes as f64)
    }

    /// Processors that the generator had in use.
    pub(crate) fn generator_cpus(&self) -> f64 {
        self.rate(self.generator.cpu_seconds)
    }

    /// The generator's CPU for each delivery, in nanoseconds; `None` if nothing was delivered during the measurement.
    pub(crate) fn generator_cpu_ns_per_delivery(&self) -> Option<f64> {
        let delivered = self.deliveries.received_while_measured;
        (delivered > 0).then(|| self.generator.cpu_seconds * 1e9 / delivered as f64)
    }

    /// An amount, per second of the measurement.
    fn rate(&self, amount: f64) -> f64 {
        per_second(amount, self.measured_seconds)
    }
}

impl Generator {
    /// Whether a thread waited for a CPU so long that latencies are partly its own.
    pub(crate) fn is_starved(&self) -> bool {
        self.waited_for_cpu > STARVED
    }
}

/// An amount per second; 0 if no time was measured.
pub(crate) fn per_second(amount: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { amount / seconds } else { 0.0 }
}
