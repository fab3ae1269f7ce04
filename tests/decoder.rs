//! Properties of the decoder over many streams. The cuts between reads change nothing, and an independent
//! implementation of RFC 6455 reads the same from the same bytes, in both directions.

use std::io::{self, Read, Write};

use fanwire::internals::ws::{
    CloseCode, ControlFrame, ControlPayload, DecodeError, Decoder, Event, MessageKind, Payload,
    push_message,
};
use proptest::prelude::*;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

const LIMIT: usize = 1 << 20;

/// An event, without the place of its payload.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// An event that the oracle has as well: how a message was cut does not matter.
fn seen(event: Event<'_>) -> Option<Seen> {
    match event {
        Event::Message(message) => {
            let payload = message.payload.as_slice().to_vec();
            Some(match message.kind {
                MessageKind::Text => Seen::Text(String::from_utf8(payload).expect("checked")),
                MessageKind::Binary => Seen::Binary(payload),
            })
        }
        Event::Ping(payload) => Some(Seen::Ping(payload.as_slice().to_vec())),
        Event::Pong => Some(Seen::Pong),
        Event::Fragment { .. } => None,
        Event::Deflated(_) => unreachable!("nobody has agreed on that"),
        Event::Close(code) => Some(Seen::Close(code.map(CloseCode::value))),
    }
}

/// The events of a stream, and the error that ended it.
type Outcome = (Vec<Seen>, Option<DecodeError>);

fn decode_whole(stream: &[u8]) -> Outcome {
    decode_in_reads(stream, &[stream.len().max(1)], false)
}

/// Decodes `stream` as a connection whose reads return the sizes in `reads`, repeatedly. With `direct`, it reads into
/// the decoder's own buffer whenever there is one.
fn decode_in_reads(stream: &[u8], reads: &[usize], direct: bool) -> Outcome {
    let (mut decoder, mut events, mut rest) = (Decoder::default(), Vec::new(), stream);
    for &read in reads.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let result = match decoder.direct_buffer() {
            Some(buffer) if direct => {
                let count = read.min(buffer.len()).min(rest.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                decoder
                    .decode_direct(count)
                    .map(|event| events.extend(event.and_then(seen)))
            }
            Some(_) | None => {
                let (piece, tail) = rest.split_at(read.min(rest.len()));
                rest = tail;
                decode_piece(&mut decoder, piece, &mut events)
            }
        };
        if let Err(error) = result {
            return (events, Some(error));
        }
    }
    (events, None)
}

fn decode_piece(
    decoder: &mut Decoder,
    piece: &[u8],
    events: &mut Vec<Seen>,
) -> Result<(), DecodeError> {
    let mut scratch = piece.to_vec();
    let mut input = &mut scratch[..];
    while let Some(event) = decoder.decode(&mut input, LIMIT)? {
        events.extend(seen(event));
    }
    assert!(input.is_empty(), "nothing to yield, and yet bytes are left");
    Ok(())
}

/// One end of a connection in memory.
#[derive(Default)]
struct Pipe {
    incoming: io::Cursor<Vec<u8>>,
    outgoing: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.incoming.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The independent implementation, ready to read `incoming`.
fn oracle(role: Role, incoming: Vec<u8>) -> WebSocket<Pipe> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMIT))
        .max_frame_size(Some(LIMIT));
    let pipe = Pipe {
        incoming: io::Cursor::new(incoming),
        outgoing: Vec::new(),
    };
    WebSocket::from_raw_socket(pipe, role, Some(config))
}

/// The events of the independent implementation, until its first error or the end of the stream.
fn oracle_sees(role: Role, stream: Vec<u8>) -> Vec<Seen> {
    let (mut socket, mut seen) = (oracle(role, stream), Vec::new());
    while let Ok(message) = socket.read() {
        seen.push(match message {
            Message::Text(text) => Seen::Text(text.to_string()),
            Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Seen::Ping(bytes.to_vec()),
            Message::Pong(_) => Seen::Pong,
            Message::Close(frame) => Seen::Close(frame.map(|frame| frame.code.into())),
            Message::Frame(_) => unreachable!("never returned by a read"),
        });
    }
    seen
}

/// An action of a client: a message, with a Ping after each fragment but the last if asked for, or a control frame.
#[derive(Clone, Debug)]
enum Step {
    Message {
        kind: MessageKind,
        pieces: Vec<Vec<u8>>,
        pings: bool,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// The frames of one step.
fn frames(step: &Step) -> Vec<Frame> {
    match step {
        Step::Message {
            kind,
            pieces,
            pings,
        } => {
            let mut frames = Vec::new();
            for (at, piece) in pieces.iter().enumerate() {
                let data = match (at, kind) {
                    (0, MessageKind::Text) => Data::Text,
                    (0, MessageKind::Binary) => Data::Binary,
                    (1.., MessageKind::Text | MessageKind::Binary) => Data::Continue,
                };
                let fin = at + 1 == pieces.len();
                frames.push(Frame::message(piece.clone(), OpCode::Data(data), fin));
                if *pings && !fin {
                    frames.push(Frame::ping(&b"between"[..]));
                }
            }
            frames
        }
        Step::Ping(payload) => vec![Frame::ping(payload.clone())],
        Step::Pong(payload) => vec![Frame::pong(payload.clone())],
    }
}

/// The client's bytes, as the independent implementation frames and masks them.
fn client_stream(steps: &[Step]) -> Vec<u8> {
    let mut client = oracle(Role::Client, Vec::new());
    for frame in steps.iter().flat_map(frames) {
        client
            .send(Message::Frame(frame))
            .expect("memory takes everything");
    }
    std::mem::take(&mut client.get_mut().outgoing)
}

/// The events that a server must see for `steps`.
fn expected(steps: &[Step]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for step in steps {
        match step {
            Step::Message {
                kind,
                pieces,
                pings,
            } => {
                if *pings {
                    seen.extend((1..pieces.len()).map(|_| Seen::Ping(b"between".to_vec())));
                }
                seen.push(message(*kind, pieces.concat()));
            }
            Step::Ping(payload) => seen.push(Seen::Ping(payload.clone())),
            Step::Pong(_) => seen.push(Seen::Pong),
        }
    }
    seen
}

fn message(kind: MessageKind, payload: Vec<u8>) -> Seen {
    match kind {
        MessageKind::Text => Seen::Text(String::from_utf8(payload).expect("generated as text")),
        MessageKind::Binary => Seen::Binary(payload),
    }
}

/// A short text, or one near the limits of a length's forms, or one large enough for direct reads.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let count = prop_oneof![8 => 0..4usize, 3 => 20..50usize, 1 => 5_000..9_000usize];
    ("[aé€😀\\PC]{0,12}", count).prop_map(|(unit, count)| unit.repeat(count).into_bytes())
}

/// Bytes, as many as in [`text`].
fn binary() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        8 => 0..40usize,
        3 => 120..130usize,
        1 => 65_530..65_540usize,
        1 => 100_000..300_000usize,
    ];
    (any::<u8>(), len).prop_map(|(seed, len)| {
        (0..len)
            .map(|at| (at as u8).wrapping_mul(31) ^ seed)
            .collect()
    })
}

fn payload() -> impl Strategy<Value = (MessageKind, Vec<u8>)> {
    prop_oneof![
        text().prop_map(|payload| (MessageKind::Text, payload)),
        binary().prop_map(|payload| (MessageKind::Binary, payload)),
    ]
}

fn control_payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=125)
}

/// `payload` in pieces, cut at any byte, even inside a code point.
fn cut(payload: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut ends: Vec<usize> = cuts
        .iter()
        .map(|cut| cut.index(payload.len() + 1))
        .collect();
    ends.push(payload.len());
    ends.sort_unstable();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(&ends)
        .map(|(start, &end)| payload[start..end].to_vec())
        .collect()
}

fn step() -> impl Strategy<Value = Step> {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    prop_oneof![
        6 => (payload(), cuts, any::<bool>()).prop_map(|((kind, payload), cuts, pings)| {
            Step::Message { kind, pieces: cut(&payload, &cuts), pings }
        }),
        1 => control_payload().prop_map(Step::Ping),
        1 => control_payload().prop_map(Step::Pong),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..6)
}

/// The sizes of reads.
fn reads() -> impl Strategy<Value = Vec<usize>> {
    let read = prop_oneof![1 => 1..3usize, 2 => 1..200usize, 3 => 10_000..70_000usize];
    prop::collection::vec(read, 1..8)
}

/// A client's stream with up to three wrong bytes near the front, where the headers are.
fn damaged_stream() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((0..200usize, any::<u8>()), 1..4);
    (steps(), damage).prop_map(|(steps, damage)| {
        let mut stream = client_stream(&steps);
        for (at, byte) in damage {
            let at = at % stream.len();
            stream[at] ^= byte;
        }
        stream
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_server_sees_what_an_independent_client_sent(steps in steps()) {
        prop_assert_eq!(decode_whole(&client_stream(&steps)), (expected(&steps), None));
    }

    #[test]
    fn how_a_stream_is_cut_changes_nothing(
        steps in steps(), reads in reads(), direct in any::<bool>()
    ) {
        let stream = client_stream(&steps);
        prop_assert_eq!(decode_in_reads(&stream, &reads, direct), (expected(&steps), None));
    }

    #[test]
    fn how_a_damaged_stream_is_cut_changes_nothing(
        stream in damaged_stream(), reads in reads(), direct in any::<bool>()
    ) {
        let (whole, cut) = (decode_whole(&stream), decode_in_reads(&stream, &reads, direct));
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn of_a_damaged_stream_an_independent_server_sees_the_same_or_more(stream in damaged_stream()) {
        // The oracle may see more: it accepts lengths that are not minimal, and checks text only at the end of a frame.
        let (ours, error) = decode_whole(&stream);
        let theirs = oracle_sees(Role::Server, stream);
        match error {
            None => prop_assert_eq!(ours, theirs),
            Some(_) => prop_assert!(theirs.starts_with(&ours), "{ours:?} is not how {theirs:?} begins"),
        }
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300), reads in reads()
    ) {
        prop_assert_eq!(decode_in_reads(&bytes, &reads, true), decode_whole(&bytes));
    }

    #[test]
    fn an_independent_client_sees_what_the_server_sent(
        messages in prop::collection::vec((payload(), control_payload()), 1..4)
    ) {
        let (mut stream, mut sent) = (Vec::new(), Vec::new());
        for ((kind, payload), ping) in messages {
            push_message(&mut stream, kind, &payload);
            sent.push(message(kind, payload));
            let control = ControlPayload::new(&ping).expect("at most 125 bytes");
            stream.extend_from_slice(ControlFrame::ping(&control).as_slice());
            sent.push(Seen::Ping(ping));
        }
        prop_assert_eq!(oracle_sees(Role::Client, stream), sent);
    }
}

#[test]
fn a_stream_may_come_byte_by_byte() {
    let text = vec!["a€".into(), vec![], "😀".into()];
    let steps = [
        Step::Message {
            kind: MessageKind::Text,
            pieces: text,
            pings: true,
        },
        Step::Ping(b"ping".to_vec()),
        Step::Message {
            kind: MessageKind::Binary,
            pieces: vec![vec![7; 70_000]],
            pings: false,
        },
    ];
    let outcome = decode_in_reads(&client_stream(&steps), &[1], false);
    assert_eq!(outcome, (expected(&steps), None));
}

#[test]
fn a_message_that_came_in_pieces_becomes_a_frame_that_an_independent_client_reads() {
    let half = vec![9; 200_000];
    let pieces = vec![half.clone(), half.clone()];
    let steps = [Step::Message {
        kind: MessageKind::Binary,
        pieces,
        pings: false,
    }];
    let mut stream = client_stream(&steps);
    let mut input = &mut stream[..];
    let event = Decoder::default()
        .decode(&mut input, LIMIT)
        .expect("legal")
        .expect("complete");
    let Event::Message(message) = event else {
        panic!("{event:?}")
    };
    let Payload::Assembled(assembled) = message.payload else {
        panic!("not in pieces")
    };
    let frame = assembled.into_frame(message.kind);
    assert_eq!(
        oracle_sees(Role::Client, frame.to_vec()),
        [Seen::Binary(half.repeat(2))]
    );
}
