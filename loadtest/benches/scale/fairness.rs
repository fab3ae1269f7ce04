//! Fairness: the latency of a quiet topic while another topic floods at full speed.
//!
//! Both generators share the processors that the server does not have. The generator of the flood has a lower priority,
//! so that the figures show the server and not which generator is scheduled first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use loadtest::report::Report;
use loadtest::report::observer::{Observer, Progress, Silent, Stage};
use loadtest::report::unit::Unit;
use rustix::process::setpriority_process;

use crate::Findings;
use crate::rig::{Rig, load_at, median};
use crate::table::Table;

/// The quiet topic: five subscribers and 200 messages a second.
const QUIET: &str = "fanout --subscribers 5 --rate 200 --threads 1";

/// The quiet topic is measured this many times longer than other loads, because only a long run shows its slowest deliveries.
const QUIET_LASTS: u32 = 3;

/// The niceness of the flood's generator. Only root could give the other one more priority.
const FLOOD_NICE: i32 = 10;

/// The longest flood. Usually it ends when the quiet topic is measured.
const FLOOD_AT_MOST: Duration = Duration::from_mins(1);

/// The floods: a name and a load.
const FLOODS: [(&str, Option<&str>); 5] = [
    ("nothing", None),
    (
        "128 B to 1,000, 64 in flight",
        Some("fanout --subscribers 1000 --window 64 --threads 1"),
    ),
    (
        "128 B to 9,000, 256 in flight",
        Some("fanout --subscribers 9000 --window 256 --threads 1"),
    ),
    (
        "1,000 that all send 128 B, 2 in flight each",
        Some("chat --subscribers 1000 --window 2 --threads 1"),
    ),
    (
        "64 KiB to 200, 16 in flight",
        Some("fanout --subscribers 200 --size 64KiB --window 16 --threads 1"),
    ),
];

pub(crate) fn fairness(rig: &Rig) -> Result<Findings, String> {
    let mut table = Table::new(
        "Latency of a topic of five, 200 messages a second, while another topic floods",
        &[
            "the flood",
            "its deliveries/s",
            "median",
            "90 %",
            "99 %",
            "largest",
        ],
    );
    for (name, load) in FLOODS {
        let mut quiet = Vec::new();
        let mut floods = Vec::new();
        for _ in 0..rig.repeats() {
            let (report, flood) = one_round(rig, load)?;
            quiet.push(report);
            floods.extend(flood);
        }
        let latency = |p: fn(&Report) -> u64| {
            Unit::Nanoseconds.show(median(&quiet, |report| Some(p(report) as f64)))
        };
        let rate = median(&floods, Report::deliveries_per_second);
        table.rows.push(vec![
            name.to_owned(),
            Unit::Number.show(rate),
            latency(|report| report.latency.p50),
            latency(|report| report.latency.p90),
            latency(|report| report.latency.p99),
            latency(|report| report.latency.max),
        ]);
    }
    Ok(Findings {
        tables: vec![table],
        plots: Vec::new(),
    })
}

/// Tells when the flood is there, and when it is to end.
#[derive(Default)]
struct Flood {
    is_there: AtomicBool,
    is_over: AtomicBool,
}

impl Observer for Flood {
    fn on_progress(&self, progress: &Progress) {
        // Relaxed, here and below: the flag guards no other data.
        if progress.stage == Stage::Measuring {
            self.is_there.store(true, Ordering::Relaxed);
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// The reports of the quiet topic and of the flood.
fn one_round(rig: &Rig, load: Option<&str>) -> Result<(Report, Option<Report>), String> {
    let server = rig.start("fanwire", 1)?;
    let flood = Flood::default();
    thread::scope(|scope| {
        let flooding = load.map(|load| {
            scope.spawn(|| {
                // This thread passes it on to those that it starts.
                setpriority_process(None, FLOOD_NICE).map_err(|error| error.to_string())?;
                load_at(&server, "flood", load, FLOOD_AT_MOST, &flood)
            })
        });
        while let Some(flooding) = &flooding
            && !flood.is_there.load(Ordering::Relaxed)
            && !flooding.is_finished()
        {
            thread::sleep(Duration::from_millis(10));
        }
        let lasts = rig.duration() * QUIET_LASTS;
        let quiet = load_at(&server, "quiet", QUIET, lasts, &Silent);
        flood.is_over.store(true, Ordering::Relaxed);
        let flooding = flooding
            .map(|flooding| flooding.join().expect("it does not panic"))
            .transpose()?;
        Ok((quiet?, flooding))
    })
}
