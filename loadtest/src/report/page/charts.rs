//! The charts of a run, made from its report.

use crate::report::chart::{Axis, Chart, Scale, Series, median};
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

/// The charts over time, each with a sentence about how to read it. One that would show nothing is left out.
pub(super) fn over_time(report: &Report) -> Vec<(Chart, &'static str)> {
    let charts = [
        (
            latency(report),
            "Of the deliveries of each sample. Gaps: nothing was delivered.",
        ),
        (
            throughput(report),
            "Per second, in each sample. Gaps: nothing was sent or delivered.",
        ),
        (cpu(report), "Processors in use: 1 is a whole one."),
        (memory(report), "Resident memory of the server's process."),
        (
            trouble(report),
            "Lost since the beginning; sent later than due, in each sample.",
        ),
    ];
    let shown = charts.into_iter().filter(|(chart, _)| !chart.is_empty());
    shown.collect()
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

/// A sample that lasts so many times as long as the middle one was a stall of the generator. No line leads over it.
const STALL: f64 = 2.5;

/// The series as a line that has a gap wherever the generator stalled. A line over the gap would show values that nobody
/// has measured.
fn line(report: &Report, name: &str, points: Vec<(f64, f64)>) -> Series {
    let mut spans: Vec<f64> = report.samples.iter().map(|it| it.span_seconds).collect();
    spans.sort_by(f64::total_cmp);
    let usual = median(&spans).unwrap_or(0.0);
    let mut with_gaps = Vec::with_capacity(points.len());
    for (sample, point) in report.samples.iter().zip(points) {
        if sample.span_seconds > STALL * usual {
            with_gaps.push((point.0 - sample.span_seconds / 2.0, f64::NAN));
        }
        with_gaps.push(point);
    }
    Series::line(name, with_gaps)
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
            line(
                report,
                "median",
                of_delivered(report, |sample| sample.latency_p50),
            ),
            line(
                report,
                "99%",
                of_delivered(report, |sample| sample.latency_p99),
            ),
            line(
                report,
                "maximum",
                of_delivered(report, |sample| sample.latency_max),
            ),
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
    let all = [
        Series::steps("generator", of(report, |sample| sample.generator_cpus)),
        Series::steps("server", of_some(report, |sample| sample.server_cpus)),
    ];
    let series = with_values(all);
    let title = if series.len() > 1 {
        "CPU over time"
    } else {
        "CPU of the generator over time"
    };
    timeline(
        title,
        "Processors in use by the generator and, where it is known, the server.".to_owned(),
        Axis::new("processors", Unit::Number, Scale::FromZero),
        series,
    )
}

/// The series that have a value.
fn with_values(all: [Series; 2]) -> Vec<Series> {
    all.into_iter()
        .filter(|series| series.points.iter().any(|point| point.1.is_finite()))
        .collect()
}

fn memory(report: &Report) -> Chart {
    let rss = |sample: &Sample| sample.server_rss_bytes.map(|bytes| bytes as f64);
    timeline(
        "Server memory over time",
        "Resident memory of the server's process.".to_owned(),
        Axis::new("resident", Unit::Bytes, Scale::FromZero),
        vec![line(report, "server", of_some(report, rss))],
    )
}

fn trouble(report: &Report) -> Chart {
    // A line of nothing but zeros says no more than the tile does.
    let series = |name: &str, count: fn(&Sample) -> u64| {
        let points = if report.samples.iter().any(|sample| count(sample) > 0) {
            of(report, |sample| count(sample) as f64)
        } else {
            Vec::new()
        };
        Series::steps(name, points)
    };
    let series = with_values([
        series("lost so far", |sample| sample.lost),
        series("sent late", |sample| sample.sent_late),
    ]);
    // A single line has no legend, so the title says which it is.
    let title = match series.as_slice() {
        [only] if only.name == "sent late" => "Sent late over time",
        [_] => "Lost over time",
        _ => "Lost and late over time",
    };
    timeline(
        title,
        "Deliveries found lost so far, and messages sent later than due in each sample.".to_owned(),
        Axis::new("count", Unit::Count, Scale::FromZero),
        series,
    )
}
