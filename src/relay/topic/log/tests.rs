//! The log keeps what some member needs, and nothing else.

use super::*;
use crate::ids::ShardId;
use crate::relay::batch::audience::Audience;
use crate::relay::batch::draft::{Draft, Source};
use crate::relay::batch::past::Kept;
use crate::time::Timestamp;
use crate::ws::frame::MessageKind;

fn append(log: &mut Log, payloads: &[&[u8]]) {
    let mut draft = Draft::new(Source::Members(ShardId(0)), Timestamp(0));
    for payload in payloads {
        draft.push(MessageKind::Text, payload, None);
    }
    for batch in Batch::seal(log.next(), [draft], Audience::default(), None) {
        log.append(batch);
    }
}

#[test]
fn a_log_without_members_keeps_nothing() {
    let mut log = Log::default();
    let cursor = log.enter();
    append(&mut log, &[b"x"]);
    log.leave(cursor);
    log.check(0);
    assert_eq!(log.lag_bytes(), 0);
}

#[test]
fn a_member_that_resumes_brings_the_batches_that_the_log_does_not_have() {
    let mut log = Log::default();
    let mut kept = Vec::new();
    let mut cost_before = 0;
    for batch in 0..4 {
        let mut draft = Draft::new(Source::Members(ShardId(0)), Timestamp(0));
        draft.push(MessageKind::Text, b"ab", None);
        draft.push(MessageKind::Text, b"cd", None);
        let batch = Batch::seal(Seq(10 + 2 * batch), [draft], Audience::default(), None).remove(0);
        let cost = batch.cost_bytes();
        kept.push(Kept { batch, cost_before });
        cost_before += cost;
    }
    let past = Past::new(kept.into());
    log.reset(Seq(18));
    let late = log.enter_at(Seq(15), Form::Frames, &past);
    log.check(1);
    assert_eq!(late.offset(), 4);
    let early = log.enter_at(Seq(12), Form::Frames, &past);
    log.check(2);
    assert_eq!(log.batch_at(early).unwrap().first(), Seq(12));
    assert_eq!(log.batch_at(late).unwrap().first(), Seq(14));
    assert_eq!(log.lag_of(early, Form::Frames), past.cost_from(1));
    let live = log.enter_at(Seq(18), Form::Frames, &past);
    assert_eq!(live, log.head());
    append(&mut log, &[b"x"]);
    log.leave(early);
    log.check(2);
    assert_eq!(log.batches_from(late).count(), 3);
}

#[test]
fn a_batch_that_is_made_again_in_another_form_takes_the_place_of_the_old_one() {
    let mut log = Log::default();
    let laggard = log.enter();
    for payload in [b"a", b"b", b"c"] {
        append(&mut log, &[payload]);
    }
    let mut cost_before = 0;
    let kept = log.batches_from(laggard).map(|batch| {
        let batch = Arc::new(batch.with(Form::Events, None));
        let kept = Kept { batch, cost_before };
        cost_before += kept.batch.cost_bytes();
        kept
    });
    let past = Past::new(kept.collect());
    let (lag, kept) = (log.lag_bytes(), log.kept_bytes());
    let reader = log.enter_at(Seq(1), Form::Events, &past);
    log.check(2);
    let has = log
        .batches_from(laggard)
        .map(|batch| batch.has(Form::Events));
    assert!(has.eq([false, true, true]));
    let event = "data: b\n\n".len();
    let made = 2 * (event + size_of::<u32>()) as u64;
    assert_eq!((log.lag_bytes(), log.kept_bytes()), (lag, kept + made));
    assert_eq!(log.lag_of(reader, Form::Events), past.cost_from(1));
    log.leave(laggard);
    log.leave(reader);
    log.check(0);
}

#[test]
fn a_batch_is_kept_until_its_last_member_has_moved_on() {
    let mut log = Log::default();
    let (fast, slow) = (log.enter(), log.enter());
    append(&mut log, &[b"abc"]);
    append(&mut log, &[b"d"]);
    log.relocate(fast, log.head());
    log.check(2);
    let costs = log.lag_bytes();
    assert!(costs > 8);
    let within = slow.at_offset(2, 5);
    log.relocate(slow, within);
    assert_eq!(log.lag_of(within, Form::Frames), costs - 2);
    log.relocate(within, log.head());
    log.check(2);
    assert_eq!(log.lag_bytes(), 0);
}

#[test]
fn the_lag_of_the_slowest_trusted_member_is_known() {
    let mut log = Log::default();
    let (trusted, other) = (log.enter(), log.enter());
    append(&mut log, &[b"abc"]);
    let first_cost = log.lag_bytes();
    append(&mut log, &[b"d"]);
    assert_eq!(log.trusted_bytes(), 0);
    log.trust(trusted);
    assert_eq!(log.trusted_bytes(), log.lag_bytes());
    let second = trusted.at_offset(5, 5);
    log.relocate_trusted(trusted, second);
    log.relocate(trusted, second);
    assert_eq!(log.trusted_bytes(), log.lag_bytes() - first_cost);
    log.trust(other);
    assert_eq!(log.trusted_bytes(), log.lag_bytes());
    log.distrust(other);
    log.distrust(second);
    log.check(2);
    assert_eq!(log.trusted_bytes(), 0);
}

#[test]
fn a_member_whose_socket_is_full_keeps_the_whole_batch_that_it_is_in() {
    let mut log = Log::default();
    let slow = log.enter();
    log.enter();
    append(&mut log, &[b"abc"]);
    let costs = log.lag_bytes();
    // One member has taken most of it, the other all.
    let most = slow.at_offset(4, 5);
    log.relocate(slow, most);
    log.block(most, ClientKey::first_in(7));
    let head = log.head();
    log.relocate(slow, head);
    log.block(head, ClientKey::first_in(3));
    assert_eq!(log.blocked_kept_bytes(), costs);
    assert!(
        log.blocked_keeping_more_than(costs - 1)
            .eq([ClientKey::first_in(7)])
    );
    append(&mut log, &[b"d"]);
    assert!(
        log.blocked_keeping_more_than(0)
            .eq([ClientKey::first_in(7), ClientKey::first_in(3)])
    );
    let behind = log.lag_bytes() - costs;
    log.relocate_blocked(most, head, ClientKey::first_in(7));
    log.relocate(most, head);
    assert_eq!(
        (log.blocked_kept_bytes(), log.lag_bytes()),
        (behind, behind)
    );
    assert!(
        log.blocked_keeping_more_than(0)
            .eq([ClientKey::first_in(3), ClientKey::first_in(7)])
    );
    log.unblock(head, ClientKey::first_in(3));
    log.unblock(head, ClientKey::first_in(7));
    assert_eq!(log.blocked_kept_bytes(), 0);
    log.check(2);
}

#[test]
fn a_late_member_stands_at_the_head() {
    let mut log = Log::default();
    log.enter();
    append(&mut log, &[b"before"]);
    let late = log.enter();
    assert_eq!(log.lag_of(late, Form::Frames), 0);
    append(&mut log, &[b"after"]);
    assert_eq!(log.batches_from(late).count(), 1);
    log.check(2);
}

#[test]
#[should_panic(expected = "no gap and no repetition")]
fn a_gap_is_refused() {
    let mut log = Log::default();
    log.enter();
    let mut draft = Draft::new(Source::Members(ShardId(0)), Timestamp(0));
    draft.push(MessageKind::Text, b"x", None);
    log.append(Batch::seal(Seq(1), [draft], Audience::default(), None).remove(0));
}

#[test]
fn a_table_that_a_burst_needed_is_given_back() {
    let mut log = Log::default();
    let cursor = log.enter();
    for _ in 0..1000 {
        append(&mut log, &[b"x"]);
    }
    log.relocate(cursor, log.head());
    assert!(log.entries.capacity() <= KEPT_CAPACITY * 2);
}
