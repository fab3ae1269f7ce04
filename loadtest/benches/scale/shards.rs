//! Shards: the cost of a delivery with more of them on one processor. There they cost something and gain nothing.

use loadtest::report::Report;
use loadtest::report::chart::{Axis, Chart, Scale, Series};
use loadtest::report::unit::Unit;

use crate::Findings;
use crate::rig::{Case, Rig, median};
use crate::table::Table;

/// Event loops of the relay.
const SHARDS: [usize; 4] = [1, 2, 4, 8];

/// The loads, each with a name. Publishers connect last. After a crowd that fills all shards they are spread evenly, so
/// that all shards publish. The first clients of a smaller topic live on its owner.
const LOADS: [(&str, &str); 9] = [
    (
        "one to a thousand, 64 in flight",
        "fanout --subscribers 1000 --window 64",
    ),
    (
        "64 to a thousand, from all shards, 2 in flight each",
        "fanout --subscribers 1000 --publishers 64 --window 2",
    ),
    (
        "64 to nine thousand, from all shards, 2 in flight each",
        "fanout --subscribers 9000 --publishers 64 --window 2",
    ),
    (
        "fifty that all send, 4 in flight each",
        "chat --subscribers 50 --window 4",
    ),
    (
        "300 that all send, 4 in flight each",
        "chat --subscribers 300 --window 4",
    ),
    (
        "64 to a hundred, 5,000 a second",
        "fanout --subscribers 100 --publishers 64 --rate 5000",
    ),
    (
        "5,000 a second to 200",
        "fanout --subscribers 200 --rate 5000",
    ),
    (
        "9,000 topics of two, one in flight in each",
        "fanout --topics 9000 --subscribers 9000 --publishers 9000 --window 1",
    ),
    (
        "9,000 topics of two, 10,000 a second",
        "fanout --topics 9000 --subscribers 9000 --publishers 9000 --rate 10000",
    ),
];

pub(crate) fn shards(rig: &Rig) -> Result<Findings, String> {
    let mut table = Table::new(
        "CPU per delivery, by shards on one processor",
        &[
            "load",
            "1",
            "2",
            "4",
            "8",
            "8 : 1",
            "messages a read, 1 and 8",
            "8 : 1 for a read",
        ],
    );
    let mut series = Vec::new();
    for (name, load) in LOADS {
        let cases = SHARDS.map(|workers| Case {
            server: "fanwire",
            workers,
            load: load.to_owned(),
        });
        let reports = rig.measure(&cases)?;
        let medians = |figure: fn(&Report) -> Option<f64>| -> Vec<f64> {
            let reports = reports.iter();
            reports.map(|reports| median(reports, figure)).collect()
        };
        let (costs, joined) = (
            medians(Report::server_cpu_ns_per_delivery),
            medians(Report::messages_per_read),
        );
        let last = SHARDS.len() - 1;
        let ratio = costs[last] / costs[0];
        let mut row = vec![name.to_owned()];
        row.extend(costs.iter().map(|cost| Unit::Nanoseconds.show(*cost)));
        row.push(format!("{ratio:.2}"));
        row.push(format!("{:.1}, {:.1}", joined[0], joined[last]));
        row.push(format!("{:.2}", ratio * joined[last] / joined[0]));
        table.rows.push(row);
        let points = SHARDS.iter().map(|&shards| shards as f64).zip(costs);
        series.push(Series::line(name, points.collect()));
    }
    let chart = Chart {
        title: table.title.clone(),
        description: "A line for each load, from one shard to eight".to_owned(),
        x: Axis::new("shards", Unit::Count, Scale::Log),
        y: Axis::new("CPU per delivery", Unit::Nanoseconds, Scale::Log),
        series,
    };
    Ok(Findings {
        tables: vec![table],
        plots: vec![("shards.svg".to_owned(), chart.standalone())],
    })
}
