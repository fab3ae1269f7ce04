//! Any bytes as a batch from the engine: [`fanwire::internals::cluster::read`].
//!
//! A second reader, with tungstenite's for the frames, must come to the same verdict. An accepted batch packs to the same bytes.

use std::io::Cursor;

use bytes::Bytes;
use fanwire::internals::cluster::{MAX_NUMBER, OLDEST_VERSION, VERSION, pack, read, stamp};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// See the module.
pub fn run(bytes: &[u8]) {
    let found = read(Bytes::copy_from_slice(bytes));
    assert_eq!(found.is_ok(), is_batch(bytes).is_some(), "{found:?}");
    if let Ok(arrival) = found {
        let packed = pack(&arrival.head, std::iter::once(&arrival.frames[..]));
        assert_eq!(stamp(arrival.first, arrival.ms, &packed), bytes);
        assert_eq!(
            arrival.last() + 1 - arrival.first,
            u64::from(arrival.head.count)
        );
    }
}

/// `Some` if this is a batch.
fn is_batch(bytes: &[u8]) -> Option<()> {
    let number = |at: usize, len: usize| -> Option<u64> {
        let field = bytes.get(at..at + len)?;
        Some(
            field
                .iter()
                .fold(0, |number, &byte| number << 8 | u64::from(byte)),
        )
    };
    let (first, version, flags) = (number(0, 8)?, number(16, 1)?, number(17, 3)?);
    let (count, epoch, length) = (number(20, 4)?, number(40, 8)?, number(48, 4)?);
    let frames = &bytes[52..];
    let versions = u64::from(OLDEST_VERSION)..=u64::from(VERSION);
    let is_fine = versions.contains(&version)
        && flags == 0
        && count > 0
        && first > 0
        && first < MAX_NUMBER - count
        && epoch > 0
        && epoch < MAX_NUMBER
        && length == frames.len() as u64;
    is_fine.then_some(())?;
    (count_frames(frames)? == count).then_some(())
}

/// The number of frames, if all are whole, unmasked messages, and none is a text that begins with U+0000.
fn count_frames(mut bytes: &[u8]) -> Option<u64> {
    let mut count = 0;
    while !bytes.is_empty() {
        let mut cursor = Cursor::new(bytes);
        let (header, len) = FrameHeader::parse(&mut cursor).ok()??;
        let head = usize::try_from(cursor.position()).ok()?;
        let len = usize::try_from(len).ok()?;
        let payload = bytes.get(head..head.checked_add(len)?)?;
        let is_minimal = fanwire::internals::ws::frame_len(len) == head + len;
        let is_text = header.opcode == OpCode::Data(Data::Text);
        let is_message = is_text || header.opcode == OpCode::Data(Data::Binary);
        let is_plain = header.is_final
            && header.mask.is_none()
            && !(header.rsv1 || header.rsv2 || header.rsv3);
        let is_reserved = is_text && payload.first() == Some(&0);
        (is_message && is_plain && is_minimal && !is_reserved).then_some(())?;
        bytes = &bytes[head + len..];
        count += 1;
    }
    Some(count)
}
