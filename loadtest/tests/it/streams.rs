//! Subscribers that read server-sent events, against the real relay: they are checked like all others.

use std::time::Duration;

use crate::support::pass;
use crate::world::World;

#[test]
fn readers_of_events_pass_every_scenario() {
    for history in [Duration::ZERO, Duration::from_mins(1)] {
        let world = World::start(|config| config.history.max_age = history);
        for line in [
            "fanout --subscribers 12 --sse 50%",
            "fanout --subscribers 8 --sse 100% --text --size 3000 --threads 2",
            "churn --subscribers 8 --churn-rate 100 --sse 25%",
            "slow --subscribers 8 --slow-share 0.3 --stall 50ms --sse 50%",
            "burst --subscribers 12 --publishers 3 --burst 50 --every 20ms --sse 50%",
            "reconnect --subscribers 12 --every 20ms --sse 50%",
            "idle --subscribers 20 --sse 100%",
        ] {
            let line = format!("{line} --patience 5s {} {}", world.here(), world.metrics());
            let report = pass(&line);
            assert!(report.configuration.sse_subscribers > 0, "{line}");
            let is_uncompared = |warning: &String| warning.contains("not compared");
            assert!(
                !report.warnings.iter().any(is_uncompared),
                "{line}: {:?}",
                report.warnings
            );
        }
    }
}

#[test]
fn readers_of_events_that_are_cut_go_on_by_the_id_of_the_last_event() {
    let world = World::start(|config| config.history.max_age = Duration::from_mins(1));
    for kind in ["", "--text"] {
        let line = "jitter --subscribers 24 --topics 3 --publishers 6 --rate 3000 --threads 2 --cut-every 150ms --away 20ms \
                    --duration 1s --patience 5s --sse 100%";
        let report = pass(&format!("{line} {kind} {}", world.here()));
        let returns = report.returns.expect("clients came back");
        assert_eq!(returns.full, returns.returned);
        assert!(returns.behind > 0 && returns.returned >= 10, "{returns:?}");
    }
}
