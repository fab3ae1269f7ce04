//! What happened over time: the threads' tallies, collected ten times a second and made into samples.

use hdrhistogram::Histogram;

use crate::clock::{SECOND, seconds};
use crate::latency;
use crate::report::Sample;
use crate::shared::{Shared, Tally, Totals};
use crate::worker::TICK;

/// The most samples that a report has.
const MAX_SAMPLES: u64 = 1_000;

/// What the server's process used, as of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerUse {
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_bytes: u64,
}

/// The samples of a run.
#[derive(Debug)]
pub(crate) struct Series {
    measure_start: u64,
    /// Length of a sample.
    span: u64,
    samples: Vec<Sample>,
    /// Latencies of the sample that has begun.
    recent: Histogram<u64>,
    /// Latencies of all that was due while measured.
    measured: Histogram<u64>,
    began_at: u64,
    began: Totals,
    server_cpu: Option<f64>,
    totals: Totals,
}

impl Series {
    /// For a run of which so many nanoseconds will be sampled, `measure_start` being when the measurement begins.
    pub(crate) fn new(now: u64, measure_start: u64, length: u64) -> Series {
        Series {
            measure_start,
            span: length.div_ceil(MAX_SAMPLES).div_ceil(TICK).max(1) * TICK,
            samples: Vec::new(),
            recent: latency::new(),
            measured: latency::new(),
            began_at: now,
            began: Totals::default(),
            server_cpu: None,
            totals: Totals::default(),
        }
    }

    /// Collects what the threads have put up.
    pub(crate) fn collect(&mut self, shared: &Shared) -> Tally {
        let mut tally = Tally::default();
        for board in &shared.boards {
            board.collect(&mut tally);
        }
        self.totals = tally.totals;
        latency::merge(&mut self.measured, &tally.measured);
        latency::merge(&mut self.recent, &tally.measured);
        latency::merge(&mut self.recent, &tally.outside);
        tally
    }

    /// Forgets what was before: the load begins.
    pub(crate) fn begin(&mut self, now: u64, server: Option<ServerUse>) {
        self.began_at = now;
        self.began = self.totals;
        self.server_cpu = server.map(|server| server.cpu_seconds);
        self.recent.reset();
    }

    /// Makes a sample if it is time, or if it is the last.
    pub(crate) fn sample(&mut self, now: u64, is_last: bool, server: Option<ServerUse>) {
        // Half a tick of grace: whoever collects does so a little early or late.
        let elapsed = now.saturating_sub(self.began_at);
        let is_full = elapsed + TICK / 2 >= self.span;
        let is_wanted = is_full || is_last && elapsed > 0;
        if !is_wanted || self.samples.len() as u64 >= MAX_SAMPLES {
            return;
        }
        let span_seconds = seconds(elapsed);
        let cpus = |from: f64, to: f64| (to - from).max(0.0) / span_seconds.max(1e-9);
        let (from, to) = (&self.began, &self.totals);
        let at_quantile = |quantile| {
            if self.recent.is_empty() {
                0
            } else {
                self.recent
                    .value_at_quantile(quantile)
                    .min(self.recent.max())
            }
        };
        self.samples.push(Sample {
            at_seconds: (now as f64 - self.measure_start as f64) / SECOND as f64,
            span_seconds,
            published: to.published - from.published,
            received: to.counts.received - from.counts.received,
            lost: to.counts.lost,
            sent_late: to.sent_late - from.sent_late,
            connections: to.connections,
            latency_p50: at_quantile(0.5),
            latency_p99: at_quantile(0.99),
            latency_max: self.recent.max(),
            generator_cpus: cpus(seconds(from.cpu), seconds(to.cpu)),
            server_cpus: server
                .zip(self.server_cpu)
                .map(|(server, before)| cpus(before, server.cpu_seconds)),
            server_rss_bytes: server.map(|server| server.rss_bytes),
        });
        self.begin(now, server);
    }

    /// The counts of all threads, as of the last time.
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Latencies of what was due while measured.
    pub(crate) fn measured(&self) -> &Histogram<u64> {
        &self.measured
    }

    /// The samples.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

/// Whether values rise from quarter to quarter, and by what factor from the first to the last; `None` if they do not, or are
/// too few to tell. The first tenth is left out: that is when caches and buffers fill.
pub(crate) fn rise(values: &[f64]) -> Option<f64> {
    let settled = &values[values.len() / 10..];
    let quarter = settled.len() / 4;
    if quarter < 5 {
        return None;
    }
    let median = |index: usize| {
        let mut part = settled[index * quarter..(index + 1) * quarter].to_vec();
        part.sort_by(f64::total_cmp);
        part[quarter / 2]
    };
    let medians = [median(0), median(1), median(2), median(3)];
    let rises = medians.windows(2).all(|pair| pair[1] > pair[0]);
    (rises && medians[0] > 0.0).then(|| medians[3] / medians[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rises_all_the_time_is_told_from_what_settles() {
        let rising: Vec<f64> = (0..200).map(|index| 100.0 + f64::from(index)).collect();
        assert!(rise(&rising).is_some_and(|factor| factor > 1.5));
        let settling: Vec<f64> = (0..200).map(|index| f64::from(index.min(20))).collect();
        assert_eq!(rise(&settling), None);
        let noisy: Vec<f64> = (0..200)
            .map(|index| f64::from(100 + index * 37 % 11))
            .collect();
        assert_eq!(rise(&noisy), None);
        assert_eq!(rise(&[1.0, 2.0, 3.0]), None);
    }
}
