//! The requests on one connection: bytes in, heads and bodies out, one at a time and in order.
//!
//! The metrics port and the relay's port both read with a [`Reader`]. It takes from the front of the bytes that it is given, and
//! never more than the request at hand: what lies behind is the next request, or frames behind an upgrade. It keeps at most one
//! head or one body.

use std::borrow::Cow;

use super::body::{BodyError, BodyReader, Framing};
use super::request::{HeadScanner, RequestError};

/// See the module.
#[derive(Debug)]
pub struct Reader {
    state: State,
}

#[derive(Debug)]
enum State {
    Head {
        scanner: HeadScanner,
        /// The part that earlier calls brought.
        part: Vec<u8>,
    },
    Body(Box<BodyReader>),
}

impl Default for Reader {
    fn default() -> Self {
        Reader {
            state: State::Head {
                scanner: HeadScanner::default(),
                part: Vec::new(),
            },
        }
    }
}

impl Reader {
    /// Takes the rest of a head off the front of `input`, and returns the head once it is whole. Until then, all of `input` is
    /// taken. A head that comes at once is not copied.
    ///
    /// Behind a head comes the next one, unless [`Reader::expect_body`] is called.
    ///
    /// # Errors
    /// The head is invalid, or longer than `max_head_bytes`. Nothing can be read after it.
    pub fn head<'a>(
        &mut self,
        input: &mut &'a [u8],
        max_head_bytes: usize,
    ) -> Result<Option<Cow<'a, [u8]>>, RequestError> {
        let State::Head { scanner, part } = &mut self.state else {
            unreachable!("a body is read to its end");
        };
        let whole = *input;
        let Some(end) = scanner.push(whole, max_head_bytes)? else {
            part.extend_from_slice(whole);
            *input = &[];
            return Ok(None);
        };
        let (last, rest) = whole.split_at(end);
        *input = rest;
        let mut part = std::mem::take(part);
        *self = Reader::default();
        Ok(Some(if part.is_empty() {
            Cow::Borrowed(last)
        } else {
            part.extend_from_slice(last);
            Cow::Owned(part)
        }))
    }

    /// A body follows the head that was returned last.
    ///
    /// # Errors
    /// Its announced length is over the limit.
    pub fn expect_body(&mut self, framing: Framing, max_bytes: usize) -> Result<(), BodyError> {
        self.state = State::Body(Box::new(BodyReader::new(framing, max_bytes)?));
        Ok(())
    }

    /// Takes the rest of the body off the front of `input`, and returns its content once it is whole. The next head follows.
    ///
    /// # Errors
    /// The body is invalid or over the limit. Nothing can be read after it.
    pub fn body(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, BodyError> {
        let State::Body(reader) = &mut self.state else {
            unreachable!("the head has announced it");
        };
        if !reader.push(input)? {
            return Ok(None);
        }
        let State::Body(reader) = std::mem::take(self).state else {
            unreachable!("it was just seen");
        };
        Ok(Some(reader.into_content()))
    }

    /// Whether a body is being read, of which something has come.
    pub fn has_begun_body(&self) -> bool {
        matches!(&self.state, State::Body(reader) if reader.has_begun())
    }

    /// Whether it has nothing of a request.
    pub fn is_empty(&self) -> bool {
        match &self.state {
            State::Head { part, .. } => part.is_empty(),
            State::Body(_) => false,
        }
    }

    /// The part of the present head that has come.
    pub fn part_of_head(&self) -> &[u8] {
        match &self.state {
            State::Head { part, .. } => part,
            State::Body(_) => &[],
        }
    }

    /// Memory of what it holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        match &self.state {
            State::Head { part, .. } => part.capacity(),
            State::Body(reader) => size_of::<BodyReader>() + reader.memory_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n";

    /// The heads and bodies that a reader finds in two requests that come in pieces of this size.
    fn read(piece: usize) -> Vec<Vec<u8>> {
        let bytes = [HEAD, b"abc", HEAD, b"def", b"GET"].concat();
        let (mut reader, mut found, mut rest) = (Reader::default(), Vec::new(), &bytes[..]);
        let mut is_in_body = false;
        while !rest.is_empty() {
            let (mut input, after) = rest.split_at(piece.min(rest.len()));
            rest = after;
            while !input.is_empty() {
                if is_in_body {
                    let Some(body) = reader.body(&mut input).unwrap() else {
                        continue;
                    };
                    found.push(body);
                    is_in_body = false;
                } else if let Some(head) = reader.head(&mut input, 1000).unwrap() {
                    found.push(head.into_owned());
                    reader.expect_body(Framing::Length(3), 10).unwrap();
                    is_in_body = true;
                }
            }
        }
        assert_eq!(reader.part_of_head().len(), 3);
        found
    }

    #[test]
    fn requests_and_bodies_come_in_order_however_they_arrive() {
        let expected = [HEAD, b"abc", HEAD, b"def"];
        for piece in [1, 2, 5, 41, 1000] {
            assert_eq!(read(piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_reader_is_empty_between_two_requests() {
        let mut reader = Reader::default();
        assert!(reader.is_empty());
        assert!(reader.head(&mut &HEAD[..4], 100).unwrap().is_none());
        assert!(!reader.is_empty() && reader.memory_bytes() >= 4);
        assert!(reader.head(&mut &HEAD[4..], 100).unwrap().is_some());
        assert!(reader.is_empty());
        reader.expect_body(Framing::Length(3), 3).unwrap();
        assert!(!reader.is_empty() && !reader.has_begun_body());
        assert!(reader.body(&mut &b"a"[..]).unwrap().is_none());
        assert!(reader.has_begun_body());
    }
}
