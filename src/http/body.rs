//! The body of a request (RFC 9112, sections 6 and 7): its framing, and its bytes without the framing.
//!
//! [`Framing::of`] reads the head. A [`BodyReader`] then takes the bytes behind it, in whatever pieces they come, and says
//! where the body ends. It keeps the content and nothing else.
//!
//! Requests are smuggled past a proxy with bodies that end elsewhere for it than for us. So a head with two framings, two
//! lengths, or a length that is not digits alone is refused, and chunks must be spelled exactly as the grammar says.
//!
//! The content is limited while it is read, or at once if its length is announced.

use super::request::{RequestHead, Version};

/// The longest line with the size of a chunk, in bytes. A size has few digits; the rest is extensions, which nobody needs.
const MAX_SIZE_LINE_BYTES: usize = 256;

/// The most bytes of extensions in one body. Without this, each chunk of one byte could bring a whole line of them.
const MAX_EXTENSION_BYTES: usize = 4 << 10;

/// The most bytes of trailers. They are read and ignored.
const MAX_TRAILER_BYTES: usize = 4 << 10;

/// The most digits of a chunk's size, with leading zeros.
const MAX_SIZE_DIGITS: u8 = 16;

/// The most digits of `Content-Length`. A length with more would not fit.
const MAX_LENGTH_DIGITS: usize = 19;

/// The reason for which a body is refused. Apart from the limit, it is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The head says in two ways how long the body is, or in none that is valid.
    Length,
    /// The body has a transfer coding other than chunked.
    Coding,
    /// A chunk or the trailers are not spelled as they must be.
    Chunk,
    /// The content is over the limit.
    TooLarge,
}

/// The end of a body, as the head of the request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes. A request that announces no body has none.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
}

impl Framing {
    /// The framing that a head announces (RFC 9112, section 6.3).
    ///
    /// # Errors
    /// The head announces a length and a transfer coding, several lengths, or something that is neither.
    pub fn of(head: &RequestHead<'_>) -> Result<Framing, BodyError> {
        let mut lengths = head.values("content-length");
        let (length, second) = (lengths.next(), lengths.next());
        let mut codings = head.values("transfer-encoding").peekable();
        if codings.peek().is_none() {
            return match (length, second) {
                (None, _) => Ok(Framing::Length(0)),
                (Some(length), None) => parse_length(length).map(Framing::Length),
                (Some(_), Some(_)) => Err(BodyError::Length),
            };
        }
        // HTTP/1.0 has no transfer codings, so whoever sends one has garbled the message (section 6.1).
        if length.is_some() || head.version == Version::Http10 {
            return Err(BodyError::Length);
        }
        let names = codings.flat_map(|value| value.split(|&byte| byte == b','));
        let names: Vec<&[u8]> = names.map(<[u8]>::trim_ascii).collect();
        let is_chunked = |name: &&[u8]| name.eq_ignore_ascii_case(b"chunked");
        match &names[..] {
            [only] if is_chunked(only) => Ok(Framing::Chunked),
            [others @ .., last] if is_chunked(last) && !others.iter().any(is_chunked) => {
                Err(BodyError::Coding)
            }
            // The end of the body cannot be told.
            _ => Err(BodyError::Length),
        }
    }

    /// Whether nothing follows the head.
    pub fn is_empty(self) -> bool {
        self == Framing::Length(0)
    }
}

fn parse_length(value: &[u8]) -> Result<u64, BodyError> {
    let is_number = !value.is_empty()
        && value.len() <= MAX_LENGTH_DIGITS
        && value.iter().all(u8::is_ascii_digit);
    if !is_number {
        return Err(BodyError::Length);
    }
    let digits = value.iter();
    Ok(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The place in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many bytes of content follow, and nothing else.
    Plain(u64),
    /// In the digits of a chunk's size, of which so many were read.
    Size(u64, u8),
    /// Behind the size, in blanks before an extension.
    Blank(u64),
    /// In the extensions of a chunk.
    Extension(u64),
    /// Behind the CR of the line with the size.
    SizeCr(u64),
    /// In a chunk, of which so many bytes follow.
    Content(u64),
    /// Behind a chunk.
    ContentEnd,
    /// Behind a chunk and its CR.
    ContentCr,
    /// At the beginning of a trailer's line, or of the last, empty one.
    TrailerStart,
    /// In a trailer.
    Trailer,
    /// Behind the CR of a trailer.
    TrailerCr,
    /// Behind the CR of the last line.
    LastCr,
    /// Behind the body.
    End,
}

/// See the module.
#[derive(Debug)]
pub struct BodyReader {
    place: Place,
    max_bytes: usize,
    content: Vec<u8>,
    /// Bytes of the present line with a size.
    line_bytes: usize,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl BodyReader {
    /// Reads a body of at most `max_bytes` of content.
    ///
    /// # Errors
    /// The announced length is over the limit.
    pub fn new(framing: Framing, max_bytes: usize) -> Result<BodyReader, BodyError> {
        let place = match framing {
            Framing::Length(length) if length > max_bytes as u64 => {
                return Err(BodyError::TooLarge);
            }
            Framing::Length(0) => Place::End,
            Framing::Length(length) => Place::Plain(length),
            Framing::Chunked => Place::Size(0, 0),
        };
        Ok(BodyReader {
            place,
            max_bytes,
            content: Vec::new(),
            line_bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
        })
    }

    /// Takes the bytes of the body off the front of `input`. Says whether the body has ended; if not, all of `input` is taken.
    ///
    /// # Errors
    /// The body is invalid or over the limit. Nothing can be read after it.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<bool, BodyError> {
        while self.place != Place::End {
            match self.place {
                Place::Plain(left) => {
                    let left = self.take_content(left, input);
                    self.place = match left {
                        0 => Place::End,
                        left => Place::Plain(left),
                    };
                }
                Place::Content(left) => {
                    let left = self.take_content(left, input);
                    self.place = match left {
                        0 => Place::ContentEnd,
                        left => Place::Content(left),
                    };
                }
                _ => {
                    let Some((&byte, rest)) = input.split_first() else {
                        return Ok(false);
                    };
                    *input = rest;
                    self.place = self.step(byte)?;
                }
            }
            if input.is_empty() {
                break;
            }
        }
        Ok(self.place == Place::End)
    }

    /// The content so far.
    pub fn into_content(self) -> Vec<u8> {
        self.content
    }

    /// Memory that the content takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.content.capacity()
    }

    /// Whether something of the body has come.
    pub fn has_begun(&self) -> bool {
        !self.content.is_empty() || self.line_bytes > 0
    }

    /// Takes content. Returns how much of it is left to come.
    fn take_content(&mut self, left: u64, input: &mut &[u8]) -> u64 {
        let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (content, rest) = input.split_at(count);
        self.content.extend_from_slice(content);
        *input = rest;
        left - count as u64
    }

    /// Takes one byte of the framing of chunks (section 7.1).
    fn step(&mut self, byte: u8) -> Result<Place, BodyError> {
        let place = match (self.place, byte) {
            (Place::Size(size, digits), byte) if byte.is_ascii_hexdigit() => {
                self.in_size_line()?;
                if digits == MAX_SIZE_DIGITS {
                    return Err(BodyError::Chunk);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Place::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Place::Size(size, 1..) | Place::Blank(size), b' ' | b'\t') => {
                self.in_extension()?;
                Place::Blank(size)
            }
            (Place::Size(size, 1..) | Place::Blank(size), b';') => {
                self.in_extension()?;
                Place::Extension(size)
            }
            (Place::Size(size, 1..) | Place::Extension(size), b'\r') => Place::SizeCr(size),
            (Place::Extension(size), byte) if is_text(byte) => {
                self.in_extension()?;
                Place::Extension(size)
            }
            (Place::SizeCr(size), b'\n') => self.begin_chunk(size)?,
            (Place::ContentEnd, b'\r') => Place::ContentCr,
            (Place::ContentCr, b'\n') => Place::Size(0, 0),
            (Place::TrailerStart, b'\r') => Place::LastCr,
            (Place::TrailerStart | Place::Trailer, byte) if is_text(byte) => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > MAX_TRAILER_BYTES {
                    return Err(BodyError::Chunk);
                }
                Place::Trailer
            }
            (Place::Trailer, b'\r') => Place::TrailerCr,
            (Place::TrailerCr, b'\n') => Place::TrailerStart,
            (Place::LastCr, b'\n') => Place::End,
            _ => return Err(BodyError::Chunk),
        };
        Ok(place)
    }

    fn in_size_line(&mut self) -> Result<(), BodyError> {
        self.line_bytes += 1;
        if self.line_bytes > MAX_SIZE_LINE_BYTES {
            return Err(BodyError::Chunk);
        }
        Ok(())
    }

    fn in_extension(&mut self) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            return Err(BodyError::Chunk);
        }
        self.in_size_line()
    }

    fn begin_chunk(&mut self, size: u64) -> Result<Place, BodyError> {
        self.line_bytes = 0;
        if size > (self.max_bytes - self.content.len()) as u64 {
            return Err(BodyError::TooLarge);
        }
        Ok(match size {
            0 => Place::TrailerStart,
            size => Place::Content(size),
        })
    }
}

/// Whether an extension or a trailer may have this byte.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(version: &str, fields: &str) -> Result<Framing, BodyError> {
        let head = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        Framing::of(&RequestHead::parse(head.as_bytes()).unwrap())
    }

    /// The content of a body, and the bytes behind it; `None` if it has not ended.
    type Read = Result<Option<(Vec<u8>, Vec<u8>)>, BodyError>;

    /// The content of a chunked body of at most `max_bytes`, however it arrives.
    fn chunked(bytes: &[u8], max_bytes: usize) -> Read {
        let whole = read(bytes, max_bytes, bytes.len());
        for piece in [1, 2, 3, 7] {
            assert_eq!(read(bytes, max_bytes, piece), whole, "in pieces of {piece}");
        }
        whole
    }

    fn read(bytes: &[u8], max_bytes: usize, piece: usize) -> Read {
        let mut reader = BodyReader::new(Framing::Chunked, max_bytes)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (mut input, after) = rest.split_at(piece.min(rest.len()));
            if reader.push(&mut input)? {
                let behind = [input, after].concat();
                return Ok(Some((reader.into_content(), behind)));
            }
            assert!(input.is_empty());
            rest = after;
        }
        Ok(None)
    }

    #[test]
    fn a_length_is_one_number_and_nothing_else() {
        assert_eq!(framing("1.1", ""), Ok(Framing::Length(0)));
        assert_eq!(
            framing("1.1", "Content-Length: 0042\r\n"),
            Ok(Framing::Length(42))
        );
        for fields in [
            "Content-Length:\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5.0\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
        ] {
            assert_eq!(framing("1.1", fields), Err(BodyError::Length), "{fields}");
        }
    }

    #[test]
    fn a_length_beside_a_coding_is_refused_and_so_is_a_body_without_an_end() {
        let chunked = "Transfer-Encoding: Chunked\r\n";
        assert_eq!(framing("1.1", chunked), Ok(Framing::Chunked));
        for fields in [
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked;q=1\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert_eq!(framing("1.1", fields), Err(BodyError::Length), "{fields}");
        }
        assert_eq!(framing("1.0", chunked), Err(BodyError::Length));
        assert_eq!(
            framing("1.1", "Transfer-Encoding: gzip, chunked\r\n"),
            Err(BodyError::Coding)
        );
    }

    #[test]
    fn an_announced_length_over_the_limit_is_refused_before_a_byte_is_read() {
        assert!(BodyReader::new(Framing::Length(10), 10).is_ok());
        assert_eq!(
            BodyReader::new(Framing::Length(11), 10).err(),
            Some(BodyError::TooLarge)
        );
    }

    #[test]
    fn a_body_of_a_length_ends_after_it() {
        let mut reader = BodyReader::new(Framing::Length(5), 10).unwrap();
        let mut input = &b"ab"[..];
        assert_eq!(reader.push(&mut input), Ok(false));
        let mut input = &b"cdeGET"[..];
        assert_eq!((reader.push(&mut input), input), (Ok(true), &b"GET"[..]));
        assert_eq!(reader.into_content(), b"abcde");
        let mut none = BodyReader::new(Framing::Length(0), 0).unwrap();
        let mut input = &b"GET"[..];
        assert_eq!((none.push(&mut input), input), (Ok(true), &b"GET"[..]));
    }

    #[test]
    fn chunks_are_joined_and_their_extensions_and_trailers_are_dropped() {
        let bytes = b"3\r\nabc\r\n0a;x=\"y\" ;z\r\n0123456789\r\n1 \t;e\r\n!\r\n000\r\nA: b\r\nc: d\r\n\r\nGET";
        let (content, behind) = chunked(bytes, 14).unwrap().unwrap();
        assert_eq!(
            (&content[..], &behind[..]),
            (&b"abc0123456789!"[..], &b"GET"[..])
        );
        assert_eq!(chunked(&bytes[..bytes.len() - 4], 14), Ok(None));
    }

    #[test]
    fn chunks_are_limited_by_their_announced_size() {
        assert_eq!(chunked(b"4\r\n", 3), Err(BodyError::TooLarge));
        assert_eq!(chunked(b"2\r\nab\r\n2\r\n", 3), Err(BodyError::TooLarge));
        assert_eq!(
            chunked(b"ffffffffffffffff\r\n", 3),
            Err(BodyError::TooLarge)
        );
    }

    #[test]
    fn a_chunk_that_two_parsers_could_read_differently_is_refused() {
        for bytes in [
            &b"\r\n"[..],
            b";x\r\n",
            b" 3\r\nabc\r\n",
            b"+3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"3\nabc\r\n",
            b"3 \r\nabc\r\n",
            b"3 4\r\nabc\r\n",
            b"3;a\nb\r\nabc\r\n",
            b"3;a\rb\r\nabc\r\n",
            b"3;\0\r\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"0\r\n\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: \0\r\n\r\n",
            b"00000000000000003\r\nabc\r\n",
        ] {
            assert_eq!(
                chunked(bytes, 100),
                Err(BodyError::Chunk),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn extensions_and_trailers_have_a_longest_length() {
        let line = |len: usize| format!("1;{}\r\nx\r\n", "e".repeat(len)).into_bytes();
        assert!(chunked(&line(MAX_SIZE_LINE_BYTES - 2), 10).is_ok());
        assert_eq!(
            chunked(&line(MAX_SIZE_LINE_BYTES - 1), 10),
            Err(BodyError::Chunk)
        );
        let many = line(100).repeat(MAX_EXTENSION_BYTES / 100 + 1);
        assert_eq!(chunked(&many, 1000), Err(BodyError::Chunk));
        let trailers = |len| format!("0\r\n{}", "a: b\r\n".repeat(len / 4)).into_bytes();
        assert_eq!(chunked(&trailers(MAX_TRAILER_BYTES), 10), Ok(None));
        assert_eq!(
            chunked(&trailers(MAX_TRAILER_BYTES + 4), 10),
            Err(BodyError::Chunk)
        );
    }
}
