//! Tests of coalescing: how long messages wait for the next fan-out of their topic, and how a wait ends.

use super::*;
use crate::relay::owner::coalesce::PER_MEMBER;

const INTERVAL: Duration = Duration::from_micros(50);

fn config_with(interval: Duration) -> Config {
    let mut config = Config::default();
    config.relay.coalesce = interval;
    config
}

/// A shard with coalescing, and three members of one topic. They are enough for the whole interval.
fn coalescing() -> (Driven, Vec<ClientKey>) {
    let mut shard = shard_with(&config_with(INTERVAL));
    let members = (0..3).map(|_| join(&mut shard, "/", b"")).collect();
    turn(&mut shard, usize::MAX, None);
    shard.pass(Duration::from_secs(1));
    (shard, members)
}

/// A shard without members. Waiting messages may take 32 KiB of it.
fn coalescing_with_little_memory() -> Driven {
    shard_with(&config_with_little_memory())
}

fn config_with_little_memory() -> Config {
    let mut config = Config::default();
    config.relay.coalesce = INTERVAL;
    config.limits.max_message_bytes = 8 << 10;
    config.slow_consumer.max_lag_bytes = 256 << 10;
    config.limits.max_buffered_bytes = 512 << 10;
    config
}

/// The same shard and members, at the moment of a fan-out.
fn just_fanned_out() -> (Driven, Vec<ClientKey>) {
    let (mut shard, members) = coalescing();
    shard.sends(members[0], &text(1));
    turn(&mut shard, usize::MAX, None);
    (shard, members)
}

/// Takes a turn with a message of the first member. Returns the number of members that are sent it.
fn sent_at_once(shard: &mut Driven, members: &[ClientKey]) -> usize {
    shard.sends(members[0], &text(1));
    turn(shard, usize::MAX, None).len()
}

/// Takes a turn in which everybody takes everything. Returns the bytes that `client` was sent.
fn sent_to(shard: &mut Driven, client: ClientKey) -> Vec<u8> {
    writes_to(shard, client).concat()
}

/// The same, write by write.
fn writes_to(shard: &mut Driven, client: ClientKey) -> Vec<Vec<u8>> {
    turn(shard, usize::MAX, None);
    shard.writes_to(client)
}

#[test]
fn a_message_in_a_quiet_topic_does_not_wait() {
    let (mut shard, members) = coalescing();
    assert_eq!(sent_at_once(&mut shard, &members), 3);
    assert_eq!(shard.stats.value(Stat::Coalesced), 0);
    assert_eq!(shard.next_fan_out(), None);
    shard.pass(INTERVAL);
    assert_eq!(sent_at_once(&mut shard, &members), 3);
}

#[test]
fn messages_within_the_interval_leave_at_its_end_in_order_and_in_one_write() {
    let (mut shard, members) = just_fanned_out();
    let began = shard.now;
    for letter in b"abcdef" {
        shard.pass(INTERVAL / 10);
        let member = members[usize::from(*letter) % 3];
        shard.sends(member, &[0x81, 0x81, 0, 0, 0, 0, *letter]);
        assert_eq!(turn(&mut shard, usize::MAX, None), []);
    }
    assert_eq!(shard.next_fan_out(), Some(began + INTERVAL));
    assert_eq!(shard.sleeps_until(), shard.next_fan_out());
    assert_eq!(shard.waiting_messages("/"), 6);
    assert!(shard.stats.value(Stat::CoalescingBytes) > 0);
    shard.pass_until(Timestamp(began.0 + INTERVAL.as_micros() as u64 - 1));
    shard.sends(members[0], &[0x81, 0x81, 0, 0, 0, 0, b'g']);
    assert_eq!(turn(&mut shard, usize::MAX, None), []);
    shard.pass_until(began + INTERVAL);
    let writes = writes_to(&mut shard, members[1]);
    assert_eq!(writes.len(), 1);
    let letters: Vec<u8> = writes[0].chunks(3).map(|frame| frame[2]).collect();
    assert_eq!(letters, b"abcdefg");
    assert_eq!(shard.stats.value(Stat::Coalesced), 7);
    assert_eq!(shard.stats.value(Stat::CoalescingBytes), 0);
}

#[test]
fn an_interval_begins_where_the_last_fan_out_began() {
    let (mut shard, members) = just_fanned_out();
    let began = shard.now;
    shard.sends(members[0], &text(1));
    turn(&mut shard, usize::MAX, None);
    // The wake comes late.
    shard.pass_until(began + 3 * INTERVAL);
    assert_eq!(turn(&mut shard, usize::MAX, None).len(), 3);
    shard.sends(members[0], &text(1));
    assert_eq!(turn(&mut shard, usize::MAX, None), []);
    assert_eq!(shard.next_fan_out(), Some(began + 4 * INTERVAL));
}

#[test]
fn messages_that_fill_a_write_do_not_wait() {
    let (mut shard, members) = just_fanned_out();
    let many = text(100).repeat(300);
    shard.sends(members[0], &many);
    assert_eq!(turn(&mut shard, usize::MAX, None), []);
    shard.sends(members[0], &many);
    assert_eq!(turn(&mut shard, usize::MAX, None).len(), 3);
    assert_eq!(shard.stats.value(Stat::Delivered), 3 * 601);
    assert_eq!(shard.next_fan_out(), None);
}

#[test]
fn messages_that_come_during_a_flush_join_its_later_writes() {
    let (mut shard, members) = coalescing();
    let began = shard.time();
    shard.sends(members[0], &text(1));
    let visited = turn(&mut shard, 1, None);
    shard.pass(INTERVAL / 2);
    shard.sends(members[0], &text(1));
    turn(&mut shard, 0, None);
    assert_eq!(shard.next_fan_out(), Some(began + INTERVAL));
    shard.pass_until(began + INTERVAL);
    let mut unvisited = members.iter().filter(|member| !visited.contains(member));
    let writes = writes_to(
        &mut shard,
        *unvisited.next().expect("two members are unvisited"),
    );
    assert_eq!(writes, [b"\x81\x01x".repeat(2)]);
}

#[test]
fn a_drain_does_not_reach_the_limit_on_waiting_messages() {
    let mut config = config_with_little_memory();
    config.limits.max_buffered_bytes *= 2;
    let (mut shards, _) = two_shards(&config);
    let router = Router::new(2, 0);
    let paths = (0..100).map(|n| format!("/{n}"));
    let topics = paths.filter(|path| router.owner(path) == ShardId(0));
    let members: Vec<ClientKey> = topics
        .take(3)
        .map(|topic| join(&mut shards[1], &topic, b""))
        .collect();
    turns(&mut shards);
    for &member in &members {
        shards[1].sends(member, &text(1));
    }
    turns(&mut shards);
    for &member in &members {
        // Together they are more than a sixteenth of the memory, and each is less than a write takes.
        shards[1].sends(member, &text(100).repeat(200));
    }
    turn_and_deliver(&mut shards, 1);
    // The owner is told to drain in the turn in which it hears of them.
    shards[0].gets(Mail::Drain);
    turns(&mut shards);
    assert_eq!(shards[1].stats.value(Stat::Delivered), 3 * 201);
    assert_eq!(shards[0].stats.value(Stat::CoalescingLimitReached), 0);
}

#[test]
fn a_message_reaches_the_others_although_its_sender_leaves() {
    let (mut shard, members) = just_fanned_out();
    let close = [0x88, 0x80, 0, 0, 0, 0];
    shard.sends(members[0], &[&text(1)[..], &close].concat());
    turn(&mut shard, usize::MAX, None);
    assert_eq!(shard.waiting_messages("/"), 1);
    shard.pass(INTERVAL);
    assert_eq!(sent_to(&mut shard, members[1]), b"\x81\x01x");
}

#[test]
fn a_topic_is_forgotten_although_everybody_leaves_while_messages_wait() {
    let (mut shard, members) = just_fanned_out();
    shard.sends(members[0], &text(1));
    turn(&mut shard, usize::MAX, None);
    for member in members {
        shard.fails(member);
    }
    turn(&mut shard, usize::MAX, None);
    let due = shard.next_fan_out().expect("something waits");
    shard.pass_until(due);
    turn(&mut shard, usize::MAX, None);
    for gauge in [Stat::Topics, Stat::OwnedTopics, Stat::CoalescingBytes] {
        assert_eq!(shard.stats.value(gauge), 0, "{gauge:?}");
    }
    assert_eq!(shard.stats.value(Stat::Offered), 3);
}

#[test]
fn a_member_that_joins_while_messages_wait_is_sent_them() {
    let (mut shard, members) = just_fanned_out();
    shard.sends(members[0], &text(1));
    turn(&mut shard, usize::MAX, None);
    let late = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.pass(INTERVAL);
    assert_eq!(sent_to(&mut shard, late), b"\x81\x01x");
}

#[test]
fn a_violator_gets_its_waiting_messages_before_the_close() {
    let (mut shard, members) = just_fanned_out();
    shard.sends(members[0], &[&text(1)[..], &UNMASKED].concat());
    assert_eq!(sent_to(&mut shard, members[0]), b"");
    shard.pass(INTERVAL);
    let sent = sent_to(&mut shard, members[0]);
    assert_eq!(sent[..3], *b"\x81\x01x");
    assert_eq!((sent[3], &sent[5..7]), (0x88, &1002u16.to_be_bytes()[..]));
}

#[test]
fn a_drain_does_not_wait_for_the_interval() {
    let (mut shard, members) = just_fanned_out();
    shard.sends(members[0], &text(1));
    turn(&mut shard, usize::MAX, None);
    shard.begin_drain();
    let sent = sent_to(&mut shard, members[2]);
    assert_eq!(sent[..3], *b"\x81\x01x");
    assert_eq!((sent[3], &sent[5..7]), (0x88, &1001u16.to_be_bytes()[..]));
    assert_eq!(shard.stats.value(Stat::Coalesced), 1);
}

#[test]
fn a_message_that_is_fanned_out_in_its_own_turn_does_not_count_as_coalesced() {
    let (mut shards, path) = two_coalescing();
    let publisher = join(&mut shards[1], &path, b"");
    turns(&mut shards);
    shards[1].sends(publisher, &text(1));
    turns(&mut shards);
    shards[1].sends(publisher, &text(1));
    turn_and_deliver(&mut shards, 1);
    // Without the drain this message would wait.
    shards[0].gets(Mail::Drain);
    turns(&mut shards);
    assert_eq!(shards[1].stats.value(Stat::Delivered), 2);
    assert_eq!(shards[0].stats.value(Stat::Coalesced), 0);
}

#[test]
fn waiting_messages_of_many_topics_take_a_small_share_of_the_memory() {
    const TOPICS: usize = 100;
    let mut shard = coalescing_with_little_memory();
    let members: Vec<Vec<ClientKey>> = (0..TOPICS)
        .map(|n| {
            (0..3)
                .map(|_| join(&mut shard, &format!("/{n}"), b""))
                .collect()
        })
        .collect();
    turn(&mut shard, usize::MAX, None);
    for topic in &members {
        shard.sends(topic[0], &text(1));
    }
    turn(&mut shard, usize::MAX, None);
    let (mut waiting, mut most_waiting, mut waited, mut times) = (0, 0, 0, 0);
    for topic in &members {
        shard.sends(topic[0], &text(100).repeat(100));
        // `check` fails if they take more than their share.
        turn(&mut shard, usize::MAX, None);
        if shard.owner.waiting_topics() == 0 {
            // Everything has gone out. The messages of this turn have not waited.
            waited += waiting;
            times += 1;
        }
        waiting = shard.owner.waiting_topics();
        most_waiting = most_waiting.max(waiting);
    }
    assert!((2..TOPICS / 2).contains(&most_waiting), "{most_waiting}");
    assert_eq!(shard.stats.value(Stat::Coalesced), 100 * waited as u64);
    assert_eq!(shard.stats.value(Stat::CoalescingLimitReached), times);
}

#[test]
fn messages_do_not_wait_without_coalescing() {
    let mut config = Config::default();
    config.relay.coalesce = Duration::ZERO;
    let mut shard = shard_with(&config);
    let publisher = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    for _ in 0..10 {
        shard.sends(publisher, &text(1));
        assert_eq!(turn(&mut shard, usize::MAX, None), [publisher]);
    }
    assert_eq!(shard.stats.value(Stat::Coalesced), 0);
}

/// Two shards with coalescing, and a topic that the first owns.
fn two_coalescing() -> ([Driven; 2], String) {
    two_shards(&config_with(Duration::from_secs(1)))
}

/// The wait of the second of two messages of `publisher`, a client of the first shard, in a topic that was quiet.
fn wait_behind_another(shards: &mut [Driven; 2], publisher: ClientKey) -> Duration {
    for shard in &mut *shards {
        shard.pass(Duration::from_secs(1));
    }
    let began = shards[0].time();
    for _ in 0..2 {
        shards[0].sends(publisher, &text(1));
        turns(shards);
    }
    let due = shards[0].next_fan_out().expect("something waits");
    due.since(began)
}

#[test]
fn a_topic_waits_longer_with_more_members_on_any_shard() {
    let (mut shards, path) = two_coalescing();
    let publisher = join(&mut shards[0], &path, b"");
    join(&mut shards[0], &path, b"");
    turns(&mut shards);
    assert_eq!(wait_behind_another(&mut shards, publisher), 2 * PER_MEMBER);
    for _ in 0..7 {
        join(&mut shards[1], &path, b"");
    }
    turns(&mut shards);
    assert_eq!(wait_behind_another(&mut shards, publisher), 9 * PER_MEMBER);
}

#[test]
fn a_topic_does_not_wait_for_listeners_of_another_shard_that_have_left() {
    let mut config = config_with(Duration::from_secs(1));
    // More than a minute passes, and nobody answers a ping.
    config.keepalive.ping_interval = Duration::ZERO;
    let (mut shards, path) = two_shards(&config);
    let publisher = join(&mut shards[0], &path, b"");
    let listeners: Vec<ClientKey> = (0..200).map(|_| join(&mut shards[1], &path, b"")).collect();
    turns(&mut shards);
    let crowded = wait_behind_another(&mut shards, publisher);
    assert_eq!(crowded, 201 * PER_MEMBER);
    // They leave one by one without a message. The last stays.
    let before = shards[0].stats.value(Stat::Envelopes);
    for &listener in &listeners[1..] {
        shards[1].fails(listener);
        turns(&mut shards);
    }
    // The owner is told when 99, 49, 24, 11, 5 and 2 are left.
    assert_eq!(shards[0].stats.value(Stat::Envelopes) - before, 6);
    let wait = wait_behind_another(&mut shards, publisher);
    assert!(wait <= 3 * PER_MEMBER, "{wait:?} with one left");
}

#[test]
fn an_owner_knows_within_a_second_how_many_are_left_and_is_told_no_more_often() {
    let mut config = config_with(Duration::from_secs(1));
    config.keepalive.ping_interval = Duration::ZERO;
    let (mut shards, path) = two_shards(&config);
    let listeners: Vec<ClientKey> = (0..200).map(|_| join(&mut shards[1], &path, b"")).collect();
    turns(&mut shards);
    let told = |shards: &[Driven; 2]| shards[0].stats.value(Stat::Envelopes);
    let members = |shards: &[Driven; 2]| shards[0].owner.members(&path);
    let before = told(&shards);
    for &listener in &listeners[..90] {
        shards[1].fails(listener);
        turns(&mut shards);
    }
    assert_eq!((told(&shards) - before, members(&shards)), (0, 200));
    for shard in &mut shards {
        shard.pass(Duration::from_secs(1));
    }
    turns(&mut shards);
    assert_eq!((told(&shards) - before, members(&shards)), (1, 110));
    assert_eq!(shards[1].next_census(), None);
}

#[test]
fn a_topic_that_is_due_when_it_gets_a_message_counts_as_served() {
    let (mut shard, members) = coalescing();
    let others: Vec<ClientKey> = (0..3).map(|_| join(&mut shard, "/other", b"")).collect();
    turn(&mut shard, usize::MAX, None);
    shard.pass(Duration::from_secs(1));
    // Both are fanned out shortly after each other, and then have a message that waits.
    let soon = Duration::from_micros(5);
    for member in [members[0], others[0]] {
        shard.sends(member, &text(1));
        turn(&mut shard, usize::MAX, None);
        shard.sends(member, &text(1));
        turn(&mut shard, usize::MAX, None);
        shard.pass(soon);
    }
    let due = shard.next_fan_out().unwrap();
    shard.pass_until(due);
    shard.sends(members[0], &text(1));
    turn(&mut shard, usize::MAX, None);
    let gap = shard.next_fan_out().unwrap().since(due);
    assert_eq!(gap, crate::relay::owner::coalesce::WAKE_GAP);
}
