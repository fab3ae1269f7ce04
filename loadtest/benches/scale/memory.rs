//! Memory: the cost of idle connections, and the memory that is left after a burst.

use std::fs;
use std::thread;
use std::time::Duration;

use loadtest::report::spread;
use loadtest::report::unit::Unit;
use loadtest::report::{Report, Server};

use crate::Findings;
use crate::rig::{Rig, median};
use crate::table::Table;

/// The loads, each with a name. All messages of a burst are in flight at once.
const LOADS: [(&str, &str); 4] = [
    ("9,000 that are idle", "idle --subscribers 9000"),
    (
        "100 × 128 B to 2,000",
        "burst --subscribers 2000 --burst 100",
    ),
    (
        "64 × 1 MiB to 100",
        "burst --subscribers 100 --publishers 8 --burst 64 --size 1MiB",
    ),
    (
        "64 KiB from each of 1,000",
        "burst --subscribers 10 --publishers 1000 --burst 1000 --size 64KiB",
    ),
];

/// Time that the relay is left alone before the last look at its memory. Its allocator keeps freed memory for half of
/// that, one second.
const QUIET: Duration = Duration::from_secs(2);

pub(crate) fn memory(rig: &Rig) -> Result<Findings, String> {
    let mut table = Table::new(
        "Resident memory of the relay",
        &[
            "load",
            "before",
            "at most",
            "all delivered",
            "all gone, two seconds later",
        ],
    );
    for (name, load) in LOADS {
        let mut reports: Vec<Report> = Vec::new();
        let mut left = Vec::new();
        for _ in 0..rig.repeats() {
            let server = rig.start("fanwire", 1)?;
            reports.push(rig.load(&server, load)?);
            thread::sleep(QUIET);
            left.push(resident(server.pid())?);
        }
        let bytes = |figure: fn(&Server) -> u64| {
            let figure = |report: &Report| Some(figure(report.server.as_ref()?) as f64);
            Unit::Bytes.show(median(&reports, figure))
        };
        let left = spread(left.into_iter()).map_or(0.0, |spread| spread.median);
        table.rows.push(vec![
            name.to_owned(),
            bytes(|server| server.rss_before_bytes),
            bytes(|server| server.rss_peak_bytes),
            bytes(|server| server.rss_after_bytes),
            Unit::Bytes.show(left),
        ]);
    }
    Ok(Findings {
        tables: vec![table],
        plots: Vec::new(),
    })
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<f64, String> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Rss:"));
    let kibibytes = lines
        .next()
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes
        .map(|kibibytes| kibibytes * 1024.0)
        .ok_or(format!("{file} has no Rss"))
}
