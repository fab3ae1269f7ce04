//! Probation: what a member must accept before publishers wait for it.

use super::*;

/// Publishers wait for members that have accepted messages that cost 512 bytes.
fn config(echo: bool) -> Config {
    let mut config = Config::default();
    config.limits.max_message_bytes = 125;
    config.slow_consumer.max_lag_bytes = 4096;
    config.relay.echo = echo;
    config
}

fn is_trusted(shard: &Shard, client: ClientKey) -> bool {
    shard.clients.member(client).expect("a member").is_trusted
}

#[test]
fn pongs_and_the_answer_to_the_request_are_not_served_on_probation() {
    let mut shard = shard_with(&config(true));
    let client = join(&mut shard, "/", b"");
    for _ in 0..200 {
        shard.sends(client, &PING.repeat(4));
        turn(&mut shard, usize::MAX, None);
    }
    assert!(shard.stats.value(Stat::BytesOut) > 1024);
    assert!(!is_trusted(&shard, client));
}

#[test]
fn messages_are_served_at_their_cost() {
    let mut shard = shard_with(&config(true));
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let mut cost_bytes = 0;
    while !is_trusted(&shard, client) {
        assert!(cost_bytes < 512, "trusted too late");
        let before = shard.topics.iter().next().unwrap().1.log.end_bytes();
        shard.sends(client, &text(1));
        turn(&mut shard, usize::MAX, None);
        cost_bytes += shard.topics.iter().next().unwrap().1.log.end_bytes() - before;
    }
    assert!(cost_bytes >= 512, "trusted too early, after {cost_bytes}");
}

#[test]
fn a_message_that_is_taken_in_parts_is_served_once() {
    let mut shard = shard_with(&config(true));
    let client = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let start = shard.topics.iter().next().unwrap().1.log.end_bytes();
    shard.forget_writes();
    shard.sends(client, &text(100));
    let mut takes = |_, offered| Written::plain(1, offered);
    shard.run(usize::MAX, &mut takes);
    while shard.is_blocked(client) {
        shard.accepts(client);
        shard.run(usize::MAX, &mut takes);
    }
    assert_eq!(shard.writes_to(client).len(), 102);
    let log = &shard.topics.iter().next().unwrap().1.log;
    let member = shard.clients.member(client).expect("a member");
    assert_eq!(member.place_bytes(log), log.end_bytes());
    assert_eq!(shard.clients[client].trusted_at_bytes, start + 512);
}

#[test]
fn own_messages_that_a_member_does_not_get_are_not_served_on_probation() {
    let mut shard = shard_with(&config(false));
    let publisher = join(&mut shard, "/", b"");
    let listener = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    for _ in 0..20 {
        shard.sends(publisher, &text(100));
        turn(&mut shard, usize::MAX, None);
    }
    assert!(is_trusted(&shard, listener));
    // The first message that it gets is the first that counts.
    shard.sends(listener, &text(1));
    shard.forget_writes();
    // It may wait for the next fan-out.
    shard.sleep(Duration::from_millis(10), &mut taking_all);
    assert_eq!(shard.writes_to(publisher), [b"\x81\x01x"]);
    assert!(!is_trusted(&shard, publisher));
}
