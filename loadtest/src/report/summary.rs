//! The figures of a server over its runs: median, smallest and largest, since no machine is ever quite quiet.

use super::table::{Verdict, verdict};
use crate::report::chart::median;
use crate::report::document::{Comparison, Report, Spread, Summary};

/// Fills in the summaries of all servers, their multiples of the floor's CPU, and the verdict.
pub(crate) fn summarise(comparison: &mut Comparison) {
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
    let of = |figure: fn(&Report) -> Option<f64>| spread(runs.iter().filter_map(figure));
    Summary {
        passed_runs: runs.iter().filter(|run| run.passed).count(),
        cpu_ns_per_delivery: of(Report::server_cpu_ns_per_delivery),
        cpu_of_floor: None,
        server_cpus: of(Report::server_cpus),
        messages_per_read: of(Report::messages_per_read),
        deliveries_per_second: of(Report::deliveries_per_second),
        latency_p50: of(|run| run.latency(|latency| latency.p50)),
        latency_p99: of(|run| run.latency(|latency| latency.p99)),
        rss_peak_bytes: of(Report::server_peak_bytes),
        bytes_per_connection: of(|run| run.server.as_ref()?.bytes_per_connection),
    }
}

/// The median, the smallest and the largest of some values; `None` if there are none.
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
