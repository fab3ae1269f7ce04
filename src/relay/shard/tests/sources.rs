//! Clients that may only publish: they are let in, heard and held, and hear nothing.

use super::*;
use crate::config::Subscribe;
use crate::port::topic_name::TopicName;
use crate::relay::envelope::Hold;

/// A relay where only a token gives the right to listen, and nobody has one.
fn deaf() -> Config {
    let mut config = Config::default();
    config.access.subscribe = Subscribe::Token;
    config.relay.coalesce = Duration::ZERO;
    config
}

/// A client with the right to listen, on a shard of [`deaf`].
fn listener(shard: &mut Driven, topic: &str) -> ClientKey {
    let config = std::mem::replace(&mut shard.settings.port, Port::new(&Config::default()));
    let key = join(shard, topic, b"");
    rest(shard, None);
    shard.settings.port = config;
    key
}

/// The first write, up to the end of the 101, and the rest.
fn sent(shard: &Driven, client: ClientKey) -> (String, Vec<u8>) {
    let all = shard.writes_to(client).concat();
    let end = all.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, rest) = all.split_at(end.expect("a head") + 4);
    (String::from_utf8(head.to_vec()).unwrap(), rest.to_vec())
}

#[test]
fn a_client_that_may_only_publish_is_let_in_and_heard_and_hears_nothing() {
    let mut shard = shard_with(&deaf());
    let member = listener(&mut shard, "/");
    let key = shard.accept();
    let offer = "Sec-WebSocket-Protocol: fanwire.v1, fanwire\r\n\r\n";
    let request = request("/").replace("\r\n\r\n", &format!("\r\n{offer}"));
    shard.sends(key, &[request.as_bytes(), &text(3)].concat());
    rest(&mut shard, None);
    shard.sends(key, &text(4));
    rest(&mut shard, None);
    let (head, behind) = sent(&shard, key);
    assert!(
        head.starts_with("HTTP/1.1 101 ")
            && head.contains("\r\nSec-WebSocket-Protocol: fanwire\r\n")
    );
    assert_eq!(behind, b"", "not even its own messages");
    let (_, stream) = sent(&shard, member);
    assert_eq!(stream, b"\x81\x03xxx\x81\x04xxxx");
    assert_eq!(shard.stats.value(Stat::ConnectedClients), 2);
    assert_eq!(shard.stats.value(Stat::Offered), 2, "it is no member");
}

#[test]
fn a_topic_need_not_have_a_member_to_be_published_to() {
    let (mut shards, path) = two_shards(&deaf());
    let client = join(&mut shards[1], &path, &text(3));
    turns(&mut shards);
    shards[1].sends(client, &text(3));
    turns(&mut shards);
    assert_eq!(shards[1].stats.value(Stat::Messages), 2);
    assert_eq!(shards[1].stats.value(Stat::Topics), 0);
    assert_eq!(
        shards[0].stats.value(Stat::OwnedTopics),
        0,
        "it is forgotten"
    );
    assert_eq!(shards[1].outside.bytes(&path), 0);
}

#[test]
fn its_pings_are_answered_and_its_close_is_too() {
    let mut shard = shard_with(&deaf());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.forget_writes();
    shard.sends(client, &PING);
    rest(&mut shard, None);
    assert_eq!(shard.writes_to(client), [[0x8a, 0]]);
    shard.forget_writes();
    shard.sends(client, &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
    rest(&mut shard, None);
    assert_eq!(shard.writes_to(client), [[0x88, 2, 0x03, 0xe8]]);
    assert_eq!(shard.stats.value(Stat::DisconnectedByClient), 1);
}

#[test]
fn it_is_pinged_and_closed_if_it_does_not_answer() {
    let mut shard = shard_with(&deaf());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.forget_writes();
    shard.sleep(Duration::from_mins(1), &mut taking_all);
    assert!(
        shard
            .writes_to(client)
            .concat()
            .starts_with(&[0x89, 0, 0x88])
    );
    assert_eq!(shard.stats.value(Stat::DisconnectedPong), 1);
}

#[test]
fn it_keeps_the_rules_that_hold_for_members() {
    let mut config = deaf();
    config.limits.messages_per_second = 10;
    config.limits.burst = 2;
    config.history.max_age = Duration::from_secs(10);
    let reserved = [0x81, 0x82, 0, 0, 0, 0, 0, b'x'];
    let pings = PING.repeat(10_000);
    for (bytes, stat) in [
        (&text(1).repeat(3)[..], Stat::DisconnectedRate),
        (&reserved, Stat::DisconnectedReservedText),
        (&UNMASKED, Stat::DisconnectedProtocol),
        (
            &[&text(1)[..], &UNMASKED].concat(),
            Stat::DisconnectedProtocol,
        ),
        (&pings, Stat::DisconnectedControlRate),
    ] {
        let mut shard = shard_with(&config);
        let client = join(&mut shard, "/", b"");
        turn(&mut shard, usize::MAX, None);
        shard.sends(client, bytes);
        rest(&mut shard, None);
        assert_eq!(shard.stats.value(stat), 1, "{stat:?}");
        assert_eq!(shard.stats.value(Stat::ConnectedClients), 0);
    }
}

#[test]
fn one_that_ends_its_side_is_told_and_one_that_fails_is_gone() {
    let mut shard = shard_with(&deaf());
    let ended = join(&mut shard, "/", &text(1));
    let failed = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.forget_writes();
    shard.ends(ended);
    shard.fails(failed);
    rest(&mut shard, None);
    assert_eq!(shard.writes_to(ended).concat()[..4], [0x88, 42, 0x03, 0xe8]);
    assert_eq!(shard.stats.value(Stat::DisconnectedLost), 2);
    assert_eq!(shard.len(), 0);
}

#[test]
fn it_is_not_read_while_publishers_of_its_topic_are_held_and_nothing_is_lost() {
    let mut config = deaf();
    config.limits.max_message_bytes = 125;
    config.slow_consumer.max_lag_bytes = 4096;
    let (mut shards, path) = two_shards(&config);
    listener(&mut shards[0], &path);
    turns(&mut shards);
    let topic: TopicName = path.as_str().into();
    let from = ShardId(0);
    let hold = Hold::Open;
    shards[0].hears(Envelope::Hold {
        topic: topic.clone(),
        from,
        hold,
    });
    turns(&mut shards);
    let client = join(&mut shards[1], &path, b"");
    turns(&mut shards);
    let window = shards[1].settings.conducts.general().policy.window_bytes;
    let mut sent = 0;
    while !shards[1].has_unread(client) {
        shards[1].sends(client, &text(100));
        turns(&mut shards);
        sent += 1;
        assert!(sent < 10_000, "it is never held");
    }
    assert!(is_parked(&shards[1], client));
    let under_way = shards[1].outside.bytes(&path);
    assert!(
        (window..=window + 2 * 102).contains(&under_way),
        "{under_way}"
    );
    // One that comes anew does not get round the hold, and those that leave are not kept in mind.
    for _ in 0..1000 {
        let newcomer = join(&mut shards[1], &path, &text(100));
        turns(&mut shards);
        assert!(is_parked(&shards[1], newcomer));
        shards[1].fails(newcomer);
        turns(&mut shards);
    }
    assert_eq!(shards[1].stats.value(Stat::Messages), sent - 1);
    assert!(shards[1].outside.sources_len(&path) < 200);
    shards[0].hears(Envelope::Release {
        topic,
        from,
        in_vain: false,
    });
    turns(&mut shards);
    assert!(!is_parked(&shards[1], client) && !shards[1].has_unread(client));
    assert_eq!(shards[1].stats.value(Stat::Messages), sent);
    assert_eq!(shards[1].outside.bytes(&path), 0);
}

#[test]
fn a_large_message_is_not_overtaken_by_a_small_one() {
    let mut shard = shard_with(&deaf());
    let member = listener(&mut shard, "/");
    shard.forget_writes();
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let mut large = vec![0x82, 0xfe, 0x20, 0, 0, 0, 0, 0];
    large.resize(8 + 0x2000, b'y');
    shard.sends(client, &text(1));
    let (first, second) = large.split_at(5000);
    shard.sends(client, first);
    rest(&mut shard, None);
    shard.sends(client, second);
    shard.sends(client, &text(2));
    shard.forget_writes();
    rest(&mut shard, None);
    let heard = shard.writes_to(member).concat();
    assert_eq!(heard[..4], [0x82, 126, 0x20, 0]);
    assert_eq!(heard[4 + 0x2000..], *b"\x81\x02xx");
}

#[test]
fn in_a_shutdown_its_messages_count_up_to_its_close() {
    let (mut shards, path) = two_shards(&deaf());
    let member = listener(&mut shards[0], &path);
    let client = join(&mut shards[1], &path, b"");
    turns(&mut shards);
    shards[1].sends(client, &text(3));
    for shard in &mut shards {
        shard.gets(Mail::Drain);
    }
    turns(&mut shards);
    let close = shards[1].writes_to(client).concat();
    assert_eq!(close[2..4], 1001_u16.to_be_bytes());
    let heard = shards[0].writes_to(member).concat();
    assert!(heard.starts_with(b"\x81\x03xxx\x88"), "{heard:?}");
    let answer = [0x88, 0x80, 0, 0, 0, 0];
    shards[0].sends(member, &answer);
    shards[1].sends(client, &answer);
    turns(&mut shards);
    assert!(shards.iter().all(|shard| shard.is_drained()));
}

#[test]
fn one_that_is_held_is_closed_in_a_shutdown_all_the_same() {
    for spread in [Duration::ZERO, Duration::from_secs(1)] {
        let mut config = deaf();
        config.shutdown.spread = spread;
        let (mut shards, path) = two_shards(&config);
        let client = join(&mut shards[1], &path, b"");
        turns(&mut shards);
        let mut publish = || {
            let (topic, kind) = (path.as_str().into(), crate::ws::frame::MessageKind::Binary);
            shards[1].publish_from_outside(&topic, kind, &vec![0; 100_000])
        };
        while publish().is_ok() {}
        shards[1].sends(client, &text(1));
        turn(&mut shards[1], usize::MAX, None);
        assert!(is_parked(&shards[1], client));
        for shard in &mut shards {
            shard.gets(Mail::Drain);
        }
        turns(&mut shards);
        for shard in &mut shards {
            shard.sleep(2 * spread, &mut taking_all);
        }
        more_turns(&mut shards);
        assert_eq!(
            shards[1].stats.value(Stat::DisconnectedShutdown),
            1,
            "{spread:?}"
        );
    }
}

#[test]
fn it_is_told_when_the_relay_fails() {
    let mut shard = shard_with(&deaf());
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    shard.forget_writes();
    shard.abandon();
    rest(&mut shard, None);
    assert_eq!(
        shard.writes_to(client).concat()[2..4],
        1011_u16.to_be_bytes()
    );
}
