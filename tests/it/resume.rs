//! Clients that come back: what they are told, and what they get.

use std::net::SocketAddr;
use std::time::Duration;

use fanwire::config::{Config, SlowConsumerPolicy};
use fanwire::server::Stat;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::Response;

use super::support::{Client, World, config};
use super::wire;

/// A relay that keeps messages for a minute.
fn keeping(workers: usize, change: impl FnOnce(&mut Config)) -> World {
    let mut config = config(workers);
    config.history.max_age = Duration::from_mins(1);
    change(&mut config);
    World::with(&config)
}

/// Connects with or without the relay's own words.
fn connect(world: &World, path: &str, words: bool) -> (Client, Response) {
    connect_to(world.relay.address(), path, words)
}

fn connect_to(address: SocketAddr, path: &str, words: bool) -> (Client, Response) {
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let url = format!("ws://{address}{path}");
    let mut request = url.into_client_request().unwrap();
    if words {
        let offer = "other, fanwire.v1".parse().unwrap();
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", offer);
    }
    let (socket, response) = tungstenite::client(request, stream).expect("an upgrade");
    (Client { socket }, response)
}

/// A client that counts.
pub(crate) struct Counting {
    pub(crate) client: Client,
    pub(crate) epoch: String,
    pub(crate) number: u64,
    /// As the relay has said: `null` if it does not know.
    pub(crate) lost: String,
}

impl Counting {
    fn connect(world: &World, path: &str) -> Counting {
        Counting::dial(world.relay.address(), path)
    }

    pub(crate) fn dial(address: SocketAddr, path: &str) -> Counting {
        let (mut client, response) = connect_to(address, path, true);
        assert_eq!(response.headers()["sec-websocket-protocol"], "fanwire.v1");
        let hello = client.hear();
        let inner = hello.strip_prefix("\0{\"at\":\"").expect("a hello");
        let (at, lost) = inner.split_once("\",\"lost\":").expect("a hello");
        let (epoch, number) = at.split_once('-').expect("a position");
        Counting {
            client,
            epoch: epoch.to_owned(),
            number: number.parse().unwrap(),
            lost: lost.strip_suffix('}').expect("a hello").to_owned(),
        }
    }

    pub(crate) fn hear(&mut self) -> String {
        let message = self.client.hear();
        assert!(!message.starts_with('\0'), "{message:?}");
        self.number += 1;
        message
    }

    pub(crate) fn at(&self) -> String {
        format!("{}-{}", self.epoch, self.number)
    }

    /// Asks the relay where this client is.
    pub(crate) fn probe(&mut self) -> String {
        self.client.say("\0");
        let answer = self.client.hear();
        let inner = answer.strip_prefix("\0{\"at\":\"").expect("an answer");
        inner.strip_suffix("\"}").expect("an answer").to_owned()
    }
}

#[test]
fn whoever_comes_back_gets_what_it_missed_and_goes_on() {
    let world = keeping(4, |_| {});
    let mut first = Counting::connect(&world, "/room");
    assert_eq!((first.number, &*first.lost), (0, "0"));
    let mut publisher = world.connect("/room");
    for n in 0..5 {
        publisher.say(n.to_string());
        assert_eq!(first.hear(), n.to_string());
    }
    assert_eq!(first.probe(), first.at());
    let at = first.at();
    first.client.reset();
    for n in 5..300 {
        publisher.say(n.to_string());
    }
    for n in 0..300 {
        assert_eq!(publisher.hear(), n.to_string());
    }
    let mut again = Counting::connect(&world, &format!("/room?since={at}"));
    assert_eq!((again.number, &*again.lost), (5, "0"));
    for n in 5..300 {
        assert_eq!(again.hear(), n.to_string());
    }
    publisher.say("live");
    assert_eq!(again.hear(), "live");
    assert_eq!(again.probe(), again.at());
    world.await_total(Stat::ResumedFull, 1);
    world.await_total(Stat::Replayed, 295);
    drop((publisher, again));
    world.end();
}

#[test]
fn a_topic_outlives_its_last_client_and_a_late_joiner_gets_the_last_messages() {
    let world = keeping(2, |_| {});
    let mut publisher = world.connect("/room");
    for n in 0..10 {
        publisher.say(n.to_string());
        publisher.hear();
    }
    publisher.leave();
    let mut late = Counting::connect(&world, "/room?last=3");
    assert_eq!((late.number, &*late.lost), (7, "0"));
    for n in 7..10 {
        assert_eq!(late.hear(), n.to_string());
    }
    let mut minute = Counting::connect(&world, "/room?last=1m");
    assert_eq!(minute.hear(), "0");
    let live = Counting::connect(&world, "/room");
    assert_eq!((live.number, &*live.lost), (10, "0"));
    drop((late, minute, live));
    world.end();
}

#[test]
fn what_is_gone_is_counted_and_a_place_that_is_not_known_is_said_to_be_unknown() {
    let world = keeping(1, |config| config.history.max_messages = 4);
    let mut publisher = Counting::connect(&world, "/room");
    for n in 0..10 {
        publisher.client.say(n.to_string());
        publisher.hear();
    }
    let epoch = publisher.epoch.clone();
    let partial = Counting::connect(&world, &format!("/room?since={epoch}-2"));
    assert_eq!((partial.number, &*partial.lost), (6, "4"));
    for since in ["other-2", "nonsense", &format!("{epoch}-11")] {
        let mut unknown = Counting::connect(&world, &format!("/room?last_event_id={since}"));
        assert_eq!((unknown.number, &*unknown.lost), (6, "null"), "{since}");
        assert_eq!(unknown.hear(), "6");
    }
    world.await_total(Stat::ResumedPartly, 1);
    world.await_total(Stat::ResumedUnknown, 3);
    drop((publisher, partial));
    world.end();
}

#[test]
fn a_client_without_the_subprotocol_finds_its_place_in_the_answer() {
    let world = keeping(1, |_| {});
    let (mut client, response) = connect(&world, "/room", false);
    let position = response.headers()["fanwire-position"].to_str().unwrap();
    let (epoch, _) = position.rsplit_once("-0").expect("the first position");
    assert!(response.headers().get("fanwire-lost").is_none());
    client.say("a");
    assert_eq!(client.hear(), "a");
    let (mut again, response) = connect(&world, &format!("/room?since={epoch}-0"), false);
    assert_eq!(response.headers()["fanwire-lost"], "0");
    assert_eq!(again.hear(), "a");
    let (third, response) = connect(&world, "/room?since=x", false);
    assert_eq!(response.headers()["fanwire-lost"], "unknown");
    drop((client, again, third));
    world.end();
}

#[test]
fn where_clients_may_skip_only_those_with_words_are_told_where_they_are() {
    let world = keeping(1, |config| {
        config.slow_consumer.policy = SlowConsumerPolicy::Drop;
    });
    let (client, response) = connect(&world, "/room", false);
    assert!(response.headers().get("fanwire-position").is_none());
    let counting = Counting::connect(&world, "/room");
    drop((client, counting));
    world.end();
}

#[test]
fn nobody_speaks_in_the_relays_name() {
    let world = keeping(1, |_| {});
    let mut plain = world.connect("/room");
    plain.say("\0{\"at\":\"x-1\",\"lost\":0}");
    let close = plain.expect_close();
    assert_eq!(u16::from(close.code), 1008);
    let reason = "reserved: begins with U+0000; at ";
    assert!(close.reason.starts_with(reason), "{}", close.reason);
    let mut counting = Counting::connect(&world, "/room");
    counting.client.say("\0x");
    assert_eq!(u16::from(counting.client.expect_close().code), 1008);
    // Binary is never the relay's own.
    let mut binary = Counting::connect(&world, "/room");
    binary
        .client
        .send(tungstenite::Message::binary(b"\0".to_vec()));
    assert_eq!(&binary.client.binary()[..], b"\0");
    world.await_total(Stat::DisconnectedReservedText, 2);
    drop(binary);
    world.end();
}

#[test]
fn without_a_history_there_are_no_positions_and_any_text_may_be_sent() {
    let world = World::with(&config(1));
    let (mut client, response) = connect(&world, "/room?since=x", false);
    assert!(response.headers().get("fanwire-position").is_none());
    client.say("\0");
    assert_eq!(client.hear(), "\0");
    drop(client);
    let mut wire = world.dial();
    let offer = "\r\nSec-WebSocket-Protocol: fanwire.v1\r\n";
    wire.send(wire::request("/room").replacen("\r\n", offer, 1));
    assert_eq!(wire.head().header("sec-websocket-protocol"), None);
    drop(wire);
    world.end();
}

#[test]
fn a_wrong_last_is_refused_with_what_is_right() {
    let world = keeping(1, |_| {});
    let mut wire = world.dial();
    wire.send(wire::request("/room?last=yesterday"));
    let answer = wire.answer();
    assert_eq!(answer.status, 400);
    drop(wire);
    world.end();
}

#[test]
fn a_close_of_a_shutdown_says_where_the_client_is() {
    let world = keeping(2, |_| {});
    let mut client = Counting::connect(&world, "/room");
    client.client.say("a");
    client.hear();
    let at = client.at();
    world.relay.shutdown();
    let close = client.client.expect_close();
    assert_eq!(u16::from(close.code), 1001);
    let start = format!("going away; at {at}; retry ");
    assert!(close.reason.starts_with(&start), "{}", close.reason);
    world.join_ended();
}

#[test]
fn a_client_far_behind_catches_up_while_others_publish_and_nobody_waits_for_it() {
    let world = keeping(2, |config| {
        config.slow_consumer.max_lag_bytes = 2 << 20;
        config.history.max_bytes = 64 << 20;
    });
    let mut publisher = world.connect("/room");
    let payload = "x".repeat(10_000);
    let total = 2_000;
    for n in 0..total {
        publisher.say(format!("{n:06}{payload}"));
        assert_eq!(&publisher.hear()[..6], format!("{n:06}"));
    }
    // Twenty megabytes are behind, ten times the lag of a member.
    let mut late = Counting::connect(&world, &format!("/room?last={total}"));
    assert_eq!(late.number, 0);
    for n in total..total + 100 {
        publisher.say(format!("{n:06}{payload}"));
        assert_eq!(&publisher.hear()[..6], format!("{n:06}"));
    }
    for n in 0..total + 100 {
        assert_eq!(&late.hear()[..6], format!("{n:06}"));
    }
    assert_eq!(late.probe(), late.at());
    drop((publisher, late));
    world.end();
}
