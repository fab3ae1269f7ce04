//! Turns the published numbers of the shards into the text that Prometheus reads.
//!
//! The [`exporter`](super::exporter) asks its [`Exposition`] for the text at every scrape. The numbers are read and added up
//! only then. The [catalogue](super::catalogue) says which metrics there are.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
};
use prometheus::{Registry, TextEncoder};
use rustix::time::{ClockId, clock_gettime};

use super::catalogue::{Kind, Metric, Source, all};
use super::engines::{LOSSES, PublishedEngines};
use super::labels::RELOADS;
use super::stats::{ConfigStatus, LATENCY_BOUNDS_MICROS, Published, Stats, TlsStatus};
use crate::ids::ShardId;

const MICROS_PER_SECOND: f64 = 1e6;
const NANOS_PER_SECOND: f64 = 1e9;

/// The contents of the inbox of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxDepth {
    /// Envelopes.
    pub(crate) envelopes: u64,
    /// Bytes of their messages.
    pub(crate) bytes: u64,
}

/// All metrics of one relay. Each relay has a registry of its own, so that two in one process do not mix.
pub struct Exposition {
    registry: Registry,
}

impl Exposition {
    /// An exposition of the numbers of `shards`, shard 0 first, of the process, of the limit on connections, and
    /// of the certificate if there is one.
    ///
    /// The metrics thread calls `inbox_depth` for every shard at every scrape.
    pub fn new(
        shards: Vec<Arc<Published>>,
        inbox_depth: impl Fn(ShardId) -> InboxDepth + Send + Sync + 'static,
        max_connections: usize,
        tls: Option<Arc<TlsStatus>>,
    ) -> Exposition {
        let config = Arc::new(ConfigStatus::new(max_connections));
        Exposition::with_config(shards, inbox_depth, config, tls, None)
    }

    /// The same, of a configuration that may be read again, with the numbers of the engines if there are any.
    pub(crate) fn with_config(
        shards: Vec<Arc<Published>>,
        inbox_depth: impl Fn(ShardId) -> InboxDepth + Send + Sync + 'static,
        config: Arc<ConfigStatus>,
        tls: Option<Arc<TlsStatus>>,
        engines: Option<Arc<PublishedEngines>>,
    ) -> Exposition {
        let registry = Registry::new();
        let collector = ShardCollector {
            descs: descs(),
            shards,
            inbox_depth: Box::new(inbox_depth),
            config,
            tls,
            engines,
        };
        registry
            .register(Box::new(collector))
            .expect("the catalogue's names are distinct");
        registry
            .register(Box::new(ProcessCollector::for_self()))
            .expect("no row of ours has a name of process_*");
        Exposition { registry }
    }

    /// The numbers of this moment in Prometheus' text format 0.0.4, ordered by name.
    ///
    /// # Errors
    /// None that is known. The encoder refuses families without a name or a sample, and there are none.
    pub(crate) fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

/// The rows of the catalogue that are filled in here.
fn own_metrics() -> impl Iterator<Item = &'static Metric> {
    all().filter(|metric| !matches!(metric.source, Source::Process))
}

fn descs() -> Vec<Desc> {
    own_metrics().map(desc).collect()
}

fn desc(metric: &Metric) -> Desc {
    let labels = metric.labels().iter().map(ToString::to_string).collect();
    Desc::new(
        metric.name.into(),
        metric.help.into(),
        labels,
        HashMap::new(),
    )
    .expect("the catalogue's names and labels are valid")
}

struct ShardCollector {
    descs: Vec<Desc>,
    shards: Vec<Arc<Published>>,
    inbox_depth: Box<dyn Fn(ShardId) -> InboxDepth + Send + Sync>,
    config: Arc<ConfigStatus>,
    tls: Option<Arc<TlsStatus>>,
    engines: Option<Arc<PublishedEngines>>,
}

impl Collector for ShardCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let scrape = self.read();
        own_metrics()
            .map(|metric| family(metric, scrape.samples(metric)))
            .filter(|family| !family.get_metric().is_empty())
            .collect()
    }
}

impl ShardCollector {
    fn read(&self) -> Scrape {
        let shards: Vec<Stats> = self.shards.iter().map(|shard| shard.read()).collect();
        let ids = (0..=u16::MAX).map(ShardId).take(shards.len());
        Scrape {
            total: shards.iter().cloned().sum(),
            inboxes: ids.map(&self.inbox_depth).collect(),
            shards,
            max_connections: self.config.max_connections(),
            tls_expiry: self.tls.as_ref().map(|tls| tls.expires_at()),
            tls_reloads: self.tls.as_ref().map_or((0, 0), |tls| tls.reloads()),
            key_reloads: self.config.key_reloads().counts(),
            config_reloads: self.config.reloads().counts(),
            config_success: self.config.last_success(),
            engines: self.engines.clone(),
        }
    }
}

/// The numbers of one scrape. They are read once, so that a total and its parts agree.
struct Scrape {
    shards: Vec<Stats>,
    total: Stats,
    inboxes: Vec<InboxDepth>,
    max_connections: u64,
    tls_expiry: Option<i64>,
    tls_reloads: (u64, u64),
    key_reloads: (u64, u64),
    engines: Option<Arc<PublishedEngines>>,
    config_reloads: (u64, u64),
    config_success: i64,
}

impl Scrape {
    fn samples(&self, metric: &Metric) -> Vec<Sample> {
        let kind = metric.kind;
        match metric.source {
            Source::Total(stat) => vec![number(kind, self.total.value(stat) as f64)],
            Source::Cases(label, cases) => {
                let cases = cases.iter();
                cases
                    .map(|&(case, stat)| labelled(label, case, kind, self.total.value(stat) as f64))
                    .collect()
            }
            Source::PerShard(stat) => {
                per_shard(kind, &self.shards, |shard| shard.value(stat) as f64)
            }
            Source::PerShardSeconds(stat) => per_shard(kind, &self.shards, |shard| {
                shard.value(stat) as f64 / MICROS_PER_SECOND
            }),
            Source::InboxEnvelopes => {
                per_shard(kind, &self.inboxes, |inbox| inbox.envelopes as f64)
            }
            Source::InboxBytes => per_shard(kind, &self.inboxes, |inbox| inbox.bytes as f64),
            Source::MaxConnections => vec![number(kind, self.max_connections as f64)],
            Source::FanoutLatency => vec![latency(&self.total)],
            Source::TlsExpiry => {
                let expiry = self.tls_expiry.iter();
                expiry.map(|&at| number(kind, at as f64)).collect()
            }
            Source::TlsReloads => reloads(kind, self.tls_reloads),
            Source::KeyReloads => reloads(kind, self.key_reloads),
            Source::Engine(_)
            | Source::EngineSeconds(_)
            | Source::EngineLosses
            | Source::Cluster(_)
            | Source::ClusterCases(..) => {
                let engines = self.engines.as_deref();
                engines.map_or_else(Vec::new, |engines| of_engines(metric, engines))
            }
            Source::ConfigReloads => reloads(kind, self.config_reloads),
            Source::ConfigSuccess => vec![number(kind, self.config_success as f64)],
            Source::BuildInfo => vec![build_info(metric)],
            Source::CpuTime => vec![number(kind, cpu_seconds())],
            Source::Process => unreachable!("own_metrics leaves these out"),
        }
    }
}

/// The series of a metric for each engine.
fn of_engines(metric: &Metric, engines: &PublishedEngines) -> Vec<Sample> {
    let kind = metric.kind;
    let named = |name, value| labelled("engine", name, kind, value);
    match metric.source {
        Source::Engine(stat) => engines
            .totals(stat)
            .map(|(name, value)| named(name, value as f64))
            .collect(),
        Source::EngineSeconds(stat) => engines
            .totals(stat)
            .map(|(name, value)| named(name, value as f64 / MICROS_PER_SECOND))
            .collect(),
        Source::Cluster(stat) => vec![number(kind, engines.total(stat) as f64)],
        Source::ClusterCases(label, cases) => cases
            .iter()
            .map(|&(case, stat)| labelled(label, case, kind, engines.total(stat) as f64))
            .collect(),
        _ => engines
            .losses()
            .flat_map(|(name, losses)| {
                LOSSES.into_iter().zip(losses).map(move |(reason, count)| {
                    let mut sample = named(name, count as f64);
                    sample.set_label(vec![pair("engine", name), pair("reason", reason)]);
                    sample
                })
            })
            .collect(),
    }
}

fn reloads(kind: Kind, (ok, failed): (u64, u64)) -> Vec<Sample> {
    let results = RELOADS.iter().zip([ok, failed]);
    results
        .map(|(result, count)| labelled("result", result, kind, count as f64))
        .collect()
}

fn family(metric: &Metric, samples: Vec<Sample>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.into());
    family.set_help(metric.help.into());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(samples);
    family
}

fn number(kind: Kind, value: f64) -> Sample {
    let mut sample = Sample::default();
    match kind {
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        }
        Kind::Gauge => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
        Kind::Histogram => unreachable!("a histogram is no single number"),
    }
    sample
}

fn labelled(label: &str, label_value: &str, kind: Kind, value: f64) -> Sample {
    let mut sample = number(kind, value);
    sample.set_label(vec![pair(label, label_value)]);
    sample
}

fn pair(label: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(label.into());
    pair.set_value(value.into());
    pair
}

fn per_shard<T>(kind: Kind, shards: &[T], value: impl Fn(&T) -> f64) -> Vec<Sample> {
    let shards = shards.iter().enumerate();
    shards
        .map(|(i, shard)| labelled("shard", &i.to_string(), kind, value(shard)))
        .collect()
}

fn latency(total: &Stats) -> Sample {
    let mut cumulative = 0;
    let bounded = LATENCY_BOUNDS_MICROS.iter().zip(total.latency_buckets());
    let buckets = bounded.map(|(&bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound as f64 / MICROS_PER_SECOND);
        bucket.set_cumulative_count(cumulative);
        bucket
    });

    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(total.latency_buckets().iter().sum());
    histogram.set_sample_sum(total.latency_sum_micros() as f64 / MICROS_PER_SECOND);
    let mut sample = Sample::default();
    sample.set_histogram(histogram);
    sample
}

fn build_info(metric: &Metric) -> Sample {
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let values = [
        env!("CARGO_PKG_VERSION"),
        profile,
        std::env::consts::OS,
        std::env::consts::ARCH,
    ];
    debug_assert_eq!(values.len(), metric.labels().len());
    let mut sample = number(metric.kind, 1.0);
    sample.set_label(
        metric
            .labels()
            .iter()
            .zip(values)
            .map(|(label, value)| pair(label, value))
            .collect(),
    );
    sample
}

fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / NANOS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::metrics::catalogue::METRICS;
    use crate::metrics::stats::{Stat, TlsStatus};

    /// The exposition of two shards that counted what `count` says.
    fn text(count: impl Fn(u64, &mut Stats)) -> String {
        let shards = [0, 1].map(|shard| {
            let mut stats = Stats::default();
            count(shard, &mut stats);
            let published = Arc::new(Published::default());
            published.publish(&stats);
            published
        });
        let depth = |shard: ShardId| InboxDepth {
            envelopes: u64::from(shard.0) + 5,
            bytes: 1000,
        };
        Exposition::new(
            shards.into(),
            depth,
            20_000,
            Some(Arc::new(TlsStatus::new(1_800_000_000))),
        )
        .text()
        .unwrap()
    }

    fn assert_lines(text: &str, expected: &[&str]) {
        for line in expected {
            assert!(
                text.lines().any(|other| other == *line),
                "no line {line} in\n{text}"
            );
        }
    }

    #[test]
    fn the_exposition_shows_every_metric_of_the_catalogue_and_no_other() {
        let text = text(|_, _| ());
        let parsed =
            prometheus_parse::Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let shown: BTreeMap<_, _> = parsed
            .docs
            .iter()
            .map(|(name, help)| (name.as_str(), help.as_str()))
            .collect();
        let listed: BTreeMap<_, _> = METRICS
            .iter()
            .map(|metric| (metric.name, metric.help))
            .collect();
        assert_eq!(shown, listed);
        for metric in METRICS {
            assert_lines(
                &text,
                &[&format!("# TYPE {} {}", metric.name, metric.kind.as_str())],
            );
        }
    }

    #[test]
    fn every_series_that_counts_events_is_there_at_zero_from_the_start() {
        let text = text(|_, _| ());
        for metric in METRICS {
            for &(case, _) in cases(metric) {
                assert_lines(
                    &text,
                    &[&format!(
                        "{}{{{}=\"{case}\"}} 0",
                        metric.name,
                        metric.labels()[0]
                    )],
                );
            }
        }
        assert_lines(
            &text,
            &[
                "websocket_disconnections_total 0",
                "fanwire_shard_turns_total{shard=\"1\"} 0",
                "fanwire_fanout_latency_seconds_bucket{le=\"+Inf\"} 0",
                "fanwire_fanout_latency_seconds_sum 0",
                "fanwire_fanout_latency_seconds_count 0",
            ],
        );
    }

    fn cases(metric: &Metric) -> &'static [(&'static str, Stat)] {
        if let Source::Cases(_, cases) = metric.source {
            cases
        } else {
            &[]
        }
    }

    #[test]
    fn a_total_adds_up_the_shards() {
        let text = text(|shard, stats| stats.add(Stat::Messages, 10 + shard));
        assert_lines(&text, &["websocket_messages_total 21"]);
    }

    #[test]
    fn cases_are_counted_apart() {
        let text = text(|_, stats| {
            stats.inc(Stat::WritesFull);
            stats.add(Stat::WritesBlocked, 2);
        });
        assert_lines(
            &text,
            &[
                "fanwire_write_calls_total{result=\"full\"} 2",
                "fanwire_write_calls_total{result=\"would_block\"} 4",
            ],
        );
    }

    #[test]
    fn shards_are_shown_apart_and_busy_time_in_seconds() {
        let text = text(|shard, stats| stats.add(Stat::BusyMicros, 1_500_000 + shard));
        assert_lines(
            &text,
            &[
                "fanwire_shard_busy_seconds_total{shard=\"0\"} 1.5",
                "fanwire_shard_busy_seconds_total{shard=\"1\"} 1.500001",
            ],
        );
    }

    #[test]
    fn the_depth_of_each_inbox_is_asked_for_at_the_scrape() {
        assert_lines(
            &text(|_, _| ()),
            &[
                "fanwire_inbox_envelopes{shard=\"0\"} 5",
                "fanwire_inbox_envelopes{shard=\"1\"} 6",
                "fanwire_inbox_bytes{shard=\"1\"} 1000",
            ],
        );
    }

    #[test]
    fn latencies_are_cumulative_buckets_in_seconds() {
        let text = text(|_, stats| {
            stats.observe_latency_micros(50);
            stats.observe_latency_micros(51);
            stats.observe_latency_micros(20_000_000);
        });
        assert_lines(
            &text,
            &[
                "fanwire_fanout_latency_seconds_bucket{le=\"0.00005\"} 2",
                "fanwire_fanout_latency_seconds_bucket{le=\"0.0001\"} 4",
                "fanwire_fanout_latency_seconds_bucket{le=\"10\"} 4",
                "fanwire_fanout_latency_seconds_bucket{le=\"+Inf\"} 6",
                "fanwire_fanout_latency_seconds_count 6",
                "fanwire_fanout_latency_seconds_sum 40.000202",
            ],
        );
    }

    #[test]
    fn the_limit_on_connections_is_shown() {
        assert_lines(&text(|_, _| ()), &["fanwire_max_connections 20000"]);
    }

    #[test]
    fn cpu_time_is_counted_in_fractions_of_a_second() {
        let readings = std::iter::repeat_with(cpu_seconds).take(100);
        assert!(readings.map(f64::fract).any(|fraction| fraction > 0.0));
    }

    #[test]
    fn the_build_is_named_by_its_version() {
        let version = env!("CARGO_PKG_VERSION");
        assert!(text(|_, _| ()).contains(&format!("version=\"{version}\"")));
    }
}
