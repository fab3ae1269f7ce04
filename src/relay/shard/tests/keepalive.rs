//! Keep-alive: silence in either direction is ended by a ping. A client may not ping without end.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A message of one byte, from a client.
const MESSAGE: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'x'];
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// Lives for two minutes, second by second, with a client that answers pings. Every so many seconds it sends a message, and
/// another member sends one; 0 is never. Returns the seconds in which the client was sent something, and the number of pings.
fn live(echo: bool, sends_every: u64, hears_every: u64) -> (Vec<u64>, usize) {
    let mut config = Config::default();
    config.relay.echo = echo;
    let mut shard = shard_with(&config);
    let client = join(&mut shard, "/", b"");
    let other = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let (mut sent, mut pings) = (vec![0], 0);
    let is_time = |second: u64, every: u64| every > 0 && second.is_multiple_of(every);
    for second in 1..=120 {
        shard.forget_writes();
        shard.sleep(SECOND, &mut taking_all);
        shard.sends(other, &PONG);
        if is_time(second, sends_every) {
            shard.sends(client, &MESSAGE);
        }
        if is_time(second, hears_every) {
            shard.sends(other, &MESSAGE);
        }
        rest(&mut shard, None);
        let bytes = shard.writes_to(client).concat();
        if bytes.is_empty() {
            continue;
        }
        sent.push(second);
        if bytes.windows(2).any(|pair| pair == [0x89, 0]) {
            pings += 1;
            shard.sends(client, &PONG);
            rest(&mut shard, None);
        }
    }
    sent.push(120);
    assert_eq!(shard.stats.value(Stat::Disconnections), 0);
    (sent, pings)
}

/// The longest time in which the client was sent nothing, in seconds.
fn longest_silence(sent: &[u64]) -> u64 {
    let gaps = sent.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().expect("a second")
}

#[test]
fn a_client_that_only_publishes_is_sent_a_ping_before_a_proxy_gives_up() {
    for sends_every in [1, 5, 20] {
        let (sent, pings) = live(false, sends_every, 0);
        assert!(longest_silence(&sent) <= 26, "{sent:?}");
        assert!((4..=9).contains(&pings), "{pings}");
    }
}

#[test]
fn whoever_hears_something_now_and_then_is_not_silent_for_longer_than_the_interval_either() {
    for hears_every in [20, 24, 40] {
        let (sent, _) = live(false, 5, hears_every);
        assert!(longest_silence(&sent) <= 26, "{sent:?}");
    }
}

#[test]
fn an_idle_client_is_pinged_once_in_an_interval() {
    assert_eq!(live(true, 0, 0).1, 4);
}

#[test]
fn whoever_sends_and_is_sent_messages_is_not_pinged() {
    assert_eq!(live(true, 10, 0).1, 0);
    assert_eq!(live(false, 10, 10).1, 0);
}

#[test]
fn whoever_is_sent_messages_and_sends_nothing_is_pinged_as_ever() {
    assert_eq!(live(true, 0, 1).1, 4);
}

#[test]
fn a_client_that_replays_kept_messages_may_ping_no_more_often_than_a_member() {
    const MESSAGES: usize = 12;
    let mut config = Config::default();
    config.history.max_age = Duration::from_hours(1);
    config.history.max_bytes = 64 << 20;
    let mut shard = shard_with(&config);
    let member = join(&mut shard, "/", b"");
    rest(&mut shard, None);
    let len = config.limits.max_message_bytes;
    for _ in 0..MESSAGES {
        let mut frame = vec![0x82, 0xff];
        frame.extend((len as u64).to_be_bytes());
        frame.resize(14 + len, 0);
        shard.sends(member, &frame);
        rest(&mut shard, None);
    }
    let client = join(&mut shard, "/?last=1h", b"");
    rest(&mut shard, Some(client));
    assert!(shard.clients[client].replay().is_some(), "it is far behind");
    shard.sends(client, &PING.repeat(100));
    rest(&mut shard, Some(client));
    assert_eq!(shard.stats.value(Stat::Disconnections), 0);
    shard.sends(client, &PING.repeat(10_000));
    rest(&mut shard, Some(client));
    assert_eq!(shard.stats.value(Stat::DisconnectedControlRate), 1);
    assert_eq!(shard.stats.value(Stat::ConnectedClients), 1);
}
