//! The rules of a topic, one by one. `tests/cluster` has all of them together.

use bytes::Bytes;

use super::effect::Resume;
use super::verdict::Why;
use super::*;
use crate::cluster::batch::{Arrival, Head, VERSION};
use crate::cluster::trouble::Trouble;

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

/// So many messages of a byte, and a label.
#[derive(Debug, PartialEq)]
struct Letter(&'static str, u32);

impl Parcel for Letter {
    fn messages(&self) -> u32 {
        self.1
    }

    fn len_bytes(&self) -> usize {
        self.1 as usize * 3
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::repeat_n(&[0x82, 1, 7][..], self.1 as usize)
    }
}

/// A topic, its surroundings, and the time in milliseconds.
struct Rig {
    topic: Topic<Letter>,
    meter: Meter,
    ms: u64,
}

type Effects = Vec<Effect<Letter>>;

impl Rig {
    fn new() -> Self {
        let settings = TopicSettings {
            node: ME,
            max_batch_bytes: 30,
            max_pending_bytes: 1_000,
            outage_timeout: Duration::from_secs(10),
            topic_ttl: Duration::from_hours(1),
            linger: Duration::from_secs(5),
        };
        Rig {
            topic: Topic::new(settings, 40),
            meter: Meter::new(10_000),
            ms: 0,
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Topic<Letter>, &mut Context<'_, Letter>)) -> Effects {
        let mut effects = Vec::new();
        let mut cx = Context {
            now: Timestamp(self.ms * 1_000),
            bits: 1023,
            meter: &mut self.meter,
            effects: &mut effects,
        };
        call(&mut self.topic, &mut cx);
        effects
    }

    /// A topic with one member that is live at 7-10.
    fn live() -> Self {
        let mut rig = Rig::new();
        rig.call(Topic::on_up);
        rig.call(|topic, cx| topic.on_members(1, cx));
        rig.subscribed();
        rig.synced(7, 10, (0, 0), 40);
        assert_eq!(rig.topic.state(), State::Live);
        rig
    }

    fn subscribed(&mut self) -> Effects {
        let round = self.topic.round;
        self.call(|topic, cx| topic.on_subscribed(round, cx))
    }

    fn synced(&mut self, epoch: u64, last: u64, before: (u64, u64), done: u64) -> Effects {
        let round = self.topic.round;
        let synced = Synced {
            at: place(epoch, last),
            before: place(before.0, before.1),
            done,
        };
        self.call(|topic, cx| topic.on_synced(round, synced, cx))
    }

    fn fence(&mut self) -> Effects {
        let round = self.topic.round;
        self.call(|topic, cx| topic.on_fence(round, cx))
    }

    fn audited(&mut self, answer: Option<Place>) -> Effects {
        let round = self.topic.round;
        self.call(|topic, cx| topic.on_audit(round, answer, cx))
    }

    fn refused(&mut self, error: &str) -> Effects {
        let (round, trouble) = (self.topic.round, Trouble::of(error));
        self.call(|topic, cx| topic.on_refused(round, &trouble, cx))
    }

    fn publish(&mut self, letter: Letter) -> Effects {
        self.call(|topic, cx| topic.publish(letter, cx))
    }

    fn arrive(&mut self, arrival: Arrival) -> Effects {
        self.call(|topic, cx| topic.on_arrival(Some(arrival), cx))
    }

    /// Lets time pass.
    fn after(&mut self, ms: u64) -> Effects {
        self.ms += ms;
        self.call(Topic::handle_timeout)
    }

    /// The S connection was lost and is back: the topic is about to hear where the engine is.
    fn resubscribe(&mut self) {
        self.call(Topic::on_subscriber_lost);
        self.call(Topic::on_up);
        self.subscribed();
    }
}

fn place(epoch: u64, last: u64) -> Place {
    let epoch = Epoch(epoch);
    Place { epoch, last }
}

/// A batch of one message.
fn arrival(node: NodeId, seq: u64, epoch: u64, first: u64) -> Arrival {
    Arrival {
        first,
        ms: 0,
        head: Head {
            version: VERSION,
            count: 1,
            node,
            seq,
            epoch: Epoch(epoch),
        },
        frames: Bytes::from_static(&[0x82, 1, 7]),
    }
}

/// The questions among effects.
fn asked(effects: &Effects) -> Vec<Request> {
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::Ask { request, .. } => Some(*request),
        _ => None,
    });
    asked.collect()
}

/// The first numbers of the batches that are delivered.
fn delivered(effects: &Effects) -> Vec<u64> {
    let delivered = effects.iter().filter_map(|effect| match effect {
        Effect::Deliver { arrival, .. } => Some(arrival.first),
        _ => None,
    });
    delivered.collect()
}

/// The breaks that members are told of.
fn told(effects: &Effects) -> Vec<(Why, Place, Option<u64>)> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Told { why, at, lost } => Some((*why, *at, *lost)),
        _ => None,
    });
    told.collect()
}

fn publish(epoch: u64, seq: u64) -> Request {
    let epoch = Epoch(epoch);
    Request::Publish { epoch, seq }
}

#[test]
fn a_new_topic_is_live_after_two_round_trips() {
    let mut rig = Rig::new();
    rig.call(Topic::on_up);
    let effects = rig.call(|topic, cx| topic.on_members(1, cx));
    assert_eq!(asked(&effects), [Request::Subscribe]);
    assert_eq!(asked(&rig.subscribed()), [Request::Sync { base: 41 }]);
    assert!(!rig.topic.is_joinable());
    assert_eq!(rig.synced(7, 10, (0, 0), 40), []);
    assert!(rig.topic.is_joinable());
    assert_eq!(rig.topic.place(), Some(place(7, 10)));
}

#[test]
fn a_batch_has_its_place_when_its_echo_comes_and_not_before() {
    let mut rig = Rig::live();
    assert_eq!(asked(&rig.publish(Letter("a", 1))), [publish(7, 41)]);
    assert_eq!(rig.publish(Letter("b", 4)), []);
    assert_eq!(rig.publish(Letter("c", 6)), []);
    assert_eq!(rig.publish(Letter("d", 1)), []);
    let round = rig.topic.round;
    assert_eq!(rig.call(|topic, cx| topic.on_published(round, 11, cx)), []);
    let effects = rig.arrive(arrival(ME, 41, 7, 11));
    let Effect::Deliver { ours, .. } = &effects[0] else {
        panic!("{effects:?}");
    };
    assert_eq!(ours, &Some(vec![Letter("a", 1)]));
    // The next batch has what waited and fits.
    assert_eq!(asked(&effects), [publish(7, 42)]);
    let parcels = &rig.topic.on_way().expect("a batch").parcels;
    assert_eq!(parcels, &[Letter("b", 4), Letter("c", 6)]);
}

#[test]
fn a_message_above_the_limit_goes_alone() {
    let mut rig = Rig::live();
    rig.publish(Letter("large", 100));
    rig.publish(Letter("small", 1));
    assert_eq!(rig.topic.on_way().expect("a batch").parcels.len(), 1);
}

#[test]
fn publishers_wait_while_too_much_is_pending() {
    let mut rig = Rig::live();
    rig.publish(Letter("a", 1));
    let held = rig.publish(Letter("b", 400));
    assert_eq!(held, [Effect::Hold(true)]);
    rig.arrive(arrival(ME, 41, 7, 11));
    let mut echo = arrival(ME, 42, 7, 12);
    echo.head.count = 400;
    let effects = rig.arrive(echo);
    assert_eq!(effects.last(), Some(&Effect::Hold(false)));
    assert_eq!(rig.meter.used(), 0);
}

#[test]
fn an_epoch_that_began_from_nothing_is_entered_at_the_fence() {
    let mut rig = Rig::live();
    rig.publish(Letter("a", 1));
    let round = rig.topic.round;
    let effects = rig.call(|topic, cx| topic.on_published(round, -1, cx));
    assert_eq!(asked(&effects), [Request::Sync { base: 41 }]);
    assert_eq!(asked(&rig.synced(8, 0, (0, 0), 40)), [Request::Fence]);
    // A batch of the old epoch was still under way.
    assert_eq!(delivered(&rig.arrive(arrival(OTHER, 5, 7, 11))), [11]);
    let effects = rig.fence();
    assert_eq!(told(&effects), [(Why::Moved, place(8, 0), Some(0))]);
    assert_eq!(asked(&effects), [publish(8, 41)]);
}

#[test]
fn a_batch_that_was_numbered_in_the_old_epoch_is_not_sent_again() {
    let mut rig = Rig::live();
    rig.publish(Letter("a", 1));
    rig.call(Topic::on_publisher_lost);
    rig.call(Topic::on_up);
    assert_eq!(asked(&rig.synced(8, 0, (0, 0), 40)), [Request::Fence]);
    assert_eq!(delivered(&rig.arrive(arrival(ME, 41, 7, 11))), [11]);
    assert_eq!(asked(&rig.fence()), []);
}

#[test]
fn another_epoch_is_believed_when_the_engine_has_answered() {
    let mut rig = Rig::live();
    let effects = rig.arrive(arrival(OTHER, 5, 8, 1));
    assert_eq!(asked(&effects), [Request::Sync { base: 41 }]);
    assert_eq!(rig.arrive(arrival(OTHER, 6, 8, 2)), []);
    let effects = rig.synced(8, 2, (0, 0), 40);
    assert_eq!(told(&effects), [(Why::Moved, place(8, 0), Some(0))]);
    assert_eq!(delivered(&effects), [1, 2]);
    assert_eq!(rig.topic.state(), State::Live);
}

/// The batch was published after the engine had answered, and came before its answer. It was once taken for an old one.
#[test]
fn a_batch_of_a_newer_epoch_than_the_answer_is_not_lost() {
    let mut rig = Rig::live();
    rig.resubscribe();
    rig.arrive(arrival(OTHER, 5, 9, 1));
    let effects = rig.synced(7, 10, (0, 0), 40);
    assert_eq!(asked(&effects), [Request::Sync { base: 41 }]);
    let effects = rig.synced(9, 1, (0, 0), 40);
    assert_eq!(told(&effects), [(Why::Moved, place(9, 0), Some(0))]);
    assert_eq!(delivered(&effects), [1]);
}

/// A replica that took over, or a master that was one meanwhile, has numbers of its own.
#[test]
fn an_epoch_that_took_over_numbers_ends_an_unbroken_subscription() {
    let mut rig = Rig::live();
    rig.arrive(arrival(OTHER, 5, 8, 9));
    let effects = rig.synced(8, 9, (7, 8), 40);
    assert_eq!(told(&effects), [(Why::Back, place(8, 9), None)]);
    assert!(effects.contains(&Effect::ForgetHistory));
}

#[test]
fn numbers_that_go_back_end_the_epoch() {
    let mut rig = Rig::live();
    rig.arrive(arrival(OTHER, 5, 7, 11));
    let effects = rig.arrive(arrival(OTHER, 6, 7, 11));
    assert_eq!(asked(&effects), [Request::Suspect]);
    assert!(!rig.topic.is_joinable());
    let effects = rig.after(100);
    assert_eq!(asked(&effects), [Request::Sync { base: 41 }]);
    let effects = rig.synced(7, 11, (0, 0), 40);
    assert_eq!(told(&effects), [(Why::Unknown, place(7, 11), None)]);
}

#[test]
fn mail_from_before_the_answer_is_left_out() {
    let mut rig = Rig::live();
    // It is below the number that the answer had.
    assert_eq!(rig.arrive(arrival(OTHER, 4, 7, 10)), []);
    // It is of an epoch that was over when the engine answered.
    let effects = rig.arrive(arrival(OTHER, 4, 6, 99));
    assert_eq!(asked(&effects), [Request::Sync { base: 41 }]);
    assert_eq!(rig.synced(7, 10, (0, 0), 40), []);
    assert_eq!(rig.topic.state(), State::Live);
}

#[test]
fn what_is_missing_is_filled_or_told() {
    for is_found in [true, false] {
        let mut rig = Rig::live();
        rig.resubscribe();
        let effects = rig.synced(8, 12, (7, 11), 40);
        let fill = Request::Fill { from: 11, to: 12 };
        assert_eq!(asked(&effects), [fill]);
        rig.arrive(arrival(OTHER, 9, 8, 13));
        let mut entries = vec![
            Some(arrival(OTHER, 7, 7, 11)),
            Some(arrival(OTHER, 8, 8, 12)),
        ];
        if !is_found {
            entries.remove(0);
        }
        let round = rig.topic.round;
        let effects = rig.call(|topic, cx| topic.on_filled(round, entries, cx));
        if is_found {
            assert_eq!(delivered(&effects), [11, 12, 13]);
            assert_eq!(told(&effects), [(Why::Moved, place(8, 11), Some(0))]);
        } else {
            assert_eq!(delivered(&effects), [13]);
            assert_eq!(told(&effects), [(Why::Gap, place(8, 12), None)]);
        }
    }
}

#[test]
fn a_batch_that_was_ever_sent_is_given_up_when_nothing_is_known() {
    let mut rig = Rig::live();
    rig.publish(Letter("sent", 1));
    rig.publish(Letter("waits", 1));
    rig.resubscribe();
    let effects = rig.synced(9, 0, (0, 0), 40);
    assert_eq!(effects[0], Effect::GivenUp(vec![Letter("sent", 1)]));
    assert_eq!(told(&effects), [(Why::Unknown, place(9, 0), None)]);
    assert_eq!(asked(&effects), [publish(9, 42)]);
}

/// A silent node is forgotten by the engine, and with it the number of its last batch. The batch once came twice.
#[test]
fn a_batch_that_was_sent_is_given_up_when_the_engine_may_have_forgotten_the_node() {
    for (hours, is_given_up) in [(1, true), (0, false)] {
        let mut rig = Rig::live();
        rig.publish(Letter("sent", 1));
        rig.call(Topic::on_publisher_lost);
        rig.ms += hours * 3_600_000;
        rig.call(Topic::on_up);
        let effects = rig.synced(7, 10, (0, 0), 40);
        let given_up = Effect::GivenUp(vec![Letter("sent", 1)]);
        assert_eq!(effects.contains(&given_up), is_given_up);
        assert_eq!(asked(&effects).contains(&publish(7, 41)), !is_given_up);
    }
}

#[test]
fn arrivals_that_find_no_room_are_dropped_and_asked_for() {
    let mut rig = Rig::live();
    rig.resubscribe();
    rig.meter.change(0, 9_950);
    let effects = rig.arrive(arrival(OTHER, 5, 7, 11));
    assert_eq!(asked(&effects), [Request::Sync { base: 41 }]);
    assert_eq!(rig.topic.kept_bytes(), 0);
}

/// The two connections are not in step: S may bring batches that were numbered after the engine has answered on P.
#[test]
fn an_answer_that_is_older_than_what_came_meanwhile_tells_nobody() {
    let mut rig = Rig::live();
    rig.call(Topic::on_publisher_lost);
    rig.call(Topic::on_up);
    for first in 11..=15 {
        rig.arrive(arrival(OTHER, first, 7, first));
    }
    let effects = rig.synced(7, 12, (0, 0), 40);
    assert_eq!((told(&effects).len(), asked(&effects).len()), (0, 0));
    assert_eq!(rig.topic.state(), State::Live);
    assert_eq!(rig.topic.place(), Some(place(7, 15)));
}

#[test]
fn an_error_is_waited_for_longer_and_longer() {
    let mut rig = Rig::live();
    rig.publish(Letter("a", 1));
    let effects = rig.refused("OOM command not allowed");
    assert_eq!(effects, [Effect::Hold(true)]);
    assert_eq!(rig.after(99), []);
    assert_eq!(asked(&rig.after(1)), [Request::Sync { base: 41 }]);
    rig.refused("OOM command not allowed");
    assert_eq!(rig.after(199), []);
    assert_eq!(asked(&rig.after(1)), [Request::Sync { base: 41 }]);
    assert_eq!(asked(&rig.synced(7, 10, (0, 0), 40)), [publish(7, 41)]);
    let effects = rig.arrive(arrival(ME, 41, 7, 11));
    assert_eq!(effects.last(), Some(&Effect::Hold(false)));
}

/// It once did, and the topic waited for ever.
#[test]
fn an_echo_does_not_end_the_wait_after_an_error() {
    let mut rig = Rig::live();
    rig.publish(Letter("a", 1));
    rig.refused("OOM command not allowed");
    rig.arrive(arrival(ME, 41, 7, 11));
    assert_eq!(asked(&rig.after(100)), [Request::Sync { base: 42 }]);
}

#[test]
fn a_stream_that_stays_ahead_is_dropped() {
    let mut rig = Rig::live();
    rig.publish(Letter("a", 1));
    let error = "ERR The ID specified in XADD is equal or smaller than the target stream top item";
    let mut effects = rig.refused(error);
    while rig.ms < 10_000 {
        assert!(!asked(&effects).contains(&Request::Reset));
        rig.after(1_000);
        rig.synced(7, 10, (0, 0), 40);
        effects = rig.refused(error);
    }
    let expected = [Request::Reset, Request::Sync { base: 41 }];
    assert_eq!(asked(&effects), expected);
}

#[test]
fn an_outage_drops_what_was_never_sent() {
    let mut rig = Rig::live();
    rig.publish(Letter("sent", 1));
    rig.publish(Letter("waits", 1));
    let effects = rig.call(Topic::on_publisher_lost);
    assert_eq!(effects, [Effect::Hold(true)]);
    assert_eq!(rig.after(9_999), []);
    let dropped = Effect::Dropped(vec![Letter("waits", 1)]);
    assert_eq!(rig.after(1), [dropped, Effect::Unsure, Effect::Out]);
    assert!(rig.topic.is_out());
    let late = rig.publish(Letter("late", 1));
    assert_eq!(late, [Effect::Dropped(vec![Letter("late", 1)])]);
    rig.call(Topic::on_up);
    assert_eq!(asked(&rig.synced(7, 10, (0, 0), 40)), [publish(7, 41)]);
    rig.arrive(arrival(ME, 41, 7, 11));
    assert!(!rig.topic.is_out());
}

#[test]
fn a_drain_ends_when_all_is_back_or_at_its_time() {
    for is_back in [true, false] {
        let mut rig = Rig::live();
        rig.publish(Letter("a", 1));
        let until = Timestamp(500_000);
        assert_eq!(rig.call(|topic, cx| topic.drain(until, cx)), []);
        let effects = if is_back {
            rig.arrive(arrival(ME, 41, 7, 11))
        } else {
            let effects = rig.after(500);
            assert_eq!(effects[0], Effect::GivenUp(vec![Letter("a", 1)]));
            effects
        };
        assert_eq!(effects.last(), Some(&Effect::Drained));
        assert_eq!(rig.arrive(arrival(OTHER, 5, 7, 12)), []);
        assert_eq!(rig.meter.used(), 0);
    }
}

/// Anybody with access to the engine may publish rubbish. Members must not be cut off by it.
#[test]
fn rubbish_in_the_place_of_nothing_tells_nobody() {
    let mut rig = Rig::live();
    let effects = rig.call(|topic, cx| topic.on_arrival(None, cx));
    assert_eq!(asked(&effects), [Request::Audit]);
    let again = rig.call(|topic, cx| topic.on_arrival(None, cx));
    assert_eq!(again, []);
    assert_eq!(rig.audited(Some(place(7, 10))), []);
    assert!(rig.topic.is_whole());
}

#[test]
fn a_message_that_was_lost_without_a_word_is_found_behind_a_fence() {
    let mut rig = Rig::live();
    rig.call(Topic::audit);
    // Mail under way looks the same.
    assert_eq!(asked(&rig.audited(Some(place(7, 11)))), [Request::Fence]);
    rig.arrive(arrival(OTHER, 5, 7, 11));
    assert_eq!(rig.fence(), []);
    rig.call(Topic::audit);
    rig.audited(Some(place(7, 12)));
    assert_eq!(asked(&rig.fence()), [Request::Sync { base: 41 }]);
    assert!(!rig.topic.is_whole());
}

#[test]
fn a_topic_that_the_engine_has_forgotten_is_made_again() {
    let mut rig = Rig::live();
    rig.call(Topic::audit);
    assert_eq!(asked(&rig.audited(None)), [Request::Sync { base: 41 }]);
}

#[test]
fn a_topic_without_clients_is_left_with_its_history() {
    let mut rig = Rig::live();
    rig.call(|topic, cx| topic.on_members(0, cx));
    assert_eq!(rig.after(4_999), []);
    let effects = rig.after(1);
    assert_eq!(asked(&effects), [Request::Unsubscribe]);
    assert_eq!(effects.last(), Some(&Effect::ForgetHistory));
    assert_eq!(rig.topic.state(), State::Idle);
}

#[test]
fn a_client_from_a_faster_node_waits_until_this_one_has_caught_up() {
    let mut rig = Rig::live();
    let effects = rig.call(|topic, cx| topic.resume(5, place(7, 12), cx));
    assert_eq!(asked(&effects), [Request::Sync { base: 41 }]);
    assert_eq!(rig.synced(7, 12, (0, 0), 40), []);
    rig.arrive(arrival(OTHER, 5, 7, 11));
    let effects = rig.arrive(arrival(OTHER, 5, 7, 12));
    let resumed = Effect::Resumed {
        client: 5,
        resume: Resume::Here(2),
        found: Vec::new(),
        at: place(7, 12),
    };
    assert_eq!(effects.last(), Some(&resumed));
}

/// The engine is in another epoch already, but the messages that the client has seen elsewhere are under way.
#[test]
fn a_client_from_a_faster_node_waits_for_mail_of_the_old_epoch() {
    let mut rig = Rig::live();
    rig.call(|topic, cx| topic.resume(5, place(7, 11), cx));
    assert_eq!(asked(&rig.synced(8, 0, (0, 0), 40)), [Request::Fence]);
    let effects = rig.arrive(arrival(OTHER, 5, 7, 11));
    let resumed = Effect::Resumed {
        client: 5,
        resume: Resume::Here(1),
        found: Vec::new(),
        at: place(7, 11),
    };
    assert_eq!(effects.last(), Some(&resumed));
}

#[test]
fn a_place_that_nobody_knows_is_not_guessed() {
    for unknown in [place(7, 13), place(3, 1)] {
        let mut rig = Rig::live();
        rig.call(|topic, cx| topic.resume(5, unknown, cx));
        let effects = rig.synced(7, 12, (0, 0), 40);
        let is_unknown = |effect: &Effect<Letter>| match effect {
            Effect::Resumed { resume, .. } => *resume == Resume::Unknown,
            _ => false,
        };
        assert!(effects.iter().any(is_unknown), "{unknown}: {effects:?}");
    }
}

#[test]
fn a_client_gets_from_the_engine_what_this_node_never_had() {
    let mut rig = Rig::live();
    let effects = rig.call(|topic, cx| topic.resume(5, place(7, 6), cx));
    let find = Request::Find {
        client: 5,
        number: 7,
        to: 10,
    };
    assert_eq!(asked(&effects), [find]);
    let round = rig.topic.round;
    // Number 7 is trimmed.
    let entries = vec![
        Some(arrival(OTHER, 1, 7, 8)),
        Some(arrival(OTHER, 2, 7, 9)),
        Some(arrival(OTHER, 3, 7, 10)),
    ];
    let effects = rig.call(|topic, cx| topic.on_found(round, 5, entries, cx));
    let Effect::Resumed { resume, found, .. } = &effects[0] else {
        panic!("{effects:?}");
    };
    assert_eq!(*resume, Resume::Found { lost: 1, then: 0 });
    assert_eq!(found.len(), 3);
}
