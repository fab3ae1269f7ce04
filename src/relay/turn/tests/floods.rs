//! Floods of tiny frames: a visit to their sender is limited, and what it does not take in is not lost.

use super::*;
use crate::ids::Seq;
use crate::relay::conduct::Conduct;

/// A host whose clients have input, one read each, and whose clock shows a tenth of a millisecond more at each look.
struct Flooded {
    now: Timestamp,
    reads: Vec<(ClientKey, Vec<u8>)>,
}

impl Host for Flooded {
    fn now(&mut self) -> Timestamp {
        self.now = self.now + Duration::from_micros(100);
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
        let Some(at) = self.reads.iter().position(|(of, _)| *of == key) else {
            return Filled::Empty;
        };
        let (_, mut bytes) = self.reads.remove(at);
        shard.on_bytes(key, &mut bytes);
        Filled::Last(bytes.len())
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

const PING: [u8; 7] = [0x89, 0x81, 0, 0, 0, 0, b'x'];
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
const MESSAGE: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'x'];
/// The beginning of a message, two parts of it that bring nothing and a byte, and its end.
const BEGIN: [u8; 6] = [0x01, 0x80, 0, 0, 0, 0];
const NOTHING: [u8; 6] = [0x00, 0x80, 0, 0, 0, 0];
const CRUMB: [u8; 7] = [0x00, 0x81, 0, 0, 0, 0, b'x'];
const END: [u8; 6] = [0x80, 0x80, 0, 0, 0, 0];

/// About as many tiny frames as one read brings.
const MANY: usize = 18_000;

/// A shard with two members of different topics, and its host.
fn world(config: &Config) -> (Turn, Flooded, [ClientKey; 2]) {
    world_within(config, Budgets::default())
}

/// The same, with turns of these budgets.
fn world_within(config: &Config, budgets: Budgets) -> (Turn, Flooded, [ClientKey; 2]) {
    let now = Timestamp(1_000_000_000);
    let settings = Settings::new(config, 1);
    let shard = Shard::new(ShardId(0), settings, Router::new(1, 0), now);
    let mut turn = Turn::new(shard, budgets, now);
    let mut host = Flooded {
        now,
        reads: Vec::new(),
    };
    let clients = [join(&mut turn, "/flood"), join(&mut turn, "/quiet")];
    turn.run(&mut host);
    (turn, host, clients)
}

fn without_limits() -> Config {
    let mut config = Config::default();
    config.limits.control_frames_per_second = 0;
    config
}

/// A client sends so much in one packet.
fn say(turn: &mut Turn, host: &mut Flooded, client: ClientKey, bytes: Vec<u8>) {
    host.reads.push((client, bytes));
    turn.shard.make_ready(client);
}

/// The number of messages of `of` that were taken in when a message of another client was, and in the end.
fn messages_beside(flood: Vec<u8>) -> (u64, u64) {
    let (mut turn, mut host, [flooder, honest]) = world(&without_limits());
    say(&mut turn, &mut host, flooder, flood);
    say(&mut turn, &mut host, honest, MESSAGE.to_vec());
    turn.run(&mut host);
    turn.shard.check();
    let first = turn.shard.stats().value(Stat::Messages);
    let began = host.now;
    while turn.shard.has_undecoded(flooder) {
        assert_eq!(turn.sleep(host.now).ends_at(), Some(host.now));
        turn.run(&mut host);
        turn.shard.check();
    }
    assert!(host.now.since(began) < Duration::from_secs(1));
    (first, turn.shard.stats().value(Stat::Messages))
}

#[test]
fn a_flood_of_tiny_messages_does_not_keep_others_waiting_and_none_is_lost() {
    let (first, all) = messages_beside(MESSAGE.repeat(MANY));
    assert!(first < 1 + MANY as u64 / 2, "{first} in one visit");
    assert_eq!(all, 1 + MANY as u64);
}

#[test]
fn a_flood_of_control_frames_or_fragments_does_not_either_and_what_follows_it_is_heard() {
    for frame in [&PING[..], &PONG, &NOTHING, &CRUMB] {
        let is_part = frame[0] == NOTHING[0];
        let (begin, end) = if is_part { (BEGIN, END) } else { (PONG, PONG) };
        let flood = [&begin[..], &frame.repeat(MANY), &end, &MESSAGE].concat();
        let (first, all) = messages_beside(flood);
        assert_eq!(first, 1, "the message behind {frame:?} comes later");
        assert_eq!(all, 2 + u64::from(is_part));
    }
}

#[test]
fn a_client_whose_input_waits_for_its_topic_goes_on_with_it_afterwards() {
    let mut config = without_limits();
    config.slow_consumer.max_lag_bytes = 2 << 20;
    let (mut turn, mut host, [flooder, _]) = world(&config);
    // Far more than may be on its way to a topic.
    for _ in 0..16 {
        say(&mut turn, &mut host, flooder, MESSAGE.repeat(MANY));
    }
    while !host.reads.is_empty() || turn.shard.has_undecoded(flooder) {
        turn.shard.make_ready(flooder);
        turn.run(&mut host);
        turn.shard.check();
    }
    assert_eq!(turn.shard.stats().value(Stat::Messages), 16 * MANY as u64);
}

#[test]
fn a_crowd_that_floods_keeps_only_itself_waiting() {
    let (mut turn, mut host, [_, honest]) = world(&without_limits());
    let crowd: Vec<ClientKey> = (0..20).map(|_| join(&mut turn, "/flood")).collect();
    turn.run(&mut host);
    for &flooder in &crowd {
        say(&mut turn, &mut host, flooder, PING.repeat(4 * MANY));
    }
    // Four of them are visited in a turn. Once each had a whole visit, the next ones are behind those to others.
    for _ in 0..10 {
        turn.run(&mut host);
    }
    assert!(
        crowd
            .iter()
            .all(|&flooder| turn.shard.has_undecoded(flooder))
    );
    for heard in 1..=5 {
        say(&mut turn, &mut host, honest, MESSAGE.to_vec());
        turn.run(&mut host);
        assert_eq!(turn.shard.stats().value(Stat::Messages), heard);
    }
}

/// Whether a client that sends this, in one packet, is closed for too many control frames.
fn is_closed_for(config: &Config, bytes: Vec<u8>) -> bool {
    let (mut turn, mut host, [client, _]) = world(config);
    say(&mut turn, &mut host, client, bytes);
    while !host.reads.is_empty() || turn.shard.has_undecoded(client) {
        turn.run(&mut host);
    }
    turn.shard.stats().value(Stat::DisconnectedControlRate) == 1
}

#[test]
fn too_many_control_frames_close_their_sender_and_no_honest_number_does() {
    let config = Config::default();
    for frame in [&PING[..], &PONG] {
        assert!(!is_closed_for(&config, frame.repeat(2_000)));
        assert!(is_closed_for(&config, frame.repeat(2_100)));
    }
    let fragmented = |part: &[u8]| [&BEGIN[..], &part.repeat(2_100), &END].concat();
    assert!(is_closed_for(&config, fragmented(&NOTHING)));
    assert!(!is_closed_for(&config, fragmented(&CRUMB)));
    // Some libraries end each fragmented message with an empty frame.
    let ended = [&BEGIN[..], &CRUMB, &END].concat();
    assert!(!is_closed_for(&config, ended.repeat(3_000)));
    assert!(!is_closed_for(&without_limits(), PING.repeat(MANY)));
}

#[test]
fn messages_in_front_of_a_flood_are_relayed_and_those_behind_the_close_are_not() {
    let (mut turn, mut host, [client, _]) = world(&Config::default());
    let flood = [&MESSAGE[..], &PING.repeat(3_000), &MESSAGE].concat();
    say(&mut turn, &mut host, client, flood);
    for _ in 0..10 {
        turn.run(&mut host);
        turn.shard.check();
    }
    assert_eq!(turn.shard.stats().value(Stat::Messages), 1);
    assert_eq!(turn.shard.stats().value(Stat::DisconnectedControlRate), 1);
}

#[test]
fn a_client_that_pings_ten_times_a_second_and_answers_all_pings_stays() {
    let (mut turn, mut host, [client, _]) = world(&Config::default());
    for _ in 0..3_000 {
        say(
            &mut turn,
            &mut host,
            client,
            [&PING[..], &PING, &PONG, &PING].concat(),
        );
        turn.run(&mut host);
        host.now = host.now + Duration::from_millis(100);
    }
    assert_eq!(turn.shard.stats().value(Stat::DisconnectedControlRate), 0);
    assert_eq!(turn.shard.len(), 1, "the other answers no ping");
}

#[test]
fn a_flood_behind_the_request_is_taken_in_to_its_end_although_the_owner_answers_later() {
    let (mut turn, mut idle) = turn_of_one_of(2);
    let client = join_elsewhere(&mut turn, &mut idle);
    // They come while the owner is asked.
    turn.shard.on_bytes(client, &mut MESSAGE.repeat(MANY));
    turn.shard.handle(Envelope::Subscribed {
        topic: path_elsewhere().as_str().into(),
        client,
        next: Seq(0),
        conduct: Conduct::of_all(&Config::default()),
        resumed: None,
        places: None,
        held: None,
    });
    let mut host = Flooded {
        now: idle.now,
        reads: Vec::new(),
    };
    while turn.sleep(host.now).until == Some(host.now) {
        turn.run(&mut host);
        turn.shard.check();
    }
    assert_eq!(turn.shard.stats().value(Stat::Messages), MANY as u64);
}

/// A compressed message of 100 kB, which is short.
fn compressed() -> Vec<u8> {
    use crate::ws::deflate::{Compressor, WindowSize};
    let mut frame = Vec::new();
    let mut compressor = Compressor::new(WindowSize::Large);
    compressor.push_message(&mut frame, MessageKind::Text, &vec![b'x'; 100_000]);
    assert_eq!(frame[1], 126, "its length has two bytes");
    frame[1] |= 0x80;
    frame.splice(4..4, [0; 4]);
    frame
}

/// The number of such messages that the first visit takes in, of a hundred that come in one read.
fn compressed_in_one_visit(budgets: Budgets) -> u64 {
    let mut config = without_limits();
    config.compression.enabled = true;
    config.slow_consumer.max_lag_bytes = 256 << 20;
    let (mut turn, mut host, [_, honest]) = world_within(&config, budgets);
    let flooder = turn.shard.accept();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n";
    let request = request("/flood").replacen("\r\n\r\n", &format!("\r\n{offer}"), 1);
    say(&mut turn, &mut host, flooder, request.into_bytes());
    turn.run(&mut host);
    say(&mut turn, &mut host, flooder, compressed().repeat(100));
    say(&mut turn, &mut host, honest, MESSAGE.to_vec());
    turn.run(&mut host);
    let first = turn.shard.stats().value(Stat::InflatedMessages);
    while turn.shard.has_undecoded(flooder) || turn.shard.has_ready() {
        turn.run(&mut host);
        turn.shard.check();
    }
    assert_eq!(turn.shard.stats().value(Stat::InflatedMessages), 100);
    assert_eq!(turn.shard.stats().value(Stat::Messages), 101);
    first
}

#[test]
fn a_step_of_compressed_messages_is_as_short_as_one_of_tiny_frames() {
    // Four steps, each of one message or two, because one costs as much as most of a thousand frames.
    let first = compressed_in_one_visit(Budgets::default());
    assert!((4..12).contains(&first), "{first} in one visit");
}

#[test]
fn the_length_after_inflating_uses_up_the_budget_of_reads() {
    let first = compressed_in_one_visit(Budgets {
        read_bytes: 150_000,
        ..Budgets::default()
    });
    assert!((1..=2).contains(&first), "{first} in one visit");
}
