//! Any bytes, in any pieces, through the reader of what an engine says: [`Replies`].
//!
//! It checks:
//!
//! - The replies, and the error behind them, do not depend on how the bytes are cut.
//! - They are those that a second reader of RESP2, written here, finds.
//! - No more than the received bytes is kept.
//!
//! The input is four sizes of reads, and the bytes of the engine.

use bytes::Bytes;
use fanwire::internals::cluster::{NotRespError, Replies, Reply};

use super::input::{self, Input};

/// The longest reply.
const MAX_BYTES: usize = 4096;

/// The limits of the relay's reader: the longest line, and the deepest arrays.
const MAX_LINE: usize = 4096;
const MAX_DEPTH: usize = 4;

/// See the module.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let reads = input.reads();
    let bytes = input.rest();
    let whole = read(std::iter::once(bytes));
    let cut = read(input::pieces(bytes, reads));
    assert_eq!(cut, whole, "how replies are cut changes nothing");
    let (replies, error) = whole;
    let (expected, ending) = expected(bytes);
    match ending {
        // Which of several faults is named first is the reader's own affair.
        Ending::Wrong => assert!(
            error.is_some(),
            "accepted: {:?}",
            &bytes[..bytes.len().min(80)]
        ),
        Ending::Waits => assert_eq!(error, None),
        // It may be refused before it is complete.
        Ending::WaitsTooLong => {}
    }
    assert_eq!(replies, expected);
}

/// All replies, and the error that ended them.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Reply>, Option<NotRespError>) {
    let (mut replies, mut found) = (Replies::new(MAX_BYTES), Vec::new());
    let mut received = 0;
    for piece in pieces {
        replies.push(piece);
        received += piece.len();
        loop {
            match replies.take() {
                Ok(Some(reply)) => found.push(reply),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(replies.len() <= received, "kept more than came");
    }
    (found, None)
}

/// How the bytes end, behind the last whole reply.
enum Ending {
    /// In a reply that may still become whole.
    Waits,
    /// The same, but it is or announces to be long.
    WaitsTooLong,
    /// In something that is wrong.
    Wrong,
}

/// A reply that was not read.
enum Failure {
    Incomplete,
    Wrong,
}

fn expected(mut bytes: &[u8]) -> (Vec<Reply>, Ending) {
    let mut replies = Vec::new();
    loop {
        let before = bytes;
        match value(&mut bytes, 0) {
            Ok(_) if before.len() - bytes.len() > MAX_BYTES => return (replies, Ending::Wrong),
            Ok(reply) => replies.push(reply),
            Err(Failure::Incomplete) if before.is_empty() => return (replies, Ending::Waits),
            Err(Failure::Incomplete) => return (replies, Ending::WaitsTooLong),
            Err(Failure::Wrong) => return (replies, Ending::Wrong),
        }
    }
}

fn value(bytes: &mut &[u8], depth: usize) -> Result<Reply, Failure> {
    let (&kind, _) = bytes.split_first().ok_or(Failure::Incomplete)?;
    if !b"+-:$*".contains(&kind) {
        return Err(Failure::Wrong);
    }
    let end = bytes.windows(2).position(|pair| pair == b"\r\n");
    let end = end.ok_or(Failure::Incomplete)?;
    if end + 2 > MAX_LINE {
        return Err(Failure::Wrong);
    }
    let line = &bytes[1..end];
    *bytes = &bytes[end + 2..];
    let number = || -> Result<i64, Failure> {
        let text = std::str::from_utf8(line).map_err(|_| Failure::Wrong)?;
        text.parse().map_err(|_| Failure::Wrong)
    };
    match kind {
        b'+' => Ok(Reply::Status(Bytes::copy_from_slice(line))),
        b'-' => {
            let text = std::str::from_utf8(line).map_err(|_| Failure::Wrong)?;
            Ok(Reply::Error(text.into()))
        }
        b':' => Ok(Reply::Integer(number()?)),
        _ if line == b"-1" => Ok(Reply::Nil),
        b'$' => bulk(
            bytes,
            usize::try_from(number()?).map_err(|_| Failure::Wrong)?,
        ),
        _ => array(
            bytes,
            usize::try_from(number()?).map_err(|_| Failure::Wrong)?,
            depth,
        ),
    }
}

fn bulk(bytes: &mut &[u8], len: usize) -> Result<Reply, Failure> {
    if len > MAX_BYTES {
        return Err(Failure::Wrong);
    }
    if bytes.len() < len + 2 {
        return Err(Failure::Incomplete);
    }
    let (text, rest) = bytes.split_at(len);
    let rest = rest.strip_prefix(b"\r\n").ok_or(Failure::Wrong)?;
    *bytes = rest;
    Ok(Reply::Bulk(Bytes::copy_from_slice(text)))
}

fn array(bytes: &mut &[u8], items: usize, depth: usize) -> Result<Reply, Failure> {
    if items > MAX_BYTES || depth == MAX_DEPTH && items > 0 {
        return Err(Failure::Wrong);
    }
    let mut found = Vec::new();
    for _ in 0..items {
        found.push(value(bytes, depth + 1)?);
    }
    Ok(Reply::Array(found))
}
