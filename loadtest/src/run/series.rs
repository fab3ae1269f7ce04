//! Samples over time, made from the threads' tallies, which are collected ten times a second.

use hdrhistogram::Histogram;

use crate::check::tally::{Tally, Totals};
use crate::client::shared::{Shared, TICK};
use crate::clock::{SECOND, seconds};
use crate::report::Sample;
use crate::report::latency;

/// The most samples that a report has.
const MAX_SAMPLES: u64 = 1_000;

/// The server's CPU and memory at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerUse {
    pub(crate) at: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_bytes: u64,
}

/// The state at the beginning of a sample.
#[derive(Clone, Copy, Debug, Default)]
struct Opening {
    /// The time of the totals.
    at: u64,
    totals: Totals,
    server: Option<ServerUse>,
}

/// The samples of a run.
///
/// A sample lasts from one posting of the threads' counts to a later one. The time of collecting does not matter, so a
/// rate is right even if the control is late.
#[derive(Debug)]
pub(crate) struct Series {
    measure_start: u64,
    /// Length of a sample.
    span: u64,
    samples: Vec<Sample>,
    /// The sample that has begun, and its latencies.
    opening: Opening,
    recent: Histogram<u64>,
    /// The same of the sample before. A last sample that is too short is joined with it.
    opening_before: Opening,
    recent_before: Histogram<u64>,
    /// Latencies of all messages that were due while measured.
    measured: Histogram<u64>,
    totals: Totals,
}

impl Series {
    /// Samples for `length` nanoseconds. The measurement begins at `measure_start`.
    pub(crate) fn new(now: u64, measure_start: u64, length: u64) -> Series {
        let opening = Opening {
            at: now,
            ..Opening::default()
        };
        Series {
            measure_start,
            span: length.div_ceil(MAX_SAMPLES).div_ceil(TICK).max(1) * TICK,
            samples: Vec::new(),
            opening,
            recent: latency::new(),
            opening_before: opening,
            recent_before: latency::new(),
            measured: latency::new(),
            totals: Totals::default(),
        }
    }

    /// Collects what the threads have posted.
    pub(crate) fn collect(&mut self, shared: &Shared) -> Tally {
        let mut tally = Tally::default();
        for board in &shared.boards {
            board.collect(&mut tally);
        }
        self.enter(&tally);
        tally
    }

    fn enter(&mut self, tally: &Tally) {
        self.totals = tally.totals;
        latency::merge(&mut self.measured, &tally.measured);
        latency::merge(&mut self.recent, &tally.measured);
        latency::merge(&mut self.recent, &tally.outside);
    }

    /// Begins a sample, and forgets what was before.
    pub(crate) fn begin(&mut self, now: u64, server: Option<ServerUse>) {
        self.opening = Opening {
            at: now,
            totals: self.totals,
            server,
        };
        self.recent.reset();
    }

    /// Ends a sample if it is time, or if it is the last.
    pub(crate) fn sample(&mut self, is_last: bool, server: Option<ServerUse>) {
        let elapsed = self.totals.at.saturating_sub(self.opening.at);
        // Half a tick of grace: threads post their counts a little early or late.
        let is_full = elapsed + TICK / 2 >= self.span;
        if is_full && (self.samples.len() as u64) < MAX_SAMPLES {
            self.close(server);
        } else if is_last && elapsed > 0 {
            // It is too short to give a rate of its own.
            if self.samples.pop().is_some() {
                self.opening = self.opening_before;
                latency::merge(&mut self.recent, &self.recent_before);
            }
            self.close(server);
        }
    }

    /// Ends the sample that has begun, and begins the next.
    fn close(&mut self, server: Option<ServerUse>) {
        self.samples.push(self.finished(server));
        self.opening_before = self.opening;
        std::mem::swap(&mut self.recent, &mut self.recent_before);
        self.begin(self.totals.at, server);
    }

    fn finished(&self, server: Option<ServerUse>) -> Sample {
        let (from, to) = (&self.opening.totals, &self.totals);
        let span = to.at.saturating_sub(self.opening.at);
        let servers = server.zip(self.opening.server);
        let at_quantile = |quantile| {
            // After a reset, the largest value of an empty histogram is that of its first bucket, not 0.
            if self.recent.is_empty() {
                0
            } else {
                let value = self.recent.value_at_quantile(quantile);
                value.min(self.recent.max())
            }
        };
        Sample {
            at_seconds: (to.at as f64 - self.measure_start as f64) / SECOND as f64,
            span_seconds: seconds(span),
            published: to.published - from.published,
            received: to.counts.received - from.counts.received,
            lost: to.counts.lost,
            sent_late: to.sent_late - from.sent_late,
            connections: to.connections,
            latency_p50: at_quantile(0.5),
            latency_p99: at_quantile(0.99),
            latency_max: at_quantile(1.0),
            generator_cpus: cpus(seconds(to.cpu) - seconds(from.cpu), span),
            server_cpus: servers.map(|(now, before)| {
                let span = now.at.saturating_sub(before.at);
                cpus(now.cpu_seconds - before.cpu_seconds, span)
            }),
            server_rss_bytes: server.map(|server| server.rss_bytes),
        }
    }

    /// The counts of all threads when they were last collected.
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Latencies of messages that were due while measured.
    pub(crate) fn measured(&self) -> &Histogram<u64> {
        &self.measured
    }

    /// The samples.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

/// The average number of CPUs in use: seconds of CPU time by nanoseconds of time.
fn cpus(cpu_seconds: f64, span: u64) -> f64 {
    cpu_seconds.max(0.0) / seconds(span).max(1e-9)
}

/// The factor from the first quarter of the values to the last, if they rise from quarter to quarter. `None` if they do
/// not, or are too few to tell. The first tenth is left out, since caches and buffers fill then.
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
    use crate::clock::MILLISECOND;

    /// The tally that threads post at a time, after steady work since 0.
    fn steady(at: u64) -> Tally {
        let mut tally = Tally::default();
        tally.totals.at = at;
        tally.totals.counts.received = at / MILLISECOND;
        tally.totals.cpu = at / 2;
        tally
    }

    #[test]
    fn a_last_sample_that_is_short_has_the_rate_of_the_others() {
        let server = |at: u64| {
            Some(ServerUse {
                at,
                cpu_seconds: seconds(at) / 4.0,
                rss_bytes: 1,
            })
        };
        let mut series = Series::new(0, 0, SECOND);
        series.begin(0, server(0));
        // It is collected half a tick after it was posted, and at the end at once.
        for (at, is_last) in [(100, false), (200, false), (300, false), (309, true)] {
            let mut tally = steady(at * MILLISECOND);
            tally.measured.saturating_record(at * MILLISECOND);
            series.enter(&tally);
            let late = if is_last { 0 } else { TICK / 2 };
            series.sample(is_last, server(at * MILLISECOND + late));
        }
        let samples = series.into_samples();
        assert_eq!(samples.len(), 3);
        for sample in &samples {
            let rate = sample.received as f64 / sample.span_seconds;
            assert!((rate - 1_000.0).abs() < 1e-6, "{rate}");
            assert!((sample.generator_cpus - 0.5).abs() < 1e-6, "{sample:?}");
            let server = sample.server_cpus.unwrap();
            assert!((server - 0.25).abs() < 1e-6, "{sample:?}");
        }
        assert_eq!(samples[2].received, 109);
        assert!((samples[2].at_seconds - 0.309).abs() < 1e-9);
        let within = |value: u64, wanted: u64| value.abs_diff(wanted * MILLISECOND) < MILLISECOND;
        assert!(within(samples[2].latency_p50, 300), "of both");
        assert!(within(samples[2].latency_max, 309));
    }

    #[test]
    fn a_sample_in_which_nothing_came_has_no_latency() {
        let mut series = Series::new(0, 0, SECOND);
        let mut tally = steady(TICK);
        tally.measured.saturating_record(MILLISECOND);
        series.enter(&tally);
        series.sample(false, None);
        series.enter(&steady(2 * TICK));
        series.sample(false, None);
        let samples = series.into_samples();
        assert!(samples[0].latency_max >= MILLISECOND);
        let last = samples[1];
        let latencies = [last.latency_p50, last.latency_p99, last.latency_max];
        assert_eq!(latencies, [0; 3]);
    }

    #[test]
    fn a_rise_that_never_stops_is_told_from_one_that_settles() {
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
