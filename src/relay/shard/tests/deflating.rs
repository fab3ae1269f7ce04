//! Compressed frames for members: each client inflates what was published, and the relay compresses only where it pays.

use std::collections::BTreeMap;

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush};
use proptest::prelude::*;

use super::*;
use crate::ws::deflate::WindowSize;

const SMALL: usize = WindowSize::Small.memory_bytes();

/// A shard with room for so many small windows, which compresses for one member.
fn config(windows: usize) -> Config {
    let mut config = Config::default();
    config.compression.enabled = true;
    config.compression.min_members = 1;
    config.slow_consumer.max_lag_bytes = 1 << 20;
    config.limits.max_buffered_bytes = (32 * SMALL * windows).max(4 << 20);
    config.relay.coalesce = Duration::ZERO;
    config.keepalive.ping_interval = Duration::ZERO;
    config
}

/// A client, as it reads. Its inflater shares no code with the relay.
struct Client {
    key: ClientKey,
    inflater: Option<Box<InflateState>>,
    unread: Vec<u8>,
    has_shaken_hands: bool,
    bytes: usize,
    compressed: usize,
}

impl Client {
    fn join(shard: &mut Driven, path: &str, takes: bool) -> Client {
        let mut request = request(path);
        if takes {
            let field = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
            request = request.replacen("\r\n\r\n", field, 1);
        }
        let key = shard.accept();
        shard.sends(key, request.as_bytes());
        Client {
            key,
            inflater: takes.then(|| InflateState::new_boxed(DataFormat::Raw)),
            unread: Vec::new(),
            has_shaken_hands: false,
            bytes: 0,
            compressed: 0,
        }
    }

    /// The messages that the client was sent since the last call.
    fn reads(&mut self, shard: &Driven) -> Vec<Vec<u8>> {
        self.unread.extend(shard.writes_to(self.key).concat());
        if !self.has_shaken_hands {
            let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else {
                return Vec::new();
            };
            self.unread.drain(..end + 4);
            self.has_shaken_hands = true;
        }
        let (mut messages, mut at) = (Vec::new(), 0);
        while let Some((first, payload)) = frame(&self.unread[at..]) {
            let (start, end) = (at + payload.start, at + payload.end);
            let payload = &self.unread[start..end];
            self.bytes += end - at;
            at = end;
            if first & 0x0f > 2 {
                continue;
            }
            messages.push(if first & 0x40 == 0 {
                payload.to_vec()
            } else {
                self.compressed += 1;
                let inflater = self.inflater.as_mut().expect("it has not agreed to that");
                inflated(inflater, payload)
            });
        }
        self.unread.drain(..at);
        messages
    }
}

/// The first byte of a frame and the place of its payload, if it is whole.
fn frame(bytes: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
    let (len, header) = match *bytes.get(1)? {
        126 => (
            u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into(),
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize,
            10,
        ),
        len => (usize::from(len), 2),
    };
    (bytes.len() >= header + len).then_some((bytes[0], header..header + len))
}

fn inflated(inflater: &mut InflateState, payload: &[u8]) -> Vec<u8> {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut out = vec![0; 200_000];
    let step = inflate(inflater, &input, &mut out, MZFlush::Sync);
    assert_eq!(step.bytes_consumed, input.len(), "{:?}", step.status);
    out.truncate(step.bytes_written);
    out
}

/// A client's frame with a message, masked with zeros.
fn message(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => {
            frame.push(0xfe);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn trade(number: usize) -> Vec<u8> {
    let (price, amount) = (61_000 + number * 37 % 900, number * 7919 % 1000);
    format!(
        r#"{{"type":"trade","symbol":"BTC-USD","id":{number},"price":"{price}.{amount:03}","size":"0.{amount:03}"}}"#
    )
    .into_bytes()
}

fn trades(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers.map(trade).collect()
}

/// Bytes that do not shrink.
fn noise(number: usize, len: usize) -> Vec<u8> {
    let mut chance = Chance::new(number as u64 + 1);
    (0..len).map(|_| chance.below(256) as u8).collect()
}

/// Publishes a message in a turn of its own.
fn publish(shard: &mut Driven, from: &Client, payload: &[u8]) {
    shard.sends(from.key, &message(payload));
    rest(shard, None);
}

fn keys(shard: &Driven) -> [u64; 6] {
    [
        Stat::DeflateKeysStart,
        Stat::DeflateKeysWaiting,
        Stat::DeflateKeysEvicted,
        Stat::DeflateKeysLarger,
        Stat::DeflateKeysRetry,
        Stat::DeflateKeysEcho,
    ]
    .map(|stat| shard.stats.value(stat))
}

/// A shard in which a client that publishes has joined, and `takers` clients that take compressed frames.
fn world(config: &Config, takers: usize) -> (Driven, Client, Vec<Client>) {
    let mut shard = shard_with(config);
    let publisher = Client::join(&mut shard, "/", false);
    let takers = (0..takers).map(|_| Client::join(&mut shard, "/", true));
    let takers = takers.collect();
    rest(&mut shard, None);
    (shard, publisher, takers)
}

#[test]
fn members_read_the_same_in_fewer_bytes() {
    let (mut shard, mut publisher, mut takers) = world(&config(1), 2);
    let payloads = trades(0..100);
    for payload in &payloads {
        publish(&mut shard, &publisher, payload);
    }
    assert_eq!(publisher.reads(&shard), payloads);
    for taker in &mut takers {
        assert_eq!(taker.reads(&shard), payloads);
        assert_eq!(taker.compressed, 100);
        assert!(2 * taker.bytes < publisher.bytes, "{} bytes", taker.bytes);
    }
    assert_eq!(keys(&shard), [1, 0, 0, 0, 0, 0]);
    assert_eq!(shard.stats.value(Stat::DeflatedMessages), 100);
    assert_eq!(shard.stats.value(Stat::DeflatePlainDeliveries), 0);
    let [before, after] = [Stat::DeflateInputBytes, Stat::DeflateOutputBytes];
    assert_eq!(shard.stats.value(before), publisher.bytes as u64);
    assert_eq!(shard.stats.value(after), takers[0].bytes as u64);
    assert_eq!(shard.stats.value(Stat::MembersByDeflated), 2);
}

#[test]
fn a_newcomer_reads_plain_frames_until_it_has_waited_long_enough() {
    let (mut shard, publisher, mut takers) = world(&config(1), 9);
    publish(&mut shard, &publisher, &trade(0));
    takers.push(Client::join(&mut shard, "/", true));
    rest(&mut shard, None);
    for number in 1..30 {
        publish(&mut shard, &publisher, &trade(number));
    }
    let newcomer = takers.last_mut().unwrap();
    assert_eq!(newcomer.reads(&shard), trades(1..30));
    // With ten takers, one waits for twenty messages. The twentieth is in the key.
    assert_eq!(newcomer.compressed, 10);
    assert_eq!(keys(&shard), [1, 1, 0, 0, 0, 0]);
    assert_eq!(shard.stats.value(Stat::DeflatePlainDeliveries), 19);
}

#[test]
fn few_takers_get_nothing_compressed_and_no_window_is_taken() {
    let mut config = config(1);
    config.compression.min_members = 3;
    let (mut shard, publisher, mut takers) = world(&config, 2);
    publish(&mut shard, &publisher, &trade(0));
    assert_eq!(shard.stats.value(Stat::DeflateWindows), 0);
    takers.push(Client::join(&mut shard, "/", true));
    rest(&mut shard, None);
    publish(&mut shard, &publisher, &trade(1));
    assert_eq!(shard.stats.value(Stat::DeflateWindows), 1);
    for (taker, first) in takers.iter_mut().zip([0, 0, 1]) {
        assert_eq!(taker.reads(&shard), trades(first..2));
        assert_eq!(taker.compressed, 1);
    }
}

#[test]
fn a_window_is_given_back_with_the_last_member_that_takes_compressed_frames() {
    let (mut shard, publisher, takers) = world(&config(1), 2);
    publish(&mut shard, &publisher, &trade(0));
    for (left, taker) in [(1, &takers[0]), (0, &takers[1])] {
        shard.fails(taker.key);
        rest(&mut shard, None);
        assert_eq!(shard.stats.value(Stat::DeflateWindows), left);
    }
    assert_eq!(shard.stats.value(Stat::DeflateWindowBytes), 0);
    assert_eq!(shard.stats.value(Stat::MembersByDeflated), 0);
}

#[test]
fn a_window_is_taken_from_a_topic_only_after_a_second_without_use() {
    let mut shard = shard_with(&config(1));
    let mut pairs =
        ["/a", "/b"].map(|path| [false, true].map(|takes| Client::join(&mut shard, path, takes)));
    rest(&mut shard, None);
    let mut number = 0;
    let mut publish_to = |shard: &mut Driven, pair: &[Client; 2]| {
        publish(shard, &pair[0], &trade(number));
        number += 1;
    };
    publish_to(&mut shard, &pairs[0]);
    publish_to(&mut shard, &pairs[1]);
    shard.sleep(Duration::from_millis(900), &mut taking_all);
    publish_to(&mut shard, &pairs[1]);
    shard.sleep(Duration::from_millis(600), &mut taking_all);
    publish_to(&mut shard, &pairs[1]);
    publish_to(&mut shard, &pairs[0]);
    shard.sleep(Duration::from_secs(2), &mut taking_all);
    publish_to(&mut shard, &pairs[0]);
    let [[_, first], [_, second]] = &mut pairs;
    assert_eq!(first.reads(&shard), [0, 4, 5].map(trade));
    assert_eq!(second.reads(&shard), [1, 2, 3].map(trade));
    assert_eq!((first.compressed, second.compressed), (2, 1));
    assert_eq!(keys(&shard), [2, 0, 1, 0, 0, 0]);
    assert_eq!(shard.stats.value(Stat::DeflateWindowBytes), SMALL as u64);
}

#[test]
fn messages_that_do_not_shrink_are_left_alone_for_a_while() {
    let (mut shard, publisher, mut takers) = world(&config(1), 1);
    let payloads = (0..32 + 1_024 + 5).map(|number| noise(number, 100));
    let payloads: Vec<_> = payloads.collect();
    for payload in &payloads {
        publish(&mut shard, &publisher, payload);
    }
    assert_eq!(takers[0].reads(&shard), payloads);
    assert_eq!(takers[0].compressed, 32 + 5);
    assert_eq!(keys(&shard), [1, 0, 0, 0, 1, 0]);
}

#[test]
fn long_messages_get_a_larger_window_if_there_is_room() {
    for (windows, grown) in [(1, 0), (2, 1)] {
        let (mut shard, publisher, mut takers) = world(&config(windows), 1);
        let mut payloads = vec![trade(0)];
        payloads.extend((1..60).map(|number| trades(number * 40..(number + 1) * 40).concat()));
        for payload in &payloads {
            publish(&mut shard, &publisher, payload);
        }
        assert_eq!(takers[0].reads(&shard), payloads);
        assert_eq!(keys(&shard), [1, 0, 0, grown, 0, 0]);
    }
}

#[test]
fn a_turn_compresses_only_so_much() {
    let (mut shard, publisher, mut takers) = world(&config(2), 1);
    let mut payloads = vec![trade(0)];
    publish(&mut shard, &publisher, &payloads[0]);
    for (turn, messages) in [4, 5, 4].into_iter().enumerate() {
        for number in 0..messages {
            let payload = noise(turn * 5 + number, 60_000);
            shard.sends(publisher.key, &message(&payload));
            payloads.push(payload);
        }
        rest(&mut shard, None);
    }
    assert_eq!(takers[0].reads(&shard), payloads);
    assert_eq!(takers[0].compressed, 1 + 4 + 4);
}

#[test]
fn short_and_long_messages_stay_plain_and_the_window_does_not_see_them() {
    let (mut shard, publisher, mut takers) = world(&config(1), 1);
    let payloads = [
        trade(0),
        b"short".to_vec(),
        noise(0, 65_537),
        trade(1),
        vec![b'x'; 16],
    ];
    for payload in &payloads {
        publish(&mut shard, &publisher, payload);
    }
    assert_eq!(takers[0].reads(&shard), payloads);
    assert_eq!(takers[0].compressed, 3);
}

#[test]
fn without_echo_each_batch_can_be_read_by_itself_and_who_has_a_part_in_it_reads_it_plain() {
    let mut config = config(1);
    config.relay.echo = false;
    let (mut shard, publisher, mut takers) = world(&config, 3);
    for number in 0..4 {
        let author = if number % 2 == 0 {
            &publisher
        } else {
            &takers[0]
        };
        publish(&mut shard, author, &trade(number));
    }
    shard.sends(publisher.key, &message(&trade(4)));
    shard.sends(takers[0].key, &message(&trade(5)));
    rest(&mut shard, None);
    assert_eq!(takers[0].reads(&shard), [0, 2, 4].map(trade));
    assert_eq!(takers[0].compressed, 2);
    assert_eq!(takers[1].reads(&shard), trades(0..6));
    assert_eq!(takers[1].compressed, 6);
    assert_eq!(keys(&shard), [1, 0, 0, 0, 0, 4]);
}

/// Something that happens in a world.
#[derive(Clone, Debug)]
enum Act {
    Join(bool),
    Leave(usize),
    /// So many messages in one turn, of about so many bytes.
    Publish(usize, usize),
    /// A client takes so many bytes, and then nothing.
    Stick(usize, usize),
    /// It takes all again.
    Free(usize),
    Sleep(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => any::<bool>().prop_map(Act::Join),
        1 => (0..8usize).prop_map(Act::Leave),
        8 => (1..6usize, prop_oneof![0..40usize, 60..200usize, 1_000..3_000usize])
            .prop_map(|(messages, bytes)| Act::Publish(messages, bytes)),
        3 => (0..8usize, 0..2_000usize).prop_map(|(client, taken)| Act::Stick(client, taken)),
        2 => (0..8usize).prop_map(Act::Free),
        1 => (1..3_000u64).prop_map(Act::Sleep),
    ]
}

/// A payload that begins with its number. The rest is made of earlier text, so that it refers to that when it is compressed.
fn payload(number: u32, len: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    let mut chance = Chance::new(u64::from(number));
    while payload.len() < len {
        payload.extend(
            trade(chance.below(7) as usize)
                .iter()
                .skip(chance.below(40) as usize),
        );
    }
    payload.truncate(len.max(4));
    payload
}

/// Each client inflates what was published, in order, with holes only where the relay has dropped messages of a laggard.
fn check_world(acts: Vec<Act>, echo: bool) {
    let mut config = config(2);
    config.relay.echo = echo;
    config.slow_consumer.policy = SlowConsumerPolicy::Drop;
    config.slow_consumer.max_lag_bytes = 8 << 10;
    config.limits.max_message_bytes = 4 << 10;
    let mut shard = shard_with(&config);
    let mut clients = vec![Client::join(&mut shard, "/", false)];
    let mut last_read = vec![0];
    let mut payloads: Vec<Vec<u8>> = vec![Vec::new()];
    let mut stuck: BTreeMap<u32, usize> = BTreeMap::new();
    shard.rest(&mut taking_all);
    for act in acts {
        match act {
            Act::Join(takes) => {
                if clients.len() < 8 {
                    clients.push(Client::join(&mut shard, "/", takes));
                    last_read.push(0);
                }
            }
            Act::Leave(at) => {
                let at = at % clients.len();
                if at > 0 {
                    last_read.remove(at);
                    let gone = clients.remove(at);
                    stuck.remove(&gone.key.slot);
                    shard.fails(gone.key);
                }
            }
            Act::Publish(messages, len) => {
                for _ in 0..messages {
                    let payload = payload(payloads.len() as u32, len);
                    shard.sends(clients[0].key, &message(&payload));
                    payloads.push(payload);
                }
            }
            Act::Stick(at, taken) => {
                let at = at % clients.len();
                if at > 0 {
                    stuck.entry(clients[at].key.slot).or_insert(taken);
                }
            }
            Act::Free(at) => {
                let client = &clients[at % clients.len()];
                if stuck.remove(&client.key.slot).is_some() {
                    shard.accepts(client.key);
                }
            }
            Act::Sleep(millis) => shard.pass(Duration::from_millis(millis)),
        }
        shard.forget_writes();
        shard.rest(&mut |client, offered| {
            let taken = match stuck.get_mut(&client.slot) {
                Some(left) => {
                    let taken = offered.min(*left);
                    *left -= taken;
                    taken
                }
                None => offered,
            };
            Written::plain(taken, offered)
        });
        for (client, last) in clients.iter_mut().zip(&mut last_read) {
            for message in client.reads(&shard) {
                let number = u32::from_be_bytes(message[..4].try_into().unwrap()) as usize;
                assert!(number > *last, "{number} after {last}");
                assert!(message == payloads[number], "a client reads something else");
                *last = number;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn each_client_inflates_what_was_published(
        acts in prop::collection::vec(act(), 1..120),
        echo in any::<bool>(),
    ) {
        check_world(acts, echo);
    }
}
