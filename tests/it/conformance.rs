//! Questions of a conformance suite, without the suite. A lone client gets its own messages back, so the relay echoes.
//!
//! A [`Script`] has the frames that a client sends, the frames that must come back, and the end of the connection.
//! Every script is played in every [`Chop`], because the cuts between packets must change nothing, and on topics of
//! both shards.
//!
//! UTF-8 is in [`utf8`], large and many messages in [`bulk`]. `frames.rs` has an example of each rule and its effect on
//! other clients. `tests/autobahn/README.md` maps the cases of the Autobahn suite to tests.

mod bulk;
mod utf8;

use fanwire::server::Stat;

use crate::support::World;
use crate::wire::{
    BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, Wire, close_body, frame, header,
};

/// Topics, of which each of the two shards owns some.
const PATHS: [&str; 4] = ["/a", "/b", "/c", "/d"];

/// The cuts of the client's bytes into writes.
#[derive(Clone, Copy, Debug)]
enum Chop {
    Whole,
    Frames,
    Bytes(usize),
}

const CHOPS: [Chop; 3] = [Chop::Whole, Chop::Frames, Chop::Bytes(1)];

impl Chop {
    /// Sends the frames. The relay may close the connection before it has read all.
    fn send(self, wire: &Wire, frames: &[Vec<u8>]) {
        let stream = frames.concat();
        let pieces: Vec<&[u8]> = match self {
            Chop::Whole => vec![&stream],
            Chop::Frames => frames.iter().map(Vec::as_slice).collect(),
            Chop::Bytes(most) => stream.chunks(most).collect(),
        };
        for piece in pieces {
            if wire.try_send(piece).is_err() {
                return;
            }
        }
    }
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closes it.
    ByClient,
    /// The relay fails it with this code.
    Failed(u16),
}

/// A conversation.
#[derive(Debug)]
struct Script {
    sent: Vec<Vec<u8>>,
    received: Vec<Frame>,
    end: End,
}

fn script(
    sent: impl IntoIterator<Item = Vec<u8>>,
    received: impl IntoIterator<Item = Frame>,
    end: End,
) -> Script {
    Script {
        sent: sent.into_iter().collect(),
        received: received.into_iter().collect(),
        end,
    }
}

impl Script {
    /// Plays the script on a connection that has joined.
    fn play(&self, wire: &mut Wire, chop: Chop) {
        chop.send(wire, &self.sent);
        for (at, expected) in self.received.iter().enumerate() {
            assert!(wire.next() == *expected, "{at} of {chop:?}: {self:?}");
        }
        match self.end {
            End::ByClient => {
                wire.send(frame(FIN | CLOSE, &close_body(1000, "")));
                assert_eq!(wire.close().0, 1000, "{chop:?}: {self:?}");
            }
            End::Failed(code) => assert_eq!(wire.close().0, code, "{chop:?}: {self:?}"),
        }
        wire.expect_end();
    }
}

/// Plays each script in every chop, on topics of both shards.
fn play(scripts: &[Script]) {
    let world = World::start();
    let (mut by_client, mut failed) = (0, 0);
    let mut paths = PATHS.iter().cycle();
    for script in scripts {
        for chop in CHOPS {
            for path in paths.by_ref().take(2) {
                script.play(&mut world.join(path), chop);
                match script.end {
                    End::ByClient => by_client += 1,
                    End::Failed(_) => failed += 1,
                }
            }
        }
    }
    let stats = world.end();
    assert_eq!(stats.value(Stat::DisconnectedByClient), by_client);
    assert_eq!(stats.value(Stat::DisconnectedProtocol), failed);
}

/// A frame from the server.
fn reply(opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
    Frame {
        first: FIN | opcode,
        payload: payload.as_ref().to_vec(),
    }
}

/// The limits of a length's three forms, and their neighbours.
const LENGTHS: [usize; 7] = [0, 125, 126, 127, 128, 65_535, 65_536];

#[test]
fn messages_with_every_form_of_length_come_back() {
    let world = World::start();
    for (opcode, fill) in [(TEXT, b'*'), (BINARY, 0xfe)] {
        let payloads = LENGTHS.map(|length| vec![fill; length]);
        let frames = payloads.each_ref().map(|it| frame(FIN | opcode, it));
        let replies = payloads.map(|it| reply(opcode, it));
        let script = script(frames, replies, End::ByClient);
        for chop in [Chop::Whole, Chop::Frames, Chop::Bytes(997)] {
            script.play(&mut world.join("/room"), chop);
        }
    }
    world.end();
}

#[test]
fn pings_of_every_size_and_content_are_answered() {
    let payloads = [
        &b""[..],
        b"Hello",
        b"\x00\xff\xfe\xfd\x00\xff",
        &[0xfe; 125],
        b"twice",
        b"twice",
    ];
    let sent = payloads.map(|payload| frame(FIN | PING, payload));
    let received = payloads.map(|payload| reply(PONG, payload));
    play(&[script(sent, received, End::ByClient)]);
}

#[test]
fn unsolicited_pongs_change_nothing() {
    let sent = [
        frame(FIN | PONG, b""),
        frame(FIN | PONG, b"unasked"),
        frame(FIN | PING, b"asked"),
        frame(FIN | PONG, &[0xfe; 125]),
    ];
    play(&[script(sent, [reply(PONG, b"asked")], End::ByClient)]);
}

#[test]
fn control_frames_over_125_bytes_or_in_fragments_fail() {
    for opcode in [PING, PONG, CLOSE] {
        let long = frame(FIN | opcode, &[b'1'; 126]);
        let longer = header(FIN | opcode, 65_536);
        let first = frame(opcode, b"");
        let ping = frame(FIN | PING, b"behind");
        play(&[
            script([long], [], End::Failed(1002)),
            script([longer], [], End::Failed(1002)),
            script([first, ping], [], End::Failed(1002)),
        ]);
    }
}

/// A message, an invalid first byte, and a ping that must not be answered.
fn message_then(first: u8, payload: &[u8]) -> Script {
    let sent = [
        frame(FIN | TEXT, b"before"),
        frame(first, payload),
        frame(FIN | PING, b"behind"),
    ];
    script(sent, [reply(TEXT, b"before")], End::Failed(1002))
}

#[test]
fn each_combination_of_reserved_bits_fails_and_the_message_before_comes_back() {
    for reserved in 1..=7 {
        let scripts = [TEXT, BINARY, CLOSE, PING, PONG]
            .map(|opcode| message_then(FIN | reserved << 4 | opcode, &close_body(1000, "")));
        play(&scripts);
    }
}

#[test]
fn each_reserved_opcode_fails_and_the_message_before_comes_back() {
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        play(&[
            message_then(FIN | opcode, b""),
            message_then(FIN | opcode, b"payload"),
            message_then(opcode, b"not final"),
        ]);
    }
}

// Fragments

#[test]
fn fragments_come_back_as_one_message_with_pings_answered_in_between() {
    let whole = script(
        [
            frame(TEXT, b"frag"),
            frame(CONTINUATION, b""),
            frame(FIN | PING, b"one"),
            frame(FIN | PONG, b"unasked"),
            frame(CONTINUATION, b"men"),
            frame(FIN | PING, b"two"),
            frame(FIN | CONTINUATION, b"ts"),
        ],
        [
            reply(PONG, b"one"),
            reply(PONG, b"two"),
            reply(TEXT, b"fragments"),
        ],
        End::ByClient,
    );
    let empty = script(
        [
            frame(BINARY, b""),
            frame(CONTINUATION, b""),
            frame(FIN | CONTINUATION, b""),
        ],
        [reply(BINARY, b"")],
        End::ByClient,
    );
    let middle = script(
        [
            frame(TEXT, b""),
            frame(CONTINUATION, b"middle"),
            frame(FIN | CONTINUATION, b""),
        ],
        [reply(TEXT, b"middle")],
        End::ByClient,
    );
    play(&[whole, empty, middle]);
}

#[test]
fn a_continuation_without_a_message_fails_although_messages_follow() {
    let text = frame(FIN | TEXT, b"follows");
    let fragmented = [frame(TEXT, b"a"), frame(FIN | CONTINUATION, b"b")];
    for first in [CONTINUATION, FIN | CONTINUATION] {
        let lost = frame(first, b"of nothing");
        play(&[
            script([lost.clone(), text.clone()], [], End::Failed(1002)),
            script(
                [std::slice::from_ref(&lost), &fragmented].concat(),
                [],
                End::Failed(1002),
            ),
            script(
                [&fragmented[..], &[lost, text.clone()]].concat(),
                [reply(TEXT, b"ab")],
                End::Failed(1002),
            ),
        ]);
    }
}

#[test]
fn a_message_inside_another_fails() {
    for inner in [TEXT, BINARY] {
        for first in [inner, FIN | inner] {
            play(&[
                script(
                    [frame(TEXT, b"outer"), frame(first, b"inner")],
                    [],
                    End::Failed(1002),
                ),
                script(
                    [
                        frame(TEXT, b"outer"),
                        frame(CONTINUATION, b"more"),
                        frame(first, b"inner"),
                    ],
                    [],
                    End::Failed(1002),
                ),
            ]);
        }
    }
}

// Closing

/// Asserts that a Close with this body is answered with `answer` as its code, and nothing after it is answered.
fn assert_closed(body: &[u8], behind: &[Vec<u8>], answer: Option<u16>) {
    let world = World::start();
    for chop in CHOPS {
        for path in &PATHS[..2] {
            let mut client = world.join(path);
            let close = frame(FIN | CLOSE, body);
            chop.send(&client, &[&[close], behind].concat());
            let Frame { first, payload } = client.next();
            let code = payload.first_chunk().copied().map(u16::from_be_bytes);
            assert_eq!((first, code), (FIN | CLOSE, answer), "{body:?} in {chop:?}");
            client.expect_end();
        }
    }
    assert_eq!(world.end().value(Stat::Messages), 0);
}

#[test]
fn every_valid_close_code_is_answered_with_the_same_code() {
    for code in (1000..=1003).chain(1007..=1014) {
        assert_closed(&close_body(code, ""), &[], Some(code));
    }
    for code in [3000, 3999, 4000, 4999] {
        assert_closed(&close_body(code, "reason"), &[], Some(code));
    }
}

#[test]
fn every_invalid_close_code_fails() {
    let reserved = [0, 999, 1004, 1005, 1006, 1015, 1016];
    let unassigned = [1100, 2000, 2999, 5000, 65_535];
    for code in reserved.into_iter().chain(unassigned) {
        assert_closed(&close_body(code, ""), &[], Some(1002));
        assert_closed(&close_body(code, "reason"), &[], Some(1002));
    }
}

#[test]
fn the_body_of_a_close_may_be_empty_or_of_2_to_125_bytes() {
    assert_closed(b"", &[], None);
    assert_closed(b"1", &[], Some(1002));
    assert_closed(&close_body(1000, ""), &[], Some(1000));
    assert_closed(&close_body(1000, "Bye, wörld!"), &[], Some(1000));
    assert_closed(&close_body(1000, &"*".repeat(123)), &[], Some(1000));
    assert_closed(&close_body(1000, &"*".repeat(124)), &[], Some(1002));
}

#[test]
fn nothing_after_a_close_is_answered_or_relayed() {
    let close = close_body(1001, "");
    for behind in [
        frame(FIN | CLOSE, b""),
        frame(FIN | CLOSE, &close_body(5000, "")),
        frame(FIN | PING, b"still there?"),
        frame(FIN | TEXT, b"too late"),
        frame(FIN | 0x3, b"not even wrong"),
        header(FIN | BINARY, 1 << 62),
    ] {
        assert_closed(&close, &[behind], Some(1001));
    }
}

#[test]
fn a_close_inside_a_message_discards_the_message() {
    let world = World::start();
    let listener = world.connect("/room");
    for chop in CHOPS {
        let mut client = world.join("/room");
        let frames = [
            frame(TEXT, b"never "),
            frame(FIN | CLOSE, &close_body(1000, "")),
            frame(FIN | CONTINUATION, b"finished"),
        ];
        chop.send(&client, &frames);
        assert_eq!(client.close().0, 1000);
        client.expect_end();
    }
    assert_eq!(listener.leave(), []);
    assert_eq!(world.end().value(Stat::Messages), 0);
}
