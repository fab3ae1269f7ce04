//! Compressed messages of clients: what others get of them, and what they cost.

use super::*;
use crate::config::Subscribe;
use crate::ws::deflate::{Compressor, WindowSize};
use crate::ws::frame::MessageKind;
use crate::ws::inflate::Window;

/// An offer of a client that keeps its context, and of one that does not.
const KEEPS: &str = "permessage-deflate; client_max_window_bits";
const FORGETS: &str = "permessage-deflate; client_no_context_takeover";

const WINDOW: u64 = Window::BYTES as u64;

/// Memory in which so many windows have room.
fn memory_for(windows: usize) -> usize {
    32 * Window::BYTES * windows
}

/// A shard that has room for four windows.
fn config() -> Config {
    let mut config = Config::default();
    config.compression.enabled = true;
    config.limits.max_message_bytes = 100_000;
    config.slow_consumer.max_lag_bytes = 1 << 20;
    config.limits.max_buffered_bytes = memory_for(4);
    config
}

/// A client whose request has this `offer`, and whether it has got an extension.
fn join_offering(shard: &mut Driven, path: &str, offer: &str) -> (ClientKey, bool) {
    let key = shard.accept();
    let fields = format!("Sec-WebSocket-Extensions: {offer}\r\n\r\n");
    let request = request(path).replacen("\r\n\r\n", &format!("\r\n{fields}"), 1);
    shard.sends(key, request.as_bytes());
    turn(shard, usize::MAX, None);
    let answer = String::from_utf8(shard.writes_to(key).concat()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    (key, answer.contains("\r\nSec-WebSocket-Extensions: "))
}

/// A client that has sent something, and may refer to that.
struct Sender(Compressor);

impl Sender {
    fn new() -> Self {
        Sender(Compressor::new(WindowSize::Large))
    }

    /// A client's frame with this message.
    fn frame(&mut self, message: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.0.push_message(&mut frame, MessageKind::Text, message);
        // The header of a client has a mask behind its length. This one is of zeros.
        frame[1] |= 0x80;
        let header = if frame[1] == 0xfe { 4 } else { 2 };
        frame.splice(header..header, [0; 4]);
        frame
    }
}

/// A compressed message as the first of a client.
fn deflated(message: &[u8]) -> Vec<u8> {
    Sender::new().frame(message)
}

/// A client's frame of these bytes, which are fewer than 126.
fn raw(first: u8, bytes: &[u8]) -> Vec<u8> {
    let header = [first, 0x80 | bytes.len() as u8, 0, 0, 0, 0];
    [&header[..], bytes].concat()
}

/// The bytes that the client is written from now on.
fn after(shard: &mut Driven, client: ClientKey) -> Vec<u8> {
    shard.forget_writes();
    rest(shard, None);
    shard.sleep(Duration::from_millis(10), &mut taking_all);
    shard.writes_to(client).concat()
}

/// The Close that the client got, as its code and its reason.
fn close_after(shard: &mut Driven, client: ClientKey) -> (u16, String) {
    let sent = after(shard, client);
    let [0x88, _, high, low, reason @ ..] = &sent[..] else {
        panic!("{sent:?} is no Close");
    };
    let reason = String::from_utf8(reason.to_vec()).unwrap();
    (u16::from_be_bytes([*high, *low]), reason)
}

#[test]
fn a_compressed_message_reaches_everybody_as_it_was_before() {
    let mut shard = shard_with(&config());
    let (sender, true) = join_offering(&mut shard, "/", KEEPS) else {
        panic!("no extension");
    };
    let listener = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let mut compressor = Sender::new();
    for message in ["Hello", "Hello again", "Hello again and again"] {
        let frame = compressor.frame(message.as_bytes());
        shard.sends(sender, &frame);
        let expected = [&[0x81, message.len() as u8], message.as_bytes()].concat();
        shard.forget_writes();
        rest(&mut shard, None);
        shard.sleep(Duration::from_millis(10), &mut taking_all);
        for member in [sender, listener] {
            assert_eq!(shard.writes_to(member).concat(), expected);
        }
    }
    assert_eq!(shard.stats.value(Stat::Messages), 3);
    assert_eq!(shard.stats.value(Stat::InflatedMessages), 3);
    assert_eq!(shard.stats.value(Stat::InflatedBytes), 5 + 11 + 21);
    assert_eq!(shard.stats.value(Stat::DeflateMembers), 1);
}

#[test]
fn a_window_is_taken_with_the_first_compressed_message_and_gone_with_its_client() {
    let mut shard = shard_with(&config());
    for leave in [Driven::ends, Driven::fails, |shard: &mut Driven, key| {
        shard.sends(key, &raw(0x88, &[0x03, 0xe8]));
    }] {
        let (sender, _) = join_offering(&mut shard, "/", KEEPS);
        shard.sends(sender, &text(3));
        turn(&mut shard, usize::MAX, None);
        assert_eq!(shard.stats.value(Stat::InflateWindowBytes), 0);
        shard.sends(sender, &deflated(b"Hello"));
        turn(&mut shard, usize::MAX, None);
        assert_eq!(shard.stats.value(Stat::InflateWindowBytes), WINDOW);
        assert_eq!(shard.stats.value(Stat::DeflateMembers), 1);
        leave(&mut shard, sender);
        rest(&mut shard, None);
        shard.sleep(Duration::from_millis(10), &mut taking_all);
        assert_eq!(shard.stats.value(Stat::InflateWindowBytes), 0);
        assert_eq!(shard.stats.value(Stat::DeflateMembers), 0);
    }
}

#[test]
fn a_client_that_forgets_takes_no_window_and_cannot_refer_back() {
    let mut shard = shard_with(&config());
    let (sender, _) = join_offering(&mut shard, "/", FORGETS);
    let mut compressor = Sender::new();
    shard.sends(sender, &compressor.frame(b"Hello, Hello, Hello"));
    assert_eq!(after(&mut shard, sender), b"\x81\x13Hello, Hello, Hello");
    assert_eq!(shard.stats.value(Stat::InflateWindowBytes), 0);
    shard.sends(sender, &compressor.frame(b"Hello, Hello, Hello"));
    let reason = "the compressed message is not DEFLATE, or is cut short";
    assert_eq!(close_after(&mut shard, sender), (1007, reason.into()));
}

#[test]
fn half_of_the_windows_are_agreed_on_and_the_rest_is_for_those_that_have_agreed() {
    let mut shard = shard_with(&config());
    let agreed = [(); 5].map(|()| join_offering(&mut shard, "/", KEEPS));
    assert!(agreed.iter().all(|&(_, has)| has), "none is taken yet");
    for (key, _) in &agreed[..2] {
        shard.sends(*key, &deflated(b"Hello"));
        turn(&mut shard, usize::MAX, None);
    }
    // Half is taken.
    assert!(!join_offering(&mut shard, "/", KEEPS).1);
    assert!(join_offering(&mut shard, "/", FORGETS).1);
    for (key, _) in &agreed[2..4] {
        shard.sends(*key, &deflated(b"Hello"));
        turn(&mut shard, usize::MAX, None);
    }
    assert_eq!(shard.stats.value(Stat::InflateWindowBytes), 4 * WINDOW);
    // All are taken. Plain messages are welcome.
    let last = agreed[4].0;
    shard.sends(last, &text(1));
    after(&mut shard, last);
    shard.sends(last, &deflated(b"Hello"));
    let reason = "too many clients compress with context takeover";
    assert_eq!(close_after(&mut shard, last), (1013, reason.into()));
    assert_eq!(shard.stats.value(Stat::DisconnectedMemory), 1);
    // One that leaves makes room for another.
    shard.fails(agreed[0].0);
    shard.fails(agreed[1].0);
    shard.fails(agreed[2].0);
    turn(&mut shard, usize::MAX, None);
    assert!(join_offering(&mut shard, "/", KEEPS).1);
}

#[test]
fn a_client_that_only_listens_takes_no_window() {
    let mut config = config();
    config.relay.publish = Publish::Nobody;
    config.limits.max_buffered_bytes = memory_for(1);
    config.slow_consumer.max_lag_bytes = 256 << 10;
    let mut shard = shard_with(&config);
    let (listener, true) = join_offering(&mut shard, "/", KEEPS) else {
        panic!("it needs no window");
    };
    shard.sends(listener, &deflated(b"Hello"));
    let reason = "not allowed to publish";
    assert_eq!(close_after(&mut shard, listener), (1008, reason.into()));
    assert_eq!(shard.stats.value(Stat::InflatedMessages), 0);
}

#[test]
fn a_question_may_be_compressed_even_by_a_client_that_only_listens() {
    let mut config = config();
    config.relay.publish = Publish::Nobody;
    config.history.max_age = Duration::from_mins(1);
    let mut shard = shard_with(&config);
    let key = shard.accept();
    let fields = format!(
        "\r\nSec-WebSocket-Extensions: {KEEPS}\r\nSec-WebSocket-Protocol: fanwire.v1\r\n\r\n"
    );
    let request = request("/").replacen("\r\n\r\n", &fields, 1);
    shard.sends(key, request.as_bytes());
    turn(&mut shard, usize::MAX, None);
    shard.sends(key, &deflated(crate::port::words::PROBE));
    let answer = after(&mut shard, key);
    assert_eq!(answer[0], 0x81, "{answer:?}");
    assert_eq!(shard.stats.value(Stat::ConnectedClients), 1);
}

#[test]
fn each_violation_has_its_code() {
    let bomb = deflated(&vec![b'x'; 130_000]);
    for (offer, frame, code) in [
        ("x", raw(0xc1, b"\x00"), 1002),
        (KEEPS, raw(0xe1, b"\x00"), 1002),
        (KEEPS, raw(0xc0, b"\x00"), 1002),
        (KEEPS, raw(0xc9, b""), 1002),
        (KEEPS, raw(0xc8, b""), 1002),
        (KEEPS, raw(0xc1, b"\xff"), 1007),
        (KEEPS, raw(0xc1, b"\xf2"), 1007),
        (KEEPS, deflated(b"\xff"), 1007),
        (KEEPS, bomb, 1009),
        (KEEPS, raw(0xc1, &[3, 0].repeat(50)), 1009),
    ] {
        let mut shard = shard_with(&config());
        let (client, _) = join_offering(&mut shard, "/", offer);
        let listener = join(&mut shard, "/", b"");
        turn(&mut shard, usize::MAX, None);
        shard.sends(client, &frame);
        let first = &frame[..1];
        assert_eq!(
            close_after(&mut shard, client).0,
            code,
            "{offer} {first:x?}"
        );
        assert_eq!(after(&mut shard, listener), b"", "nothing gets to others");
    }
}

#[test]
fn what_follows_a_close_is_not_inflated() {
    let mut shard = shard_with(&config());
    let (client, _) = join_offering(&mut shard, "/", KEEPS);
    shard.sends(client, &[raw(0x88, &[]), deflated(b"Hello")].concat());
    rest(&mut shard, None);
    // Our Close is sent first, and the client has not answered yet.
    let (laggard, _) = join_offering(&mut shard, "/", KEEPS);
    shard.gets(Mail::Drain);
    turn(&mut shard, usize::MAX, None);
    shard.sends(laggard, &deflated(b"Hello"));
    rest(&mut shard, None);
    assert_eq!(shard.stats.value(Stat::InflatedMessages), 0);
    assert_eq!(shard.stats.value(Stat::DisconnectedProtocol), 0);
}

#[test]
fn the_length_after_inflating_limits_what_is_on_the_way() {
    let mut config = config();
    config.slow_consumer.policy = SlowConsumerPolicy::Backpressure;
    let mut shard = shard_with(&config);
    let (sender, _) = join_offering(&mut shard, "/", KEEPS);
    let stuck = join(&mut shard, "/", b"");
    turn(&mut shard, usize::MAX, None);
    let mut compressor = Sender::new();
    // Each is 50 kB before and half of one after.
    let frames: Vec<u8> = std::iter::repeat_with(|| compressor.frame(&vec![b'x'; 50_000]))
        .take(200)
        .collect::<Vec<_>>()
        .concat();
    assert!(frames.len() < 100_000, "{}", frames.len());
    shard.sends(sender, &frames);
    for _ in 0..300 {
        turn(&mut shard, usize::MAX, Some(stuck));
    }
    let taken_in = shard.stats.value(Stat::InflatedBytes);
    assert!(taken_in > 50_000);
    assert!(taken_in <= 4 << 20, "{taken_in} bytes for a laggard");
    // Nothing is lost.
    shard.accepts(stuck);
    for _ in 0..2000 {
        rest(&mut shard, None);
        shard.sleep(Duration::from_millis(3), &mut taking_all);
    }
    assert_eq!(shard.stats.value(Stat::InflatedMessages), 200);
    let delivered = shard.stats.value(Stat::Delivered);
    assert_eq!(delivered, 400, "everything has come to both");
}

#[test]
fn a_shutdown_inflates_no_more_of_a_client_than_may_be_on_its_way() {
    let mut shard = shard_with(&config());
    let (sender, _) = join_offering(&mut shard, "/", KEEPS);
    let mut compressor = Sender::new();
    let frames: Vec<Vec<u8>> = (0..200)
        .map(|_| compressor.frame(&vec![b'x'; 50_000]))
        .collect();
    shard.sends(sender, &frames.concat());
    turn(&mut shard, usize::MAX, None);
    let before = shard.stats.value(Stat::InflatedMessages);
    assert!(before < 20, "the rest waits: {before}");
    shard.gets(Mail::Drain);
    after(&mut shard, sender);
    let drained = shard.stats.value(Stat::InflatedMessages) - before;
    assert!((1..20).contains(&drained), "{drained} of what was read");
    assert_eq!(shard.stats.value(Stat::DisconnectedShutdown), 1);
}

/// The same shard, where nobody may listen.
fn deaf() -> Config {
    let mut config = config();
    config.access.subscribe = Subscribe::Token;
    config
}

#[test]
fn a_client_that_may_only_publish_compresses_like_any_other() {
    let mut shard = shard_with(&deaf());
    let (source, true) = join_offering(&mut shard, "/", KEEPS) else {
        panic!("no extension");
    };
    assert_eq!(shard.stats.value(Stat::DeflateMembers), 1);
    let mut compressor = Sender::new();
    for message in ["Hello", "Hello again"] {
        let frame = compressor.frame(message.as_bytes());
        shard.sends(source, &frame);
        rest(&mut shard, None);
    }
    assert_eq!(shard.stats.value(Stat::Messages), 2);
    assert_eq!(shard.stats.value(Stat::InflatedBytes), 5 + 11);
    assert_eq!(shard.stats.value(Stat::InflateWindowBytes), WINDOW);
    shard.ends(source);
    rest(&mut shard, None);
    assert_eq!(shard.stats.value(Stat::InflateWindowBytes), 0);
    assert_eq!(shard.stats.value(Stat::DeflateMembers), 0);
}

#[test]
fn a_shutdown_inflates_no_more_of_a_client_that_only_publishes_than_may_be_on_its_way() {
    let mut shard = shard_with(&deaf());
    let (source, _) = join_offering(&mut shard, "/", KEEPS);
    let mut compressor = Sender::new();
    let frames: Vec<Vec<u8>> = (0..200)
        .map(|_| compressor.frame(&vec![b'x'; 50_000]))
        .collect();
    shard.sends(source, &frames.concat());
    turn(&mut shard, usize::MAX, None);
    let before = shard.stats.value(Stat::InflatedMessages);
    assert!(before < 20, "the rest waits: {before}");
    shard.gets(Mail::Drain);
    after(&mut shard, source);
    let drained = shard.stats.value(Stat::InflatedMessages) - before;
    assert!((1..20).contains(&drained), "{drained} of what was read");
    assert_eq!(shard.stats.value(Stat::DisconnectedShutdown), 1);
}
