//! Tests of the turn and its sleep, with a host that has no sockets.

mod endings;
mod floods;
mod pauses;

use super::*;
use crate::config::Config;
use crate::port::terms::Form;
use crate::port::topic_name::TopicName;
use crate::relay::batch::audience::Audience;
use crate::relay::envelope::Hold;
use crate::relay::policy::grace::GRACE;
use crate::relay::router::Router;
use crate::relay::shard::Settings;
use crate::ws::frame::MessageKind;

/// A host without sockets, whose inboxes may be full.
struct Idle {
    now: Timestamp,
    is_congested: bool,
    news: Vec<(ClientKey, Readiness)>,
}

impl Host for Idle {
    fn now(&mut self) -> Timestamp {
        self.now
    }

    fn next_event(&mut self) -> Option<(ClientKey, Readiness)> {
        self.news.pop()
    }

    fn take_mail(&mut self, _shard: &mut Shard) {}

    fn is_congested(&mut self) -> bool {
        self.is_congested
    }

    fn fill(&mut self, _shard: &mut Shard, _key: ClientKey) -> Filled {
        Filled::Empty
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

fn turn() -> (Turn, Idle) {
    turn_of_one_of(1)
}

/// The first of so many shards, and its host.
fn turn_of_one_of(shards: u16) -> (Turn, Idle) {
    let now = Timestamp(1_000_000);
    let settings = Settings::new(&Config::default(), shards);
    let shard = Shard::new(ShardId(0), settings, Router::new(shards, 0), now);
    let mut host = Idle {
        now,
        is_congested: false,
        news: Vec::new(),
    };
    let mut turn = Turn::new(shard, Budgets::default(), now);
    turn.run(&mut host);
    (turn, host)
}

#[test]
fn a_host_without_clients_sleeps_without_end() {
    let (mut turn, host) = turn();
    assert_eq!(turn.sleep(host.now).ends_at(), None);
}

#[test]
fn a_congested_host_whose_deadline_has_passed_does_not_spin() {
    let (mut turn, mut host) = turn();
    turn.shard.accept();
    let due = turn.shard.next_deadline().expect("the request is awaited");
    while host.now < due {
        host.now = turn.sleep(host.now).ends_at().expect("a client is there");
        turn.run(&mut host);
        host.is_congested = host.now + HEARTBEAT >= due;
    }
    assert_eq!(turn.shard.len(), 1, "deadlines wait for the inboxes");
    assert_eq!(turn.sleep(host.now).ends_at(), Some(due + CONGESTION_RETRY));
    host.now = due + CONGESTION_RETRY;
    host.is_congested = false;
    turn.run(&mut host);
    assert_eq!(turn.shard.stats().value(Stat::HandshakeTimeout), 1);
}

#[test]
fn input_that_is_left_over_ends_the_sleep_at_once() {
    let (mut turn, mut host) = turn();
    let client = turn.shard.accept();
    turn.shard.make_ready(client);
    assert_eq!(turn.sleep(host.now).ends_at(), Some(host.now));
    host.is_congested = true;
    turn.run(&mut host);
    assert_eq!(
        turn.sleep(host.now).ends_at(),
        Some(host.now + CONGESTION_RETRY)
    );
}

#[test]
fn a_failure_is_not_missed_although_a_drain_parks_the_client_before_it_is_read() {
    let (mut turn, mut host) = turn();
    let client = join(&mut turn, "/");
    turn.run(&mut host);
    turn.on_event(&mut host, client, FAILED);
    turn.shard.begin_drain();
    turn.begin_closes(&mut host);
    turn.read(&mut host);
    assert!(turn.shard.is_empty());
}

#[test]
fn the_end_of_a_wait_for_laggards_ends_the_sleep() {
    let (mut turn, host) = turn();
    let (topic, from) = (TopicName::from("/"), ShardId(0));
    turn.shard.handle(Envelope::Subscribe {
        topic: topic.clone(),
        from,
        client: ClientKey::first_in(0),
        start: None,
        audience: Audience::of(Form::Frames, 1),
        form: Form::Frames,
    });
    let hold = Hold::Grace;
    turn.shard.handle(Envelope::Hold { topic, from, hold });
    assert_eq!(turn.sleep(host.now).ends_at(), Some(host.now + GRACE));
}

const FAILED: Readiness = Readiness {
    is_readable: false,
    is_writable: false,
    is_read_closed: false,
    is_error: true,
};

/// A client that asks for `path`.
fn join(turn: &mut Turn, path: &str) -> ClientKey {
    let client = turn.shard.accept();
    turn.shard.on_bytes(client, &mut request(path).into_bytes());
    client
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
}

/// A topic that the other of two shards owns.
fn path_elsewhere() -> String {
    let router = Router::new(2, 0);
    let elsewhere = |path: &String| router.owner(path) == ShardId(1);
    (0..100).map(|n| format!("/{n}")).find(elsewhere).unwrap()
}

/// A client that is parked, because it waits for the answer of a topic's owner on the other of two shards.
fn join_elsewhere(turn: &mut Turn, host: &mut Idle) -> ClientKey {
    let client = join(turn, &path_elsewhere());
    turn.run(host);
    assert_eq!(turn.shard.permit(client), Permit::Parked);
    client
}

#[test]
fn a_connection_that_fails_while_it_is_not_read_is_given_up() {
    let (mut turn, mut host) = turn_of_one_of(2);
    let client = join_elsewhere(&mut turn, &mut host);
    host.news.push((client, FAILED));
    turn.run(&mut host);
    assert!(turn.shard.is_empty());
}

#[test]
fn orders_between_two_turns_end_the_sleep_at_once() {
    let (mut turn, mut host) = turn();
    turn.shard
        .publish_from_outside(&"/".into(), MessageKind::Text, b"a")
        .unwrap();
    assert_eq!(turn.sleep(host.now).ends_at(), Some(host.now));
    turn.run(&mut host);
    assert_eq!(turn.sleep(host.now).ends_at(), None);
    turn.shard.begin_drain();
    assert_eq!(turn.sleep(host.now).ends_at(), Some(host.now));
    turn.run(&mut host);
    assert!(turn.shard.is_drained());
}

#[test]
fn messages_that_come_between_two_turns_are_the_next_turns() {
    let (mut turn, mut host) = turn();
    let client = join(&mut turn, "/");
    for _ in 0..2 {
        turn.run(&mut host);
        host.now = host.now + Duration::from_secs(1);
        turn.shard
            .on_bytes(client, &mut b"\x81\x81\0\0\0\0a".to_vec());
    }
    turn.run(&mut host);
    assert_eq!(turn.shard.stats().value(Stat::Delivered), 2);
}

#[test]
fn a_parked_client_whose_connection_fails_ends_although_the_inboxes_are_full() {
    let (mut turn, mut host) = turn_of_one_of(2);
    let client = join_elsewhere(&mut turn, &mut host);
    host.is_congested = true;
    host.news.push((client, FAILED));
    turn.run(&mut host);
    assert!(turn.shard.is_empty());
}
