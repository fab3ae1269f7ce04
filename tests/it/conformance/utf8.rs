//! Text that is UTF-8 comes back, text that is not fails with 1007, and does so with the very byte that no
//! continuation could make right, inside a frame that is not complete too (RFC 6455, section 8.1; RFC 3629).
//!
//! What is valid is listed by code point. What is not is made by an encoder of the older scheme, of up to six bytes
//! and of any number, which knows nothing of what was ruled out since. The standard library says of each whether the
//! list is right, and where it goes wrong.

use std::collections::BTreeSet;
use std::str;

use fanwire::metrics::stats::Stat;

use super::{Chop, End, reply, script};
use crate::support::World;
use crate::wire::{CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, Wire, frame};

/// Text around what is tested, with code points of two, three and four bytes, so that nothing is at a border.
const AROUND: &str = "κόσμε-€-𤭢";

/// A number in `length` bytes, 2 to 6: the first byte says how many follow, of six bits each.
fn encode(number: u32, length: u32) -> Vec<u8> {
    let lead = 0xff_u8 << (8 - length);
    let follow = |at: u32| 0x80 | (number >> (6 * at)) as u8 & 0x3f;
    let mut bytes = vec![lead | (number >> (6 * (length - 1))) as u8];
    bytes.extend((0..length - 1).rev().map(follow));
    bytes
}

/// The largest number that fits so many bytes in the older scheme.
fn last_of(length: u32) -> u32 {
    match length {
        1 => 0x7f,
        2.. => (1 << (5 * length + 1)) - 1,
        0 => unreachable!("no number has no bytes"),
    }
}

/// Code points at every border, and those that some take for wrong and are not.
fn valid_code_points() -> Vec<char> {
    let borders = [
        0, 0x24, 0x7f, 0x80, 0xa2, 0x7ff, 0x800, 0x20ac, 0xd7ff, 0xe000, 0xffff, 0x1_0000,
        0x2_4b62, 0x10_ffff,
    ];
    // Interlinear annotation, the object's and the general replacement: U+FFFD is a character like others.
    let specials = 0xfff9..=0xfffd;
    let noncharacters = (0..=0x10).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    let all = borders.into_iter().chain(specials).chain(noncharacters);
    all.map(|number| char::from_u32(number).unwrap()).collect()
}

/// Bytes that are not UTF-8, none twice.
fn invalid_texts() -> BTreeSet<Vec<u8>> {
    let mut texts = BTreeSet::new();
    // Continuations without a first byte: each alone, and up to 63 in a row.
    texts.extend((0x80..=0xbf).map(|byte| vec![byte]));
    for count in 2..=63 {
        texts.insert((0x80..0x80 + count).collect());
    }
    // First bytes that nothing continues, and bytes that can be neither.
    texts.extend((0xc0..=0xff).map(|byte| vec![byte, b' ']));
    texts.extend((0xc0..=0xff).map(|byte| vec![byte]));
    texts.insert((0xc0..=0xfd).flat_map(|byte| [byte, b' ']).collect());
    texts.insert(b"\xfe\xfe\xff\xff".to_vec());
    // The last byte is missing, alone and one behind the other.
    let mut cut = Vec::new();
    for length in 2..=6 {
        for number in [0, last_of(length)] {
            let mut bytes = encode(number, length);
            bytes.pop();
            cut.push(bytes);
        }
    }
    texts.insert(cut.concat());
    texts.extend(cut);
    // More bytes than the number needs.
    for length in 2..=6 {
        for number in [0, u32::from(b'/'), last_of(length - 1)] {
            texts.insert(encode(number, length));
        }
    }
    // Beyond the last code point.
    texts.insert(encode(0x11_0000, 4));
    texts.insert(encode(last_of(4), 4));
    for length in 5..=6 {
        texts.insert(encode(last_of(length - 1) + 1, length));
        texts.insert(encode(last_of(length), length));
    }
    // Surrogates, alone and in pairs.
    let (high, low) = ([0xd800, 0xdb7f, 0xdb80, 0xdbff], [0xdc00, 0xdf80, 0xdfff]);
    texts.extend(high.iter().chain(&low).map(|&half| encode(half, 3)));
    for first in high {
        for second in low {
            texts.insert([encode(first, 3), encode(second, 3)].concat());
        }
    }
    // Good text that ends within a code point.
    let good = AROUND.as_bytes();
    let prefixes = (1..good.len()).map(|end| &good[..end]);
    texts.extend(
        prefixes
            .filter(|prefix| str::from_utf8(prefix).is_err())
            .map(<[u8]>::to_vec),
    );
    texts
}

/// How many bytes it takes until the text cannot be UTF-8 any more, whatever follows; none if it is only cut.
fn wrong_from(text: &[u8]) -> Option<usize> {
    let is_wrong = |&end: &usize| {
        let error = str::from_utf8(&text[..end]).err();
        error.is_some_and(|error| error.error_len().is_some())
    };
    (1..=text.len()).find(is_wrong)
}

fn assert_failed(client: &mut Wire, text: &[u8]) {
    assert_eq!(client.close().0, 1007, "{text:x?}");
    client.expect_end();
}

#[test]
fn every_kind_of_code_point_comes_back() {
    let texts: Vec<String> = valid_code_points()
        .into_iter()
        .flat_map(|point| [point.to_string(), format!("{AROUND}{point}{AROUND}")])
        .collect();
    let frames: Vec<_> = texts
        .iter()
        .map(|it| frame(FIN | TEXT, it.as_bytes()))
        .collect();
    let replies = texts.iter().map(|it| reply(TEXT, it));
    let script = script(frames, replies, End::ByClient);
    let world = World::start();
    for chop in super::CHOPS {
        script.play(&mut world.join("/room"), chop);
    }
    world.end();
}

#[test]
fn code_points_may_be_cut_by_frames_anywhere() {
    let text: String = valid_code_points().into_iter().collect();
    let bytes = text.as_bytes();
    let mut frames: Vec<_> = bytes.iter().map(|&it| frame(CONTINUATION, &[it])).collect();
    frames[0] = frame(TEXT, &bytes[..1]);
    frames.push(frame(FIN | CONTINUATION, b""));
    let script = script(frames, [reply(TEXT, &text)], End::ByClient);
    let world = World::start();
    for chop in super::CHOPS {
        script.play(&mut world.join("/room"), chop);
    }
    world.end();
}

#[test]
fn every_kind_of_text_that_is_not_utf8_fails() {
    let world = World::start();
    let texts = invalid_texts();
    for text in &texts {
        assert!(str::from_utf8(text).is_err(), "{text:x?} is no test");
        let mut client = world.join("/room");
        client.send(frame(FIN | TEXT, text));
        assert_failed(&mut client, text);
        // Fragments of a byte each: what is wrong is found across frames, and what is only cut at the end.
        let around = [AROUND.as_bytes(), text].concat();
        let mut frames: Vec<_> = around
            .iter()
            .map(|&it| frame(CONTINUATION, &[it]))
            .collect();
        frames[0] = frame(TEXT, &around[..1]);
        frames.push(frame(FIN | CONTINUATION, b""));
        let mut client = world.join("/room");
        Chop::Whole.send(&client, &frames);
        assert_failed(&mut client, text);
    }
    let stats = world.end();
    assert_eq!(
        stats.value(Stat::DisconnectedProtocol),
        2 * texts.len() as u64
    );
    assert_eq!(stats.value(Stat::Messages), 0);
}

/// The text with something in front of it, and how much of that can still become UTF-8; only what cannot as a whole.
fn texts_that_go_wrong() -> impl Iterator<Item = (Vec<u8>, usize)> {
    invalid_texts().into_iter().filter_map(|text| {
        let text = [AROUND.as_bytes(), &text].concat();
        let end = wrong_from(&text)?;
        Some((text, end - 1))
    })
}

/// The relay has had everything before, and has not failed.
fn assert_goes_on(client: &mut Wire) {
    client.send(frame(FIN | PING, b"so far"));
    assert_eq!(client.next(), reply(PONG, b"so far"));
}

#[test]
fn text_fails_with_the_byte_that_is_wrong_in_the_next_fragment() {
    let world = World::start();
    for (text, good) in texts_that_go_wrong() {
        let mut client = world.join("/room");
        client.send(frame(TEXT, &text[..good]));
        assert_goes_on(&mut client);
        client.send(frame(CONTINUATION, &text[good..=good]));
        assert_failed(&mut client, &text);
    }
    world.end();
}

#[test]
fn text_fails_with_the_byte_that_is_wrong_inside_a_frame_that_is_not_complete() {
    let world = World::start();
    for (text, good) in texts_that_go_wrong() {
        // The first frame holds what is good, so that a ping can ask whether it is; the second is never complete.
        let rest = [&text[good..], b"and so on"].concat();
        let unfinished = frame(FIN | CONTINUATION, &rest);
        let mut client = world.join("/room");
        client.send(frame(TEXT, &text[..good]));
        assert_goes_on(&mut client);
        client.send(&unfinished[..=unfinished.len() - rest.len()]);
        assert_failed(&mut client, &text);
        // All in one frame, byte by byte.
        let padded = [&text[..], b"and so on"].concat();
        let unfinished = frame(FIN | TEXT, &padded);
        let mut client = world.join("/room");
        let sent = unfinished[..=unfinished.len() - padded.len() + good].to_vec();
        Chop::Bytes(1).send(&client, &[sent]);
        assert_failed(&mut client, &text);
    }
    world.end();
}

#[test]
fn a_close_whose_reason_is_not_utf8_fails() {
    let world = World::start();
    for text in invalid_texts() {
        let mut client = world.join("/room");
        let body = [&1000_u16.to_be_bytes()[..], &text].concat();
        client.send(frame(FIN | CLOSE, &body));
        if body.len() <= 125 {
            assert_failed(&mut client, &text);
        } else {
            assert_eq!(client.close().0, 1002);
            client.expect_end();
        }
    }
    world.end();
}
