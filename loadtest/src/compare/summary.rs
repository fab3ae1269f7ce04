//! A server's figures over its runs: the median and the ends, since a machine is never quite quiet.

use super::table::{Verdict, verdict};
use crate::chart::median;
use crate::report::{Comparison, Report, Spread, Summary};

/// Fills in the summaries of all servers, their multiples of the floor's CPU, and the verdict.
pub fn summarise(comparison: &mut Comparison) {
    for server in &mut comparison.servers {
        server.summary = (!server.runs.is_empty()).then(|| of(&server.runs));
    }
    let floor = comparison
        .servers
        .iter()
        .find(|server| Some(&server.name) == comparison.floor.as_ref());
    let floor = floor.and_then(|floor| floor.summary.as_ref()?.cpu_ns_per_delivery);
    for summary in comparison
        .servers
        .iter_mut()
        .filter_map(|server| server.summary.as_mut())
    {
        summary.cpu_of_floor = multiple(summary.cpu_ns_per_delivery, floor);
    }
    comparison.passed = comparison
        .servers
        .iter()
        .all(|server| verdict(server) != Verdict::Failed);
}

fn multiple(own: Option<Spread>, floor: Option<Spread>) -> Option<f64> {
    let (own, floor) = (own?.median, floor?.median);
    (floor > 0.0).then_some(own / floor)
}

fn of(runs: &[Report]) -> Summary {
    let has_deliveries = |run: &&Report| run.deliveries.received_while_measured > 0;
    let moved: Vec<&Report> = runs.iter().filter(has_deliveries).collect();
    let of_moved = |figure: fn(&Report) -> f64| spread(moved.iter().map(|run| figure(run)));
    let servers = || runs.iter().filter_map(|run| run.server.as_ref());
    Summary {
        passed_runs: runs.iter().filter(|run| run.passed).count(),
        cpu_ns_per_delivery: spread(servers().filter_map(|server| server.cpu_ns_per_delivery)),
        cpu_of_floor: None,
        server_cpus: spread(runs.iter().filter_map(|run| {
            let cpu = run.server.as_ref()?.cpu_seconds;
            Some(cpu / run.measured_seconds)
        })),
        messages_per_read: of_moved(|run| {
            run.deliveries.received as f64 / run.deliveries.reads.max(1) as f64
        }),
        deliveries_per_second: of_moved(|run| {
            run.deliveries.received_while_measured as f64 / run.measured_seconds
        }),
        latency_p50: of_moved(|run| run.latency.p50 as f64),
        latency_p99: of_moved(|run| run.latency.p99 as f64),
        rss_peak_bytes: spread(servers().map(|server| server.rss_peak_bytes as f64)),
        bytes_per_connection: spread(servers().filter_map(|server| server.bytes_per_connection)),
    }
}

/// The middle and the ends of some values; nothing of none.
pub fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    Some(Spread {
        median: median(&values)?,
        min,
        max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle_or_between_the_two_there() {
        let of = |values: &[f64]| spread(values.iter().copied());
        let odd = Spread {
            median: 2.0,
            min: 1.0,
            max: 9.0,
        };
        assert_eq!(of(&[9.0, 1.0, 2.0]), Some(odd));
        assert_eq!(
            of(&[4.0, 1.0, 2.0, 9.0]).map(|spread| spread.median),
            Some(3.0)
        );
        assert_eq!(of(&[f64::NAN]), None);
    }
}
