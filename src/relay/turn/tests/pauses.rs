//! Pauses of the process, and a clock that goes back. Neither counts against clients.

use super::*;
use crate::relay::patience::HEARTBEAT;

const SECOND: Duration = Duration::from_secs(1);

/// A host whose one client has input, read by read. Time may pass between two reads.
struct Paused {
    now: Timestamp,
    reads: Vec<(Duration, Vec<u8>)>,
}

impl Host for Paused {
    fn now(&mut self) -> Timestamp {
        self.now
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        None
    }

    fn take_mail(&mut self, _shard: &mut Shard) {}

    fn is_congested(&mut self) -> bool {
        false
    }

    fn fill(&mut self, shard: &mut Shard, key: ClientKey) -> Filled {
        if self.reads.is_empty() {
            return Filled::Empty;
        }
        let (later, mut bytes) = self.reads.remove(0);
        shard.on_bytes(key, &mut bytes);
        self.now = self.now + later;
        Filled::More(bytes.len())
    }

    fn hand_over(&mut self, _key: ClientKey, _home: ShardId, _transfer: Transfer) {}

    fn write(
        &mut self,
        _key: ClientKey,
        _slices: &[IoSlice<'_>],
        offered: usize,
    ) -> Option<Written> {
        Some(Written::plain(offered, offered))
    }

    fn post(&mut self, _to: ShardId, _envelope: Envelope) {}

    fn apply(&mut self, _effect: Effect) {}
}

/// A shard whose clients may send ten messages a second, and its host.
fn turn_with_a_limit() -> (Turn, Paused) {
    let mut config = Config::default();
    config.limits.messages_per_second = 10;
    let now = Timestamp(1_000_000_000);
    let shard = Shard::new(
        ShardId(0),
        Settings::new(&config, 1),
        Router::new(1, 0),
        now,
    );
    let host = Paused {
        now,
        reads: Vec::new(),
    };
    (Turn::new(shard, Budgets::default(), now), host)
}

/// So many empty messages.
fn messages(count: usize) -> Vec<u8> {
    [0x81, 0x80, 0, 0, 0, 0].repeat(count)
}

/// Sleeps and takes turns for `span`, as a host does that is never paused.
fn live(turn: &mut Turn, host: &mut Paused, span: Duration) {
    let end = host.now + span;
    while host.now < end {
        let wake = turn.sleep(host.now).ends_at().unwrap_or(end);
        host.now = wake.clamp(host.now, end);
        turn.run(host);
    }
}

/// Reads this much of a client in the next turn.
fn hear(turn: &mut Turn, host: &mut Paused, client: ClientKey, bytes: Vec<u8>) {
    host.reads.push((Duration::ZERO, bytes));
    turn.shard.make_ready(client);
    turn.run(host);
}

/// A client that has used up its burst.
fn join_and_use_up(turn: &mut Turn, host: &mut Paused) -> ClientKey {
    let client = join(turn, "/");
    turn.run(host);
    hear(turn, host, client, messages(50));
    assert_eq!(turn.shard.stats().value(Stat::Messages), 50);
    client
}

#[test]
fn messages_that_pile_up_while_the_relay_is_stopped_are_not_too_many() {
    for asleep in [SECOND / 10, SECOND / 2, SECOND * 3] {
        let (mut turn, mut host) = turn_with_a_limit();
        let client = join(&mut turn, "/");
        turn.run(&mut host);
        live(&mut turn, &mut host, asleep);
        turn.sleep(host.now);
        host.now = host.now + SECOND * 8;
        hear(&mut turn, &mut host, client, messages(72));
        assert_eq!(turn.shard.stats().value(Stat::DisconnectedRate), 0);
        assert_eq!(turn.shard.stats().value(Stat::Messages), 72);
        // The pause excuses 80, and the burst is 50.
        hear(&mut turn, &mut host, client, messages(80 + 50 + 10 - 72));
        assert_eq!(turn.shard.stats().value(Stat::DisconnectedRate), 1);
    }
}

#[test]
fn a_pause_between_two_reads_of_a_turn_is_noticed_before_the_second() {
    let (mut turn, mut host) = turn_with_a_limit();
    let client = join_and_use_up(&mut turn, &mut host);
    host.reads = vec![(SECOND * 8, Vec::new()), (Duration::ZERO, messages(72))];
    turn.shard.make_ready(client);
    turn.run(&mut host);
    turn.run(&mut host);
    assert_eq!(turn.shard.stats().value(Stat::DisconnectedRate), 0);
    assert_eq!(turn.shard.stats().value(Stat::Messages), 50 + 72);
}

#[test]
fn a_client_that_sends_too_much_is_still_closed_although_the_relay_was_stopped_once() {
    let (mut turn, mut host) = turn_with_a_limit();
    let client = join_and_use_up(&mut turn, &mut host);
    turn.sleep(host.now);
    host.now = host.now + SECOND * 8;
    turn.run(&mut host);
    live(&mut turn, &mut host, SECOND * 20);
    hear(&mut turn, &mut host, client, messages(52));
    assert_eq!(turn.shard.stats().value(Stat::DisconnectedRate), 1);
}

#[test]
fn a_pause_does_not_count_as_time_that_a_client_had_for_its_request() {
    let (mut turn, mut host) = turn_with_a_limit();
    turn.shard.accept();
    turn.run(&mut host);
    live(&mut turn, &mut host, SECOND * 8);
    turn.sleep(host.now);
    host.now = host.now + SECOND * 60;
    turn.run(&mut host);
    live(&mut turn, &mut host, SECOND * 3 / 2);
    assert_eq!(turn.shard.stats().value(Stat::HandshakeTimeout), 0);
    live(&mut turn, &mut host, SECOND);
    assert_eq!(turn.shard.stats().value(Stat::HandshakeTimeout), 1);
}

#[test]
fn a_pause_does_not_count_as_time_that_a_client_had_for_its_pong() {
    let (mut turn, mut host) = turn_with_a_limit();
    join(&mut turn, "/");
    turn.run(&mut host);
    live(&mut turn, &mut host, SECOND * 43);
    turn.sleep(host.now);
    host.now = host.now + SECOND * 8;
    turn.run(&mut host);
    live(&mut turn, &mut host, SECOND * 3 / 2);
    assert_eq!(turn.shard.stats().value(Stat::DisconnectedPong), 0);
    live(&mut turn, &mut host, SECOND * 2);
    assert_eq!(turn.shard.stats().value(Stat::DisconnectedPong), 1);
}

#[test]
fn a_host_with_clients_sleeps_so_briefly_that_it_notices_a_pause_of_a_second() {
    let (mut turn, mut host) = turn_with_a_limit();
    turn.run(&mut host);
    assert_eq!(turn.sleep(host.now).ends_at(), None);
    join(&mut turn, "/");
    turn.run(&mut host);
    assert_eq!(turn.sleep(host.now).ends_at(), Some(host.now + HEARTBEAT));
    host.now = host.now + SECOND + Duration::from_millis(1);
    turn.run(&mut host);
    assert_eq!(turn.shard.stats().value(Stat::Pauses), 1);
    assert_eq!(turn.shard.stats().value(Stat::PausedMicros), 1_001_000);
}

#[test]
fn a_clock_that_goes_back_stands_still_for_the_shard() {
    let (mut turn, mut host) = turn_with_a_limit();
    join(&mut turn, "/");
    turn.run(&mut host);
    let before = host.now;
    host.now = Timestamp(before.0 - 500_000_000);
    turn.run(&mut host);
    assert_eq!(turn.shard.now(), before);
    assert_eq!(turn.sleep(host.now).ends_at(), Some(before + HEARTBEAT));
}
