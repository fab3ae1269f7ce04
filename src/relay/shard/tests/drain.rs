//! The order of what shards say in a drain.

use super::*;
use crate::ids::Seq;

/// The mail that a shard sends in a turn, in order.
fn said(shard: &mut Driven) -> Vec<(ShardId, Mail)> {
    turn(shard, usize::MAX, None);
    shard.take_said()
}

fn place(said: &[(ShardId, Mail)], is_it: impl Fn(&Envelope) -> bool) -> usize {
    let place = said
        .iter()
        .position(|(_, mail)| matches!(mail, Mail::Envelope(envelope) if is_it(envelope)));
    place.expect("it is said")
}

/// The owner of a topic and another shard, which are both told to drain. In the same turn, the other one hears that its only
/// client has joined, with a message that came behind the request.
fn published_before_a_drain() -> [Driven; 2] {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[1], &path, &text(3));
    turn_and_deliver(&mut shards, 1);
    turn_and_deliver(&mut shards, 0);
    for shard in &mut shards {
        shard.gets(Mail::Drain);
    }
    shards
}

#[test]
fn the_fence_goes_behind_what_was_published_in_its_turn() {
    let [_, mut shard] = published_before_a_drain();
    let said = said(&mut shard);
    let published = place(&said, |said| matches!(said, Envelope::Publish { .. }));
    let fence = place(&said, |said| matches!(said, Envelope::Fence));
    assert!(published < fence, "{said:?}");
}

#[test]
fn an_owner_answers_the_fences_behind_what_it_fans_out_in_that_turn() {
    let [mut owner, mut shard] = published_before_a_drain();
    for (_, mail) in said(&mut shard) {
        owner.gets(mail);
    }
    let said = said(&mut owner);
    let delivered = place(&said, |said| matches!(said, Envelope::Deliver { .. }));
    let answer = place(&said, |said| matches!(said, Envelope::Fenced));
    assert!(delivered < answer, "{said:?}");
}

#[test]
fn whoever_joins_a_relay_that_has_failed_meanwhile_is_seen_off_at_once() {
    let (mut shards, path) = two_shards(&Config::default());
    join(&mut shards[1], &path, b"");
    turn(&mut shards[1], usize::MAX, None);
    shards[1].abandon();
    turns(&mut shards);
    assert_eq!(shards[1].stats.value(Stat::Connections), 1);
    assert_eq!(shards[1].stats.value(Stat::ConnectedClients), 0);
}

#[test]
fn a_close_behind_the_request_is_heard_although_the_drain_began_between() {
    let (shards, path) = two_shards(&Config::default());
    let [_, mut shard] = shards;
    let client = join(&mut shard, &path, &[0x88, 0x80, 0, 0, 0, 0]);
    turn(&mut shard, usize::MAX, None);
    shard.begin_drain();
    turn(&mut shard, usize::MAX, None);
    shard.hears(Envelope::Subscribed {
        topic: path.as_str().into(),
        client,
        next: Seq(0),
        conduct: Conduct::of_all(&Config::default()),
        resumed: None,
        places: None,
        held: None,
    });
    // The fence of the other shard, and its answer to ours.
    shard.hears(Envelope::Fence);
    shard.hears(Envelope::Fenced);
    rest(&mut shard, None);
    assert_eq!(shard.take_applied(), [Effect::Close(client)]);
    assert!(shard.is_drained());
}

#[test]
fn a_proxy_that_has_sent_no_header_is_not_answered_in_a_drain() {
    let mut shard = shard_with(&Config::default());
    let before = shard.accept_with_preface();
    shard.begin_drain();
    let after = shard.accept_with_preface();
    assert_eq!(turn(&mut shard, usize::MAX, None), []);
    let effects = shard.take_applied();
    assert_eq!(effects, [Effect::Close(before), Effect::Close(after)]);
    assert_eq!(shard.stats().value(Stat::HandshakeShutdown), 2);
}

/// More messages than a step decodes.
const MANY: usize = 3_000;

/// A client that sends this in one packet as a drain begins, and the messages of it that count.
fn messages_before_a_drain(spread: Duration, bytes: &[u8]) -> u64 {
    let mut config = Config::default();
    config.shutdown.spread = spread;
    let mut shard = shard_with(&config);
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    // The turn has no time for more than a step.
    shard.on_bytes(client, &mut bytes.to_vec());
    assert!(shard.has_undecoded(client));
    shard.gets(Mail::Drain);
    rest(&mut shard, None);
    assert!(shard.is_draining());
    shard.stats.value(Stat::Messages)
}

#[test]
fn everything_that_was_read_before_a_close_of_a_shutdown_is_relayed() {
    for spread in [Duration::ZERO, Duration::from_secs(5)] {
        let messages = messages_before_a_drain(spread, &text(1).repeat(MANY));
        assert_eq!(messages, MANY as u64, "{spread:?}");
    }
}

#[test]
fn a_close_among_what_was_read_ends_the_client_before_the_shutdown_does() {
    let behind = [text(1).repeat(MANY), vec![0x88, 0x80, 0, 0, 0, 0]].concat();
    assert_eq!(
        messages_before_a_drain(Duration::ZERO, &behind),
        MANY as u64
    );
}

/// A shard with a connection that has published and waits for its next request.
fn with_idle_connection() -> (Driven, ClientKey) {
    let mut shard = shard_with(&Config::default());
    let client = shard.accept();
    shard.sends(client, &post("a"));
    rest(&mut shard, None);
    assert!(shard.clients[client].is_idle());
    shard.forget_writes();
    (shard, client)
}

fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[test]
fn a_request_that_was_on_its_way_as_the_drain_began_is_told_to_come_back_later() {
    let (mut shard, client) = with_idle_connection();
    let silent = shard.accept();
    shard.sends(silent, &post("a"));
    let member = join(&mut shard, "/", b"");
    rest(&mut shard, None);
    shard.forget_writes();
    shard.gets(Mail::Drain);
    rest(&mut shard, None);
    // The member has not answered its Close.
    assert!(!shard.is_drained());
    assert!(shard.clients[client].is_idle() && shard.clients[silent].is_idle());
    let request = post("b");
    let (begin, end) = request.split_at(9);
    for part in [begin, end] {
        shard.sends(client, part);
        rest(&mut shard, None);
    }
    let answer = String::from_utf8(shard.writes_to(client).concat()).unwrap();
    for part in [
        "HTTP/1.1 503 ",
        "\r\nRetry-After: ",
        "\r\nConnection: close\r\n",
    ] {
        assert!(answer.contains(part), "{answer}");
    }
    assert_eq!(
        shard.stats.value(Stat::PostedMessages),
        2,
        "only the first ones"
    );
    assert_eq!(shard.stats.value(Stat::PostsUnavailable), 1);
    shard.ends(client);
    shard.fails(member);
    rest(&mut shard, None);
    assert!(
        shard.is_drained(),
        "nobody waits for the one that is silent"
    );
    assert!(
        shard.writes_to(silent).is_empty(),
        "it has asked for nothing"
    );
    assert_eq!(shard.stats.value(Stat::HandshakeShutdown), 0);
}

#[test]
fn a_connection_between_two_requests_does_not_make_a_drain_longer() {
    let (mut shard, client) = with_idle_connection();
    shard.gets(Mail::Drain);
    rest(&mut shard, None);
    assert!(shard.is_drained());
    assert!(shard.take_applied().contains(&Effect::Close(client)));
}
