//! The charts of a run, made from its report.

use crate::report::chart::{Axis, Chart, Scale, Series};
use crate::report::document::{Latency, Report, Sample};
use crate::report::unit::Unit;

/// The points of a distribution's percentile curve.
///
/// The last point, at 100%, has no place on an axis of nines. It is drawn half a value before the end, because
/// the largest value is expected there.
pub(super) fn percentiles(latency: &Latency) -> Vec<(f64, f64)> {
    let end = 1.0 - 0.5 / latency.count.max(1) as f64;
    let mut points = vec![(0.0, latency.min as f64)];
    points.extend(
        latency
            .curve
            .iter()
            .map(|point| (point.quantile.min(end), point.value as f64)),
    );
    points.dedup_by(|next, before| {
        next.0 <= before.0 && {
            before.1 = before.1.max(next.1);
            true
        }
    });
    points
}

/// A chart of percentile curves.
pub(super) fn distribution(title: &str, description: String, curves: Vec<Series>) -> Chart {
    Chart {
        title: title.to_owned(),
        description,
        x: Axis::new("share at or below", Unit::Share, Scale::Nines),
        y: Axis::new("latency", Unit::Nanoseconds, Scale::Log),
        series: curves,
    }
}

/// The charts over time, each with a sentence about how to read it.
pub(super) fn over_time(report: &Report) -> Vec<(Chart, &'static str)> {
    let mut charts = vec![
        (
            latency(report),
            "Of the deliveries of each sample. Gaps: nothing was delivered.",
        ),
        (throughput(report), "Per second, in each sample."),
        (cpu(report), "Processors in use: 1 is a whole one."),
    ];
    if report
        .samples
        .iter()
        .any(|sample| sample.server_rss_bytes.is_some())
    {
        charts.push((memory(report), "Resident memory of the server's process."));
    }
    charts.push((
        trouble(report),
        "Lost since the beginning; sent later than due, in each sample.",
    ));
    charts
}

fn timeline(title: &str, description: String, y: Axis, series: Vec<Series>) -> Chart {
    let x = Axis::new(
        "time since the measurement began",
        Unit::Seconds,
        Scale::Linear,
    );
    Chart {
        title: title.to_owned(),
        description,
        x,
        y,
        series,
    }
}

/// A value of each sample.
fn of(report: &Report, value: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    report
        .samples
        .iter()
        .map(|sample| (sample.at_seconds, value(sample)))
        .collect()
}

/// A value that some samples do not have.
fn of_some(report: &Report, value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    of(report, |sample| value(sample).unwrap_or(f64::NAN))
}

/// A latency of each sample; a gap where nothing was delivered.
fn of_delivered(report: &Report, value: impl Fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    of(report, |sample| {
        if sample.received > 0 {
            value(sample) as f64
        } else {
            f64::NAN
        }
    })
}

fn latency(report: &Report) -> Chart {
    let most = report
        .samples
        .iter()
        .map(|sample| sample.latency_max)
        .max()
        .unwrap_or(0);
    timeline(
        "Latency over time",
        format!(
            "Median, 99th percentile and maximum of each sample's latency, on a logarithmic axis. The largest is {}.",
            Unit::Nanoseconds.show(most as f64)
        ),
        Axis::new("latency", Unit::Nanoseconds, Scale::Log),
        vec![
            Series::line("median", of_delivered(report, |sample| sample.latency_p50)),
            Series::line("99%", of_delivered(report, |sample| sample.latency_p99)),
            Series::line("maximum", of_delivered(report, |sample| sample.latency_max)),
        ],
    )
}

fn throughput(report: &Report) -> Chart {
    let rate = |count: u64, sample: &Sample| count as f64 / sample.span_seconds.max(1e-9);
    timeline(
        "Throughput over time",
        "Messages published and deliveries received a second, on a logarithmic axis.".to_owned(),
        Axis::new("per second", Unit::Number, Scale::Log),
        vec![
            Series::steps(
                "published",
                of(report, |sample| rate(sample.published, sample)),
            ),
            Series::steps(
                "delivered",
                of(report, |sample| rate(sample.received, sample)),
            ),
        ],
    )
}

fn cpu(report: &Report) -> Chart {
    let mut series = vec![Series::steps(
        "generator",
        of(report, |sample| sample.generator_cpus),
    )];
    if report
        .samples
        .iter()
        .any(|sample| sample.server_cpus.is_some())
    {
        series.push(Series::steps(
            "server",
            of_some(report, |sample| sample.server_cpus),
        ));
    }
    timeline(
        "CPU over time",
        "Processors in use by the generator and, where it is known, the server.".to_owned(),
        Axis::new("processors", Unit::Number, Scale::FromZero),
        series,
    )
}

fn memory(report: &Report) -> Chart {
    let rss = |sample: &Sample| sample.server_rss_bytes.map(|bytes| bytes as f64);
    timeline(
        "Server memory over time",
        "Resident memory of the server's process.".to_owned(),
        Axis::new("resident", Unit::Bytes, Scale::FromZero),
        vec![Series::line("server", of_some(report, rss))],
    )
}

fn trouble(report: &Report) -> Chart {
    timeline(
        "Lost and late over time",
        "Deliveries found lost so far, and messages sent later than due in each sample.".to_owned(),
        Axis::new("count", Unit::Count, Scale::FromZero),
        vec![
            Series::steps("lost so far", of(report, |sample| sample.lost as f64)),
            Series::steps("sent late", of(report, |sample| sample.sent_late as f64)),
        ],
    )
}
