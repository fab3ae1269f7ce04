//! The decoder, rule by rule. `tests/decoder.rs` tests what no single example can show.

mod deflated;

use super::{Decoder, Event, Message, MessageKind, Payload};
use crate::ws::close::CloseCode;
use crate::ws::error::DecodeError;
use crate::ws::frame::HEADROOM;

const LIMIT: usize = 1 << 20;
const MASK: [u8; 4] = [0xa1, 0x02, 0xf3, 0x44];
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// A client's frame that claims `claimed` bytes and carries `payload`.
fn frame_claiming(first: u8, claimed: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match claimed {
        0..=125 => frame.push(0x80 | claimed as u8),
        126..=0xffff => {
            frame.push(0xfe);
            frame.extend((claimed as u16).to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend(claimed.to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_claiming(first, payload.len() as u64, payload)
}

/// An event in a form that can be kept and compared.
fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Message(message) => match message.kind {
            MessageKind::Text => {
                format!(
                    "text {}",
                    std::str::from_utf8(message.payload.as_slice()).expect("checked")
                )
            }
            MessageKind::Binary => format!("binary {:?}", message.payload.as_slice()),
        },
        Event::Deflated(message) => {
            format!(
                "deflated {:?} {:x?}",
                message.kind,
                message.payload.as_slice()
            )
        }
        Event::Ping(payload) => format!("ping {}", String::from_utf8_lossy(payload.as_slice())),
        Event::Pong => "pong".into(),
        Event::Fragment { is_empty } => format!("fragment, empty: {is_empty}"),
        Event::Close(code) => format!("close {:?}", code.map(CloseCode::value)),
    }
}

/// Feeds `piece` and describes the events that it completed.
fn feed(decoder: &mut Decoder, piece: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut bytes = piece.to_vec();
    let mut input = &mut bytes[..];
    let mut events = Vec::new();
    loop {
        match decoder.decode(&mut input, LIMIT) {
            Ok(None) => break,
            Ok(Some(Event::Fragment { .. })) => {}
            Ok(Some(event)) => events.push(describe(&event)),
            Err(_) if decoder.is_in_deflated() => {}
            Err(error) => return Err(error),
        }
    }
    assert!(
        input.is_empty(),
        "no event, and yet {} bytes left",
        input.len()
    );
    Ok(events)
}

fn decode(frames: &[Vec<u8>]) -> Result<Vec<String>, DecodeError> {
    feed(&mut Decoder::default(), &frames.concat())
}

#[test]
fn a_complete_message_is_returned_in_place() {
    let mut bytes = frame(FIN | TEXT, "grüße".as_bytes());
    let payload_at = bytes[6..].as_ptr();
    let mut decoder = Decoder::default();
    let mut input = &mut bytes[..];
    let event = decoder
        .decode(&mut input, LIMIT)
        .expect("legal")
        .expect("complete");
    let Event::Message(message) = event else {
        panic!("{event:?}")
    };
    let Payload::Scratch(payload) = message.payload else {
        panic!("copied")
    };
    assert_eq!(
        (payload, payload.as_ptr()),
        ("grüße".as_bytes(), payload_at)
    );
    assert_eq!(decoder.buffered_bytes(), 0);
}

#[test]
fn many_frames_in_one_piece_are_returned_in_order() {
    let frames = [
        frame(FIN | TEXT, b"a"),
        frame(FIN | PING, b"p"),
        frame(FIN | BINARY, &[1]),
        frame(FIN | PONG, b""),
    ];
    assert_eq!(
        decode(&frames).expect("legal"),
        ["text a", "ping p", "binary [1]", "pong"]
    );
}

#[test]
fn empty_messages_are_messages() {
    assert_eq!(
        decode(&[frame(FIN | TEXT, b""), frame(FIN | BINARY, b"")]).expect("legal"),
        ["text ", "binary []"]
    );
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let frames = [
        frame(TEXT, b"a"),
        frame(FIN | PING, b"now"),
        frame(CONTINUATION, b""),
        frame(FIN | PONG, b"x"),
        frame(FIN | CONTINUATION, b"b"),
    ];
    assert_eq!(
        decode(&frames).expect("legal"),
        ["ping now", "pong", "text ab"]
    );
}

#[test]
fn every_byte_may_arrive_alone() {
    let frames = [
        frame(TEXT, "a€".as_bytes()),
        frame(FIN | PING, b"now"),
        frame(FIN | CONTINUATION, &[b'b'; 300]),
        frame(FIN | CLOSE, &[0x03, 0xe8]),
    ]
    .concat();
    let mut decoder = Decoder::default();
    let events: Vec<String> = frames
        .iter()
        .flat_map(|&byte| feed(&mut decoder, &[byte]).expect("legal"))
        .collect();
    assert_eq!(
        events,
        [
            "ping now".to_owned(),
            format!("text a€{}", "b".repeat(300)),
            "close Some(1000)".into()
        ]
    );
}

#[test]
fn two_hundred_thousand_fragments_of_one_byte_are_one_message() {
    let mut frames = frame(BINARY, &[7]);
    for _ in 0..199_998 {
        frames.extend(frame(CONTINUATION, &[7]));
    }
    let mut decoder = Decoder::default();
    assert_eq!(feed(&mut decoder, &frames).expect("legal"), [""; 0]);
    assert!(
        decoder.buffered_bytes() < 2 * 200_000 + 512,
        "{}",
        decoder.buffered_bytes()
    );
    let last = feed(&mut decoder, &frame(FIN | CONTINUATION, &[7])).expect("legal");
    assert_eq!(last, [format!("binary {:?}", vec![7; 200_000])]);
    assert_eq!(decoder.buffered_bytes(), 0);
}

#[test]
fn memory_follows_the_bytes_sent_and_not_the_length_claimed() {
    let mut decoder = Decoder::default();
    let claimed = LIMIT as u64;
    feed(
        &mut decoder,
        &frame_claiming(FIN | BINARY, claimed, &[1; 1024]),
    )
    .expect("legal");
    assert!(
        decoder.buffered_bytes() < 2048,
        "{}",
        decoder.buffered_bytes()
    );
}

#[test]
fn a_decoder_holds_nothing_between_messages() {
    let mut decoder = Decoder::default();
    for piece in frame(FIN | BINARY, &[1; 5000]).chunks(999) {
        feed(&mut decoder, piece).expect("legal");
    }
    for byte in frame(FIN | PING, b"abc") {
        feed(&mut decoder, &[byte]).expect("legal");
    }
    assert_eq!(decoder.buffered_bytes(), 0);
}

#[test]
fn a_message_of_exactly_the_limit_is_returned() {
    let events = decode(&[frame(FIN | BINARY, &vec![0; LIMIT])]).expect("legal");
    assert_eq!(events.len(), 1);
}

#[test]
fn a_message_over_the_limit_is_refused_from_its_header() {
    for claimed in [LIMIT as u64 + 1, 1 << 30, 1 << 40, (1 << 63) - 1] {
        let mut decoder = Decoder::default();
        let header = frame_claiming(FIN | BINARY, claimed, b"");
        assert_eq!(
            feed(&mut decoder, &header),
            Err(DecodeError::MessageTooBig),
            "{claimed}"
        );
        assert_eq!(decoder.buffered_bytes(), 0);
    }
}

#[test]
fn fragments_over_the_limit_together_are_refused_from_the_header_that_exceeds_it() {
    let mut decoder = Decoder::default();
    feed(&mut decoder, &frame(BINARY, &vec![0; LIMIT])).expect("legal");
    feed(&mut decoder, &frame(CONTINUATION, b"")).expect("legal");
    let header = frame_claiming(FIN | CONTINUATION, 1, b"");
    assert_eq!(feed(&mut decoder, &header), Err(DecodeError::MessageTooBig));
}

#[test]
fn a_continuation_needs_a_message_to_continue() {
    assert_eq!(
        decode(&[frame(FIN | CONTINUATION, b"a")]),
        Err(DecodeError::UnexpectedContinuation)
    );
    let after_a_message = [frame(FIN | TEXT, b"a"), frame(FIN | CONTINUATION, b"b")];
    assert_eq!(
        decode(&after_a_message),
        Err(DecodeError::UnexpectedContinuation)
    );
    let after_fragments = [
        frame(TEXT, b"a"),
        frame(FIN | CONTINUATION, b"b"),
        frame(CONTINUATION, b"c"),
    ];
    assert_eq!(
        decode(&after_fragments),
        Err(DecodeError::UnexpectedContinuation)
    );
}

#[test]
fn a_message_must_not_begin_inside_another() {
    for second in [FIN | TEXT, BINARY] {
        assert_eq!(
            decode(&[frame(TEXT, b"a"), frame(second, b"b")]),
            Err(DecodeError::MessageInterrupted)
        );
    }
}

#[test]
fn each_header_is_checked_by_itself() {
    for (header, error) in [
        ([FIN | 0x40 | TEXT, 0x80], DecodeError::ReservedBits),
        ([FIN | 0x3, 0x80], DecodeError::ReservedOpcode),
        ([PING, 0x80], DecodeError::FragmentedControl),
        ([FIN | PING, 0xfe], DecodeError::ControlTooLong),
        ([FIN | TEXT, 0x05], DecodeError::Unmasked),
    ] {
        assert_eq!(decode(&[header.to_vec()]), Err(error));
    }
}

#[test]
fn bad_text_fails_at_the_invalid_byte_of_an_unfinished_frame() {
    let mut decoder = Decoder::default();
    let text = [&vec![b'x'; 70_000][..], b"\xf4\x90"].concat();
    let unfinished = frame_claiming(FIN | TEXT, 100_000, &text);
    let (good, bad) = unfinished.split_at(unfinished.len() - 1);
    assert_eq!(feed(&mut decoder, good), Ok(vec![]));
    assert_eq!(feed(&mut decoder, bad), Err(DecodeError::TextNotUtf8));
}

#[test]
fn bad_text_fails_across_fragments_before_the_last_one() {
    let frames = [frame(TEXT, b"\xed"), frame(CONTINUATION, b"\xa0")];
    assert_eq!(decode(&frames), Err(DecodeError::TextNotUtf8));
}

#[test]
fn a_text_must_not_end_inside_a_code_point() {
    assert_eq!(
        decode(&[frame(FIN | TEXT, b"\xe2\x82")]),
        Err(DecodeError::TextNotUtf8)
    );
    let fragments = [frame(TEXT, b"\xe2\x82"), frame(FIN | CONTINUATION, b"")];
    assert_eq!(decode(&fragments), Err(DecodeError::TextNotUtf8));
}

#[test]
fn a_code_point_may_be_split_over_fragments_with_a_ping_between() {
    let frames = [
        frame(TEXT, b"\xe2"),
        frame(FIN | PING, b""),
        frame(FIN | CONTINUATION, b"\x82\xac"),
    ];
    assert_eq!(decode(&frames).expect("legal"), ["ping ", "text €"]);
}

#[test]
fn binary_messages_may_hold_any_bytes() {
    assert_eq!(
        decode(&[frame(FIN | BINARY, b"\xff")]).expect("legal"),
        ["binary [255]"]
    );
}

#[test]
fn a_close_is_the_last_event_and_all_that_follows_is_dropped() {
    let mut decoder = Decoder::default();
    let frames = [
        frame(FIN | CLOSE, &[0x0b, 0xb8, b'x']),
        frame(FIN | TEXT, b"late"),
        vec![0xff; 9],
    ]
    .concat();
    assert_eq!(
        feed(&mut decoder, &frames).expect("legal"),
        ["close Some(3000)"]
    );
    assert_eq!(feed(&mut decoder, &frame(FIN | TEXT, b"later")), Ok(vec![]));
}

#[test]
fn a_close_inside_a_fragmented_message_discards_it() {
    let mut decoder = Decoder::default();
    let frames = [frame(TEXT, b"half"), frame(FIN | CLOSE, b"")].concat();
    assert_eq!(feed(&mut decoder, &frames).expect("legal"), ["close None"]);
    assert_eq!(decoder.buffered_bytes(), 0);
}

#[test]
fn a_close_may_have_no_body_a_code_or_a_code_and_a_reason() {
    for (body, event) in [
        (&b""[..], "close None"),
        (b"\x03\xe8", "close Some(1000)"),
        (b"\x03\xe9tsch\xc3\xbc\xc3\x9f", "close Some(1001)"),
    ] {
        assert_eq!(decode(&[frame(FIN | CLOSE, body)]).expect("legal"), [event]);
    }
}

#[test]
fn the_body_of_a_close_is_checked() {
    for (body, error) in [
        (&[0x03][..], DecodeError::CloseBodyTooShort),
        (&[0x03, 0xed], DecodeError::CloseCodeInvalid),
        (&[0x03, 0xe8, 0xc0], DecodeError::CloseReasonNotUtf8),
    ] {
        assert_eq!(decode(&[frame(FIN | CLOSE, body)]), Err(error));
    }
}

#[test]
fn after_an_error_there_are_no_more_events() {
    let mut decoder = Decoder::default();
    feed(&mut decoder, &frame(TEXT, b"held")).expect("legal");
    assert_eq!(
        feed(&mut decoder, &frame(FIN | TEXT, b"")),
        Err(DecodeError::MessageInterrupted)
    );
    assert_eq!(decoder.buffered_bytes(), 0);
    assert_eq!(
        feed(&mut decoder, &frame(FIN | TEXT, b"good")),
        Err(DecodeError::MessageInterrupted)
    );
    assert_eq!(
        decoder.decode_direct(0).expect_err("poisoned"),
        DecodeError::MessageInterrupted
    );
}

#[test]
fn every_error_has_a_reason_that_fits_a_close_frame() {
    for (error, code) in [
        (DecodeError::ReservedBits, 1002),
        (DecodeError::ReservedOpcode, 1002),
        (DecodeError::FragmentedControl, 1002),
        (DecodeError::ControlTooLong, 1002),
        (DecodeError::Unmasked, 1002),
        (DecodeError::LengthNotMinimal, 1002),
        (DecodeError::LengthHighBitSet, 1002),
        (DecodeError::UnexpectedContinuation, 1002),
        (DecodeError::MessageInterrupted, 1002),
        (DecodeError::MessageTooBig, 1009),
        (DecodeError::TextNotUtf8, 1007),
        (DecodeError::CloseBodyTooShort, 1002),
        (DecodeError::CloseCodeInvalid, 1002),
        (DecodeError::CloseReasonNotUtf8, 1007),
    ] {
        assert_eq!(error.close_code().value(), code, "{error:?}");
        assert!((1..=123).contains(&error.reason().len()), "{error:?}");
    }
}

/// Reads the rest of a frame as a connection does: directly if the decoder offers a buffer.
fn read_rest(decoder: &mut Decoder, mut rest: &[u8]) -> Result<(Vec<String>, usize), DecodeError> {
    let (mut events, mut direct_reads) = (Vec::new(), 0);
    while !rest.is_empty() {
        if let Some(buffer) = decoder.direct_buffer() {
            let count = buffer.len().min(rest.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            direct_reads += 1;
            events.extend(decoder.decode_direct(count)?.as_ref().map(describe));
        } else {
            let count = rest.len().min(64 << 10);
            events.extend(feed(decoder, &rest[..count])?);
            rest = &rest[count..];
        }
    }
    Ok((events, direct_reads))
}

#[test]
fn a_large_payload_is_read_into_its_own_buffer_but_not_the_next_frame() {
    let payload: Vec<u8> = (0..700_001u32).map(|at| at as u8).collect();
    let frames = [frame(FIN | BINARY, &payload), frame(FIN | TEXT, b"next")].concat();
    let (events, direct_reads) = read_rest(&mut Decoder::default(), &frames).expect("legal");
    assert_eq!(events, [format!("binary {payload:?}"), "text next".into()]);
    assert!((5..=7).contains(&direct_reads), "{direct_reads}");
}

#[test]
fn a_large_message_in_large_fragments_may_be_read_directly_too() {
    let half = vec![b'h'; 300_000];
    let frames = [
        frame(TEXT, &half),
        frame(FIN | PING, b"mid"),
        frame(FIN | CONTINUATION, &half),
    ]
    .concat();
    let (events, direct_reads) = read_rest(&mut Decoder::default(), &frames).expect("legal");
    assert_eq!(
        events,
        [
            "ping mid".to_owned(),
            format!("text {}", "h".repeat(600_000))
        ]
    );
    assert!(direct_reads > 2, "{direct_reads}");
}

#[test]
fn bad_text_read_directly_fails_at_once() {
    let text = [&vec![b'x'; 200_000][..], b"\xff", &vec![b'x'; 300_000]].concat();
    let unfinished = frame_claiming(FIN | TEXT, 1_000_000, &text);
    let mut decoder = Decoder::default();
    assert_eq!(
        read_rest(&mut decoder, &unfinished).map(|_| ()),
        Err(DecodeError::TextNotUtf8)
    );
    assert!(decoder.direct_buffer().is_none());
}

#[test]
fn a_direct_buffer_offers_no_more_than_was_received() {
    let mut decoder = Decoder::default();
    feed(
        &mut decoder,
        &frame_claiming(FIN | BINARY, LIMIT as u64, &vec![0; 50_000]),
    )
    .expect("legal");
    assert_eq!(
        decoder.direct_buffer().map(|buffer| buffer.len()),
        Some(50_000)
    );
    assert_eq!(
        decoder.direct_buffer().map(|buffer| buffer.len()),
        Some(50_000),
        "asking costs nothing"
    );
}

#[test]
fn a_direct_buffer_is_bounded_however_much_was_received() {
    let mut decoder = Decoder::default();
    let frame = frame_claiming(FIN | BINARY, LIMIT as u64, &vec![0; 500_000]);
    feed(&mut decoder, &frame).expect("legal");
    assert_eq!(
        decoder.direct_buffer().map(|buffer| buffer.len()),
        Some(128 << 10)
    );
}

#[test]
fn a_message_in_one_frame_ends_in_a_buffer_of_its_size() {
    let frame = frame(FIN | BINARY, &vec![0; 100_001]);
    let mut decoder = Decoder::default();
    feed(&mut decoder, &frame[..40_000]).expect("legal");
    feed(&mut decoder, &frame[40_000..80_000]).expect("legal");
    let mut tail = frame[80_000..].to_vec();
    let event = decoder
        .decode(&mut &mut tail[..], LIMIT)
        .expect("legal")
        .expect("complete");
    let Event::Message(Message {
        payload: Payload::Assembled(assembled),
        ..
    }) = event
    else {
        panic!("{event:?}")
    };
    assert_eq!(assembled.capacity(), HEADROOM + 100_001);
}

#[test]
fn small_or_nearly_complete_payloads_have_no_direct_buffer() {
    for (claimed, received) in [(100_000, 1_000), (100_000, 99_000), (60_000, 30_000)] {
        let mut decoder = Decoder::default();
        feed(
            &mut decoder,
            &frame_claiming(FIN | BINARY, claimed, &vec![0; received]),
        )
        .expect("legal");
        assert!(decoder.direct_buffer().is_none(), "{received} of {claimed}");
    }
}

#[test]
#[should_panic(expected = "read into")]
fn claiming_to_have_read_more_than_was_offered_panics() {
    Decoder::default().decode_direct(1).expect("unreachable");
}

#[test]
fn each_short_frame_inside_a_message_gives_the_caller_a_chance_to_stop() {
    let mut bytes = [
        frame(TEXT, b"a"),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, b"b"),
        frame(CONTINUATION, &[b'c'; 64]),
        frame(FIN | CONTINUATION, b"d"),
    ]
    .concat();
    let mut decoder = Decoder::default();
    let mut input = &mut bytes[..];
    let mut events = Vec::new();
    while let Some(event) = decoder.decode(&mut input, LIMIT).expect("legal") {
        events.push((describe(&event), input.len()));
    }
    let text = format!("text ab{}d", "c".repeat(64));
    assert_eq!(
        events,
        [
            ("fragment, empty: true".into(), 7 + 70 + 7),
            ("fragment, empty: false".into(), 1 + 70 + 7),
            (text, 0),
        ]
    );
}
