//! Faults of relays. Each is planted once, for one client and one message among thousands: the run must fail and name
//! the fault.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use loadtest::RunError;
use loadtest::report::observer::{Observer, Progress};
use loadtest::report::{Deliveries, Report};

use crate::relay::{Delivery, Fate, TinyRelay};
use crate::support::{load_until, options, pass, refused};

/// The first message that may be tampered with. The probe has fewer messages.
const FIRST: u64 = 100;

/// A connection of the run: the probe had 0 and 1.
const VICTIM: usize = 4;

/// A relay with one fault: in one delivery to one client, the first that `chosen` accepts.
fn once(fate: Fate, chosen: impl Fn(Delivery) -> bool + Send + 'static) -> TinyRelay {
    let mut fate = Some(fate);
    TinyRelay::start(move |delivery, _| {
        let is_it = delivery.receiver == VICTIM && delivery.number >= FIRST && chosen(delivery);
        if is_it {
            fate.take().unwrap_or(Fate::Pass)
        } else {
            Fate::Pass
        }
    })
}

/// Runs against a relay until its fault was made, and expects that it is found.
fn found(relay: &TinyRelay, line: &str) -> Report {
    found_after(1, relay, line)
}

/// The same with several faults.
fn found_after(faults: u64, relay: &TinyRelay, line: &str) -> Report {
    let line = format!("{line} --url {}", relay.url());
    let report = load_until(&line, || relay.faults() >= faults);
    assert!(relay.faults() >= faults, "it was not made");
    assert!(!report.passed, "it was not found");
    assert!(!report.failures.is_empty());
    report
}

/// Whether a failure has these words in it.
fn says(report: &Report, words: &str) -> bool {
    says_in(&report.failures, words)
}

fn says_in(sentences: &[String], words: &str) -> bool {
    sentences.iter().any(|sentence| sentence.contains(words))
}

/// The counts of wrong deliveries.
fn wrong(deliveries: &Deliveries) -> [u64; 6] {
    [
        deliveries.lost,
        deliveries.duplicated,
        deliveries.out_of_order,
        deliveries.disagreeing,
        deliveries.corrupt,
        deliveries.misrouted,
    ]
}

const CHAT: &str = "chat --subscribers 6";

#[test]
fn a_relay_without_a_fault_passes() {
    let relay = TinyRelay::start(|_, _| Fate::Pass);
    let report = pass(&format!("{CHAT} --url {}", relay.url()));
    assert_eq!(wrong(&report.deliveries), [0; 6]);
    assert!(report.deliveries.echo);
}

#[test]
fn a_message_lost_for_one_client_is_found() {
    for line in [CHAT, "fanout --subscribers 6 --rate 3000"] {
        let relay = once(Fate::Lose, |_| true);
        let report = found(&relay, line);
        assert_eq!(wrong(&report.deliveries), [1, 0, 0, 0, 0, 0], "{line}");
        assert_eq!(report.deliveries.expected, report.deliveries.received + 1);
        assert!(report.deliveries.reach < 1.0);
        assert!(says(&report, "1 delivery was lost"));
    }
}

#[test]
fn messages_lost_at_the_end_are_found_as_well() {
    let relay = TinyRelay::start(|delivery, _| {
        if delivery.receiver == VICTIM && delivery.number >= FIRST {
            Fate::Lose
        } else {
            Fate::Pass
        }
    });
    let report = found_after(20, &relay, "fanout --subscribers 6 --rate 1000");
    let [lost, rest @ ..] = wrong(&report.deliveries);
    assert!(lost >= 20, "{lost}");
    assert_eq!(rest, [0; 5]);
}

#[test]
fn a_message_that_comes_twice_is_found() {
    let relay = once(Fate::Repeat, |_| true);
    let report = found(&relay, CHAT);
    assert_eq!(wrong(&report.deliveries), [0, 1, 0, 0, 0, 0]);
    assert!(says(&report, "more than once"));
}

/// A relay that holds messages back for some clients, once for each, until it has passed on a message of another
/// sender. The messages of each sender stay in order, but messages of different senders do not.
fn exchanging(is_victim: impl Fn(Delivery) -> bool + Send + 'static) -> TinyRelay {
    #[derive(Clone, Copy)]
    enum Exchange {
        Holds(usize),
        Done,
    }
    let mut exchanges: HashMap<usize, Exchange> = HashMap::new();
    TinyRelay::start(move |delivery, _| {
        if !is_victim(delivery) {
            return Fate::Pass;
        }
        match exchanges.get(&delivery.receiver) {
            Some(Exchange::Done) => Fate::Pass,
            Some(Exchange::Holds(sender)) if *sender != delivery.sender => {
                exchanges.insert(delivery.receiver, Exchange::Done);
                Fate::Pass
            }
            Some(Exchange::Holds(_)) => Fate::Hold,
            None => {
                let holds = Exchange::Holds(delivery.sender);
                exchanges.insert(delivery.receiver, holds);
                Fate::Hold
            }
        }
    })
}

#[test]
fn messages_of_different_senders_exchanged_for_one_client_are_found() {
    let relay = exchanging(|delivery| delivery.receiver == VICTIM && delivery.number >= FIRST);
    let report = found(&relay, CHAT);
    assert_eq!(wrong(&report.deliveries), [0, 0, 0, 1, 0, 0]);
    assert!(says(&report, "saw another order"));
}

#[test]
fn two_messages_of_one_sender_exchanged_are_found() {
    let relay = once(Fate::Hold, |_| true);
    let report = found(&relay, "fanout --subscribers 6");
    assert_eq!(wrong(&report.deliveries), [0, 0, 1, 0, 0, 0]);
    assert!(says(&report, "after a later one"));
}

#[test]
fn a_single_bit_of_a_payload_is_found_wherever_it_is() {
    // Two bits in the head, with which the message is lost, and two in the filler.
    for (bit, lost) in [(3, 1), (100, 1), (16 * 8, 0), (128 * 8 - 1, 0)] {
        let relay = once(Fate::Flip(bit), |_| true);
        let report = found(&relay, "fanout --subscribers 6 --size 128");
        assert_eq!(
            wrong(&report.deliveries),
            [lost, 0, 0, 0, 1, 0],
            "bit {bit}"
        );
        assert!(says(&report, "not what was sent"));
    }
}

#[test]
fn a_message_of_another_kind_is_found() {
    let relay = once(Fate::ChangeKind, |_| true);
    let report = found(&relay, "fanout --subscribers 6 --text");
    assert_eq!(wrong(&report.deliveries), [0, 0, 0, 0, 1, 0]);
}

#[test]
fn a_message_for_another_topic_is_found() {
    // The relay knows one topic only, whatever the path.
    let mut other = None;
    let mut is_done = false;
    let relay = TinyRelay::start(move |delivery, message| {
        if delivery.number < FIRST || is_done {
            return Fate::Pass;
        }
        match &other {
            None => other = Some((delivery.sender, message.clone())),
            Some((sender, theirs)) if *sender != delivery.sender => {
                is_done = true;
                return Fate::Replace(vec![theirs.clone(), message.clone()]);
            }
            Some(_) => {}
        }
        Fate::Pass
    });
    let report = found(&relay, "fanout --subscribers 4 --publishers 2 --topics 2");
    assert_eq!(wrong(&report.deliveries), [0, 0, 0, 0, 0, 1]);
    assert!(says(&report, "topic that the message was not sent to"));
}

#[test]
fn a_relay_that_passes_nothing_on_is_an_error_before_the_run() {
    let relay = TinyRelay::start(|delivery, _| {
        if delivery.sender == delivery.receiver {
            Fate::Pass
        } else {
            Fate::Lose
        }
    });
    let error = refused(&format!("--url {}", relay.url()));
    let RunError::Failed(what) = error else {
        panic!("it is the server's fault: {error:?}");
    };
    assert!(what.contains("is not a relay"), "{what}");
}

#[test]
fn a_relay_that_delivers_nothing_in_the_run_is_found() {
    let relay = TinyRelay::start(|delivery, _| {
        if delivery.receiver > 1 {
            Fate::Lose
        } else {
            Fate::Pass
        }
    });
    let report = found_after(10, &relay, "fanout --subscribers 3 --rate 1000");
    assert!(says(&report, "messages were sent, and none was delivered"));
}

#[test]
fn a_connection_that_the_relay_closes_is_found() {
    let relay = once(Fate::Close(1011), |_| true);
    let report = found(&relay, "fanout --subscribers 6 --rate 2000");
    assert_eq!(report.connections.ended_by_server["1011"], 1);
    assert!(says(&report, "the relay ended 1 connection that") && says(&report, "1011 (1)"));
    assert_eq!(
        report.deliveries.lost, 0,
        "who is told loses nothing in silence"
    );
    assert!(report.deliveries.lost_to_closes > 0);
}

#[test]
fn a_connection_that_the_relay_cuts_is_found() {
    let relay = once(Fate::Cut, |_| true);
    let report = found(&relay, "fanout --subscribers 6 --rate 2000");
    let ended = &report.connections.ended_by_server;
    assert_eq!(ended.values().sum::<u64>(), 1, "{ended:?}");
    assert!(ended.contains_key("eof") || ended.contains_key("reset"));
    assert!(report.deliveries.lost > 0, "nobody was told");
}

#[test]
fn a_publisher_that_the_relay_cuts_is_found() {
    let relay = TinyRelay::start(|delivery, _| {
        if delivery.receiver == delivery.sender && delivery.number >= FIRST {
            Fate::Cut
        } else {
            Fate::Pass
        }
    });
    let report = found(&relay, "fanout --subscribers 4 --rate 2000");
    assert!(says(&report, "the relay ended 1 connection that"));
}

/// Connections of the probe, four subscribers and two publishers. Later ones come and go.
const PASSING: usize = 8;

const CHURN: &str = "churn --subscribers 4 --publishers 2 --churn-rate 60 --rate 4000";

#[test]
fn faults_for_clients_that_come_and_go_are_found() {
    let plant = |fate: Fate| {
        TinyRelay::start(move |delivery, _| {
            if delivery.receiver >= PASSING && delivery.number % 50 == 49 {
                fate.clone()
            } else {
                Fate::Pass
            }
        })
    };
    let right = plant(Fate::Pass);
    let report = pass(&format!("{CHURN} --url {}", right.url()));
    assert!(report.connections.opened > 6, "nobody came");
    let lost = found_after(5, &plant(Fate::Lose), CHURN);
    assert!(lost.deliveries.lost > 0 && lost.deliveries.duplicated == 0);
    let twice = found_after(5, &plant(Fate::Repeat), CHURN);
    assert!(twice.deliveries.duplicated > 0 && twice.deliveries.lost == 0);
}

#[test]
fn another_order_for_clients_that_come_and_go_is_found() {
    let relay = exchanging(|delivery| delivery.receiver >= PASSING);
    let report = found_after(6, &relay, CHURN);
    let [0, 0, 0, disagreeing, 0, 0] = wrong(&report.deliveries) else {
        panic!("{:?}", report.failures);
    };
    assert!(disagreeing >= 6, "{disagreeing}");
}

#[test]
fn clients_that_join_under_load_and_are_forgotten_are_found() {
    for (line, there_from_the_start) in [
        ("churn --subscribers 4 --churn-rate 40 --rate 500", 5),
        ("reconnect --subscribers 4 --every 400ms --rate 500", 5),
    ] {
        // The probe has two more.
        let relay = TinyRelay::start(move |delivery, _| {
            if delivery.receiver >= there_from_the_start + 2 {
                Fate::Lose
            } else {
                Fate::Pass
            }
        });
        let report = found_after(500, &relay, &format!("{line} --patience 300ms"));
        assert!(report.deliveries.lost > 0, "{line}: {report:?}");
        assert!(says(&report, "were lost"), "{line}");
    }
}

#[test]
fn the_end_of_a_passing_client_s_stream_is_missed_before_it_goes() {
    // Each client that comes under load gets its first messages, and nothing after that.
    let mut heard: HashMap<usize, u32> = HashMap::new();
    let relay = TinyRelay::start(move |delivery, _| {
        let heard = heard.entry(delivery.receiver).or_default();
        *heard += 1;
        if delivery.receiver >= 7 && *heard > 10 {
            Fate::Lose
        } else {
            Fate::Pass
        }
    });
    let line = "churn --subscribers 4 --churn-rate 40 --rate 500 --patience 300ms";
    let report = found_after(500, &relay, line);
    assert!(says(&report, "were lost"), "{:?}", report.failures);
}

#[test]
fn a_message_that_comes_back_where_none_should_is_found() {
    let mut has_echoed = false;
    let relay = TinyRelay::start(move |delivery, _| {
        if delivery.sender != delivery.receiver {
            return Fate::Pass;
        }
        if delivery.number >= FIRST && !std::mem::replace(&mut has_echoed, true) {
            return Fate::Pass;
        }
        Fate::Lose
    });
    // The relay keeps every message but one from its sender.
    let report = found_after(2 * FIRST, &relay, "chat --subscribers 4 --rate 1000");
    assert_eq!(report.deliveries.echoed, 1, "{:?}", report.failures);
    assert!(says(&report, "came back to its sender"));
}

#[test]
fn a_run_that_is_stopped_before_all_are_there_ends() {
    struct Stopped;
    impl Observer for Stopped {
        fn is_stopped(&self) -> bool {
            true
        }
    }
    let relay = TinyRelay::start(|_, _| Fate::Pass);
    let line = format!("chat --subscribers 20 --rate 100 --url {}", relay.url());
    let error = loadtest::run(&options(&line), &Stopped).unwrap_err();
    assert!(error.to_string().contains("stopped"), "{error}");
}

#[test]
fn a_run_that_is_stopped_before_the_measurement_has_no_absurd_figures() {
    struct StopsWarmUp(AtomicBool);
    impl Observer for StopsWarmUp {
        fn on_progress(&self, progress: &Progress) {
            if progress.published_rate > 0.0 {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        fn is_stopped(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
    let relay = TinyRelay::start(|_, _| Fate::Pass);
    let line = format!("chat --subscribers 4 --warmup 60s --url {}", relay.url());
    let stops = StopsWarmUp(AtomicBool::new(false));
    let report = loadtest::run(&options(&line), &stops).unwrap();
    assert!(
        report.measured_seconds < 1e-9,
        "{}",
        report.measured_seconds
    );
    let generator = &report.generator;
    assert!(generator.busiest_thread <= 1.0, "{generator:?}");
    assert!(generator.waited_for_cpu <= 1.0, "{generator:?}");
    assert!(!generator.saturated, "{generator:?}");
    assert!(says_in(&report.warnings, "stopped early: 0 s were"));
}
