//! Any bytes, in any pieces, through [`Reader`], [`Framing`] and the limits of a body, as the relay's port takes in requests
//! that publish.
//!
//! It checks:
//!
//! - The requests and bodies do not depend on how the bytes are cut.
//! - A second reader of the same bytes, which sees all of them at once, finds the same requests, bodies and faults.
//! - No byte of a body is part of a request, and the other way round.
//! - A connection holds no more than a head or a body.
//!
//! The input is the limit on bodies, four sizes of reads, and the bytes of the client.

use fanwire::internals::http::{
    BodyError, Framing, HeadScanner, MAX_HEADERS, Reader, RequestError, RequestHead,
};

use super::head::{self, Head, Reading};
use super::input::{self, Input};

/// The longest head.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// An item of a connection.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Request { head: Vec<u8>, body: Vec<u8> },
    BadHead,
    BadBody(BodyError),
}

/// See the module.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let max_bytes = usize::from(input.byte());
    let reads = input.reads();
    let bytes = input.rest();

    let whole = take_in(std::iter::once(bytes), max_bytes);
    let cut = take_in(input::pieces(bytes, reads), max_bytes);
    assert_eq!(cut, whole, "how requests are cut changes nothing");
    let expected = expected(bytes, max_bytes);
    assert!(whole.starts_with(&expected), "{whole:?}, not {expected:?}");
    match &whole[expected.len()..] {
        // We may refuse what the second reader would wait for.
        [] | [Item::BadHead | Item::BadBody(_)] => {}
        _ => panic!("{whole:?}, not {expected:?}"),
    }
}

/// Reads a connection, as the relay does.
fn take_in<'a>(pieces: impl Iterator<Item = &'a [u8]>, max_bytes: usize) -> Vec<Item> {
    let (mut reader, mut items) = (Reader::default(), Vec::new());
    let mut open: Option<Vec<u8>> = None;
    for piece in pieces {
        let mut rest = piece;
        loop {
            let before = rest.len();
            let item = match open.take() {
                None => match read_head(&mut reader, &mut rest, max_bytes) {
                    Ok(head) => {
                        open = head;
                        None
                    }
                    Err(item) => Some(item),
                },
                Some(head) => match reader.body(&mut rest) {
                    Ok(Some(body)) => Some(Item::Request { head, body }),
                    Ok(None) => {
                        open = Some(head);
                        None
                    }
                    Err(error) => Some(Item::BadBody(error)),
                },
            };
            let is_last = matches!(item, Some(Item::BadHead | Item::BadBody(_)));
            items.extend(item);
            if is_last {
                return items;
            }
            if rest.is_empty() && (open.is_none() || before == 0) {
                break;
            }
        }
        let held = reader.memory_bytes();
        let most = 2 * MAX_HEAD_BYTES.max(max_bytes) + 256;
        assert!(held <= most, "{held} bytes are held");
    }
    items
}

fn read_head(
    reader: &mut Reader,
    rest: &mut &[u8],
    max_bytes: usize,
) -> Result<Option<Vec<u8>>, Item> {
    let head = reader.head(rest, MAX_HEAD_BYTES);
    let Some(head) = head.map_err(|_: RequestError| Item::BadHead)? else {
        return Ok(None);
    };
    let parsed = RequestHead::parse(&head).map_err(|_| Item::BadHead)?;
    let framing = Framing::of(&parsed).map_err(Item::BadBody)?;
    reader
        .expect_body(framing, max_bytes)
        .map_err(Item::BadBody)?;
    Ok(Some(head.into_owned()))
}

/// The whole requests in front of `bytes`, and the fault behind them if there is one, as a second reader finds them.
fn expected(mut bytes: &[u8], max_bytes: usize) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        let Reading::Head(head) = head::read(bytes) else {
            return items;
        };
        let is_long = HeadScanner::default().push(bytes, MAX_HEAD_BYTES).is_err();
        if is_long || head.fields.len() > MAX_HEADERS {
            return items;
        }
        let (whole, behind) = bytes.split_at(head.len);
        match body(&head, behind, max_bytes) {
            Err(error) => {
                items.push(Item::BadBody(error));
                return items;
            }
            Ok(None) => return items,
            Ok(Some((body, rest))) => {
                items.push(Item::Request {
                    head: whole.to_vec(),
                    body,
                });
                bytes = rest;
            }
        }
    }
}

/// A body, and the bytes behind it; `None` if it is not whole.
type Body<'a> = Option<(Vec<u8>, &'a [u8])>;

/// RFC 9112, section 6.3.
fn body<'a>(head: &Head<'_>, behind: &'a [u8], max_bytes: usize) -> Result<Body<'a>, BodyError> {
    let lengths = head.values("content-length");
    if !head.values("transfer-encoding").is_empty() {
        let codings = head.members("transfer-encoding");
        let (last, others) = codings.split_last().expect("there is one");
        let is_clear = lengths.is_empty() && head.minor == 1;
        if !is_clear || last != "chunked" || others.iter().any(|other| other == "chunked") {
            return Err(BodyError::Length);
        }
        if !others.is_empty() {
            return Err(BodyError::Coding);
        }
        return chunks(behind, max_bytes);
    }
    let length = match lengths[..] {
        [] => 0,
        [digits] if !digits.is_empty() && digits.len() < 20 => {
            let text = std::str::from_utf8(digits).map_err(|_| BodyError::Length)?;
            if !text.chars().all(|digit| digit.is_ascii_digit()) {
                return Err(BodyError::Length);
            }
            text.parse::<u64>().map_err(|_| BodyError::Length)?
        }
        _ => return Err(BodyError::Length),
    };
    if length > max_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    let length = length as usize;
    Ok(behind
        .split_at_checked(length)
        .map(|(body, rest)| (body.to_vec(), rest)))
}

/// Section 7.1, with the limits of the relay. Reads line by line.
fn chunks(mut rest: &[u8], max_bytes: usize) -> Result<Body<'_>, BodyError> {
    let mut content = Vec::new();
    loop {
        let Some(end) = head::find(rest, b"\r\n") else {
            return Ok(None);
        };
        let line = &rest[..end];
        rest = &rest[end + 2..];
        let size = size(line).ok_or(BodyError::Chunk)?;
        if size > (max_bytes - content.len()) as u64 {
            return Err(BodyError::TooLarge);
        }
        if size == 0 {
            break;
        }
        let size = size as usize;
        let Some((chunk, behind)) = rest.split_at_checked(size) else {
            return Ok(None);
        };
        content.extend_from_slice(chunk);
        match behind {
            [b'\r', b'\n', behind @ ..] => rest = behind,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(BodyError::Chunk),
        }
    }
    loop {
        let Some(end) = head::find(rest, b"\r\n") else {
            return Ok(None);
        };
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if line.is_empty() {
            return Ok(Some((content, rest)));
        }
        if !is_text(line) {
            return Err(BodyError::Chunk);
        }
    }
}

fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (digits, extension) = line.split_at(digits.count());
    let blanks = extension
        .iter()
        .take_while(|&&byte| byte == b' ' || byte == b'\t');
    let is_extension = extension.is_empty() || extension.get(blanks.count()) == Some(&b';');
    let is_short = line.len() <= 256 && digits.len() <= 16;
    if digits.is_empty() || !is_short || !is_extension || !is_text(extension) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f)
}
