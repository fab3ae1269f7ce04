//! Curves: how the cost of a delivery changes with one thing at a time, beside the floor.

use loadtest::report::Report;
use loadtest::report::chart::{Axis, Chart, Scale, Series};
use loadtest::report::unit::Unit;

use crate::Findings;
use crate::rig::{Case, Rig, median};
use crate::table::Table;

const FANWIRE: &str = "fanwire";
const FLOOR: &str = "floor";

/// A curve to be measured.
struct Curve {
    name: &'static str,
    title: &'static str,
    axis: Axis,
    /// The points: each with its value on the axis and its load.
    points: Vec<(f64, String)>,
}

/// One topic with ever more subscribers.
pub(crate) fn clients(rig: &Rig) -> Result<Findings, String> {
    let points = [1, 3, 10, 30, 100, 300, 1000, 3000, 9000];
    rig.curve(&Curve {
        name: "clients",
        title: "CPU per delivery, by subscribers of one topic (128 B, 64 in flight)",
        axis: Axis::new("subscribers", Unit::Count, Scale::Log),
        points: points
            .map(|n| {
                (
                    f64::from(n),
                    format!("fanout --subscribers {n} --window 64"),
                )
            })
            .to_vec(),
    })
}

/// Ever more topics of one publisher and one subscriber, at the same rate over all of them. Then the same with one
/// topic in a hundred active.
pub(crate) fn topics(rig: &Rig) -> Result<Findings, String> {
    let line = |topics: u32, active: u32, rest: &str| {
        format!(
            "fanout --topics {topics} --subscribers {topics} --publishers {active} --rate 10000{rest}"
        )
    };
    let mut all = rig.curve(&Curve {
        name: "topics",
        title: "CPU per delivery, by topics of two (128 B, 10,000 messages a second over all)",
        axis: Axis::new("topics", Unit::Count, Scale::Log),
        points: [10, 100, 1000, 3000, 9000]
            .map(|n| (f64::from(n), line(n, n, "")))
            .to_vec(),
    })?;
    let few = rig.curve(&Curve {
        name: "topics-active",
        title: "The same, with one topic in a hundred active",
        axis: Axis::new("topics", Unit::Count, Scale::Log),
        points: [1000, 3000, 9000]
            .map(|n| (f64::from(n), line(n, n / 100, " --active 0.01")))
            .to_vec(),
    })?;
    all.tables.extend(few.tables);
    Ok(all)
}

/// Ever larger messages, with 256 KiB in flight, but 64 messages at most and one at least.
pub(crate) fn size(rig: &Rig) -> Result<Findings, String> {
    let sizes: [u32; 9] = [
        16,
        64,
        256,
        1 << 10,
        4 << 10,
        16 << 10,
        64 << 10,
        256 << 10,
        1 << 20,
    ];
    rig.curve(&Curve {
        name: "size",
        title: "CPU per delivery, by payload (200 subscribers, 256 KiB in flight, but 64 messages at most and one at least)",
        axis: Axis::new("payload", Unit::Bytes, Scale::Log),
        points: sizes
            .map(|size| {
                let window = ((256 << 10) / size).clamp(1, 64);
                let load = format!("fanout --subscribers 200 --size {size} --window {window} --busy-poll");
                (f64::from(size), load)
            })
            .to_vec(),
    })
}

impl Rig {
    /// Measures it on the relay and on the floor.
    fn curve(&self, curve: &Curve) -> Result<Findings, String> {
        let cases: Vec<Case> = curve
            .points
            .iter()
            .flat_map(|(_, load)| [FANWIRE, FLOOR].map(|server| (server, load)))
            .map(|(server, load)| Case {
                server,
                workers: 1,
                load: load.clone(),
            })
            .collect();
        let reports = self.measure(&cases)?;
        let mut table = Table::new(
            curve.title,
            &[
                &curve.axis.label,
                FANWIRE,
                FLOOR,
                "of the floor",
                "messages per read",
                "median latency",
                "99 %",
            ],
        );
        let mut lines = [Vec::new(), Vec::new()];
        for ((x, _), reports) in curve.points.iter().zip(reports.chunks(2)) {
            let costs =
                [0, 1].map(|server| median(&reports[server], Report::server_cpu_ns_per_delivery));
            for (line, cost) in lines.iter_mut().zip(costs) {
                line.push((*x, cost));
            }
            let latency = |p: fn(&loadtest::report::Latency) -> u64| {
                Unit::Nanoseconds.show(median(
                    &reports[0],
                    |report| Some(p(&report.latency) as f64),
                ))
            };
            table.rows.push(vec![
                curve.axis.unit.show(*x),
                Unit::Nanoseconds.show(costs[0]),
                Unit::Nanoseconds.show(costs[1]),
                format!("{:.2}", costs[0] / costs[1]),
                Unit::Number.show(median(&reports[0], Report::messages_per_read)),
                latency(|latency| latency.p50),
                latency(|latency| latency.p99),
            ]);
        }
        let [relay, floor] = lines;
        let chart = Chart {
            title: format!("CPU per delivery, by {}", curve.axis.label),
            description: format!("{}, of the relay and of the floor", curve.title),
            x: curve.axis.clone(),
            y: Axis::new("CPU per delivery", Unit::Nanoseconds, Scale::Log),
            series: vec![Series::line(FANWIRE, relay), Series::line(FLOOR, floor)],
        };
        Ok(Findings {
            tables: vec![table],
            plots: vec![(format!("{}.svg", curve.name), chart.standalone())],
        })
    }
}
