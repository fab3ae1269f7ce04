//! Valid UTF-8 comes back. Invalid UTF-8 fails with 1007, at the first byte that no continuation could make valid, even
//! in an incomplete frame (RFC 6455, section 8.1; RFC 3629).
//!
//! Valid texts are listed by code point. Invalid ones come from an encoder of the older scheme, which has up to six
//! bytes and allows any number. The standard library checks the lists and says where each invalid text fails.

use std::collections::BTreeSet;
use std::str;

use fanwire::server::Stat;

use super::{Chop, End, reply, script};
use crate::support::World;
use crate::wire::{CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, Wire, frame};

/// Text around the tested text, with code points of two, three and four bytes, so that it is never at an edge.
const AROUND: &str = "κόσμε-€-𤭢";

/// Encodes a number in `length` bytes, 2 to 6. Each byte after the first holds six bits.
fn encode(number: u32, length: u32) -> Vec<u8> {
    let lead = 0xff_u8 << (8 - length);
    let follow = |at: u32| 0x80 | (number >> (6 * at)) as u8 & 0x3f;
    let mut bytes = vec![lead | (number >> (6 * (length - 1))) as u8];
    bytes.extend((0..length - 1).rev().map(follow));
    bytes
}

/// The largest number that fits in `length` bytes in the older scheme.
fn last_of(length: u32) -> u32 {
    match length {
        1 => 0x7f,
        2.. => (1 << (5 * length + 1)) - 1,
        0 => unreachable!("no number has no bytes"),
    }
}

/// Code points at every limit, and valid ones that some decoders refuse.
fn valid_code_points() -> Vec<char> {
    let borders = [
        0, 0x24, 0x7f, 0x80, 0xa2, 0x7ff, 0x800, 0x20ac, 0xd7ff, 0xe000, 0xffff, 0x1_0000,
        0x2_4b62, 0x10_ffff,
    ];
    // Annotation and replacement characters: U+FFFD is an ordinary character.
    let specials = 0xfff9..=0xfffd;
    let noncharacters = (0..=0x10).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    let all = borders.into_iter().chain(specials).chain(noncharacters);
    all.map(|number| char::from_u32(number).unwrap()).collect()
}

/// Bytes that are not UTF-8, none twice.
fn invalid_texts() -> BTreeSet<Vec<u8>> {
    let mut texts = BTreeSet::new();
    // Continuation bytes without a first byte: each alone, and up to 63 in a row.
    texts.extend((0x80..=0xbf).map(|byte| vec![byte]));
    for count in 2..=63 {
        texts.insert((0x80..0x80 + count).collect());
    }
    // First bytes without a continuation, and bytes that are neither.
    texts.extend((0xc0..=0xff).map(|byte| vec![byte, b' ']));
    texts.extend((0xc0..=0xff).map(|byte| vec![byte]));
    texts.insert((0xc0..=0xfd).flat_map(|byte| [byte, b' ']).collect());
    texts.insert(b"\xfe\xfe\xff\xff".to_vec());
    // Sequences without their last byte, alone and in a row.
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
    // Overlong forms.
    for length in 2..=6 {
        for number in [0, u32::from(b'/'), last_of(length - 1)] {
            texts.insert(encode(number, length));
        }
    }
    // Above the last code point.
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
    // Valid text that ends inside a code point.
    let good = AROUND.as_bytes();
    let prefixes = (1..good.len()).map(|end| &good[..end]);
    texts.extend(
        prefixes
            .filter(|prefix| str::from_utf8(prefix).is_err())
            .map(<[u8]>::to_vec),
    );
    texts
}

/// The number of bytes after which the text cannot become valid; `None` if it is only incomplete.
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
fn frames_may_cut_code_points_anywhere() {
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
        // In fragments of one byte: errors are found across frames, and incomplete text at the end.
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

/// Each text after a valid prefix, and the length of the part that can still become valid.
fn texts_that_go_wrong() -> impl Iterator<Item = (Vec<u8>, usize)> {
    invalid_texts().into_iter().filter_map(|text| {
        let text = [AROUND.as_bytes(), &text].concat();
        let end = wrong_from(&text)?;
        Some((text, end - 1))
    })
}

/// Asserts that the relay has read everything so far and has not failed the connection.
fn assert_goes_on(client: &mut Wire) {
    client.send(frame(FIN | PING, b"so far"));
    assert_eq!(client.next(), reply(PONG, b"so far"));
}

#[test]
fn text_fails_at_the_invalid_byte_in_the_next_fragment() {
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
fn text_fails_at_the_invalid_byte_in_an_incomplete_frame() {
    let world = World::start();
    for (text, good) in texts_that_go_wrong() {
        // The first frame has the valid part, and a ping after it shows that the relay accepts it. The second frame is
        // never complete.
        let rest = [&text[good..], b"and so on"].concat();
        let unfinished = frame(FIN | CONTINUATION, &rest);
        let mut client = world.join("/room");
        client.send(frame(TEXT, &text[..good]));
        assert_goes_on(&mut client);
        client.send(&unfinished[..=unfinished.len() - rest.len()]);
        assert_failed(&mut client, &text);
        // In one frame, byte by byte.
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
fn a_close_with_a_reason_that_is_not_utf8_fails() {
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
