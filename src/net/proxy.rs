//! The header with which a proxy names its client: the PROXY protocol, versions 1 and 2 (`doc/proxy-protocol.txt` in the
//! sources of `HAProxy`).
//!
//! It comes before everything, even TLS, and may come in pieces. A worker reads it through a [`Preface`], which takes no byte
//! behind the header. The worker closes a connection whose header is broken.
//!
//! The first byte tells the version: version 1 is a line of [`text`], and version 2 is binary. Only the address of the
//! client is used. The checksum is not verified, which the specification allows.

mod text;

use std::fmt;
use std::io::{self, Read};
use std::net::IpAddr;

use proxy_header::{ParseConfig, ProxyHeader};

/// The beginning of every header of version 2. No other protocol begins like this.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of a header of version 2: the signature, version and command, family, and the length of the rest.
const FIXED_BYTES: usize = 16;

/// Version 2 and the command LOCAL: the proxy connects for itself, usually to check that the relay is alive.
const LOCAL: u8 = 0x20;

/// Version 2 and the command PROXY: the proxy speaks for a client.
const PROXY: u8 = 0x21;

/// The longest header. Addresses take at most 232 bytes. Proxies add some hundred, such as a host name or the subject of a
/// certificate. The protocol allows 64 KiB.
pub(crate) const MAX_HEADER_BYTES: usize = 4 << 10;

/// A header that is arriving. It takes memory for the bytes that have arrived only.
#[derive(Debug, Default)]
pub(crate) struct Preface {
    header: Vec<u8>,
}

/// The state of a header as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A part of the header.
    Incomplete,
    /// All of it. It names the client, unless the proxy connects for itself or does not know the address.
    Complete(Option<IpAddr>),
}

/// The reason for which the bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Another protocol.
    Signature,
    /// A binary header of another version than 2, or an unknown command.
    Command,
    /// Longer than [`MAX_HEADER_BYTES`], or than version 1 allows.
    TooLong,
    /// An unknown family, or too short for its addresses.
    Addresses,
    /// A line that is not as version 1 demands.
    Line,
}

/// The result of an attempt to read a header.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// A part of it. An event will announce more.
    Part,
    /// All of it; see [`Progress::Complete`].
    Header(Option<IpAddr>),
    /// Something else.
    Bad(HeaderError),
    /// The end.
    Eof,
    /// The connection is dead.
    Failed,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeaderError::Signature => "it is another protocol",
            HeaderError::Command => "its version or its command is unknown",
            HeaderError::TooLong => "it is too long",
            HeaderError::Addresses => "its addresses are not as it announces",
            HeaderError::Line => "its line is not as version 1 demands",
        })
    }
}

impl From<text::LineError> for HeaderError {
    fn from(error: text::LineError) -> Self {
        match error {
            text::LineError::Broken => HeaderError::Line,
            text::LineError::TooLong => HeaderError::TooLong,
        }
    }
}

impl Preface {
    /// Reads what has arrived, through `scratch`.
    pub(crate) fn read_from(&mut self, stream: &mut impl Read, scratch: &mut [u8]) -> Arrived {
        // Each round takes at least one byte, and a header has few.
        loop {
            let wanted = self.wanted().min(scratch.len());
            match stream.read(&mut scratch[..wanted]) {
                Ok(0) => return Arrived::Eof,
                Ok(n) => match self.push(&scratch[..n]) {
                    Ok(Progress::Incomplete) => {}
                    Ok(Progress::Complete(named)) => return Arrived::Header(named),
                    Err(error) => return Arrived::Bad(error),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Arrived::Part,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Arrived::Failed,
            }
        }
    }

    /// The bytes of the header that have arrived.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.header
    }

    /// The number of bytes that it takes next. It is not 0 before the header is complete.
    pub(crate) fn wanted(&self) -> usize {
        match self.header.first() {
            // The shortest header of either version is as long.
            None => text::MIN_BYTES,
            Some(b'P') => text::missing(&self.header),
            Some(_) => self.announced() - self.header.len(),
        }
    }

    /// Takes the next bytes, at most as many as [`Preface::wanted`].
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Progress, HeaderError> {
        debug_assert!(bytes.len() <= self.wanted(), "never behind the header");
        self.header.extend_from_slice(bytes);
        match self.header.first() {
            None => Ok(Progress::Incomplete),
            Some(b'P') => self.push_text(),
            Some(_) => self.push_binary(),
        }
    }

    fn push_text(&self) -> Result<Progress, HeaderError> {
        self.check_beginning(text::BEGINNING)?;
        text::check(&self.header)?;
        if self.wanted() > 0 {
            return Ok(Progress::Incomplete);
        }
        Ok(Progress::Complete(text::named(&self.header)?))
    }

    fn push_binary(&self) -> Result<Progress, HeaderError> {
        self.check_beginning(SIGNATURE)?;
        if self.header.len() < FIXED_BYTES {
            return Ok(Progress::Incomplete);
        }
        let command = self.header[SIGNATURE.len()];
        if command != LOCAL && command != PROXY {
            return Err(HeaderError::Command);
        }
        if self.announced() > MAX_HEADER_BYTES {
            return Err(HeaderError::TooLong);
        }
        if self.wanted() > 0 {
            return Ok(Progress::Incomplete);
        }
        self.named().map(Progress::Complete)
    }

    /// Refuses the first wrong byte, because a client of another protocol may wait for an answer.
    fn check_beginning(&self, beginning: &[u8]) -> Result<(), HeaderError> {
        let arrived = self.header.len().min(beginning.len());
        if self.header[..arrived] == beginning[..arrived] {
            Ok(())
        } else {
            Err(HeaderError::Signature)
        }
    }

    /// The length of a header of version 2, as far as it is known.
    fn announced(&self) -> usize {
        match self.header.get(FIXED_BYTES - 2..FIXED_BYTES) {
            Some(length) => FIXED_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]])),
            None => FIXED_BYTES,
        }
    }

    /// The client's address in a complete header of version 2.
    fn named(&self) -> Result<Option<IpAddr>, HeaderError> {
        if self.header[SIGNATURE.len()] == LOCAL {
            // The rest is to be ignored, even the family.
            return Ok(None);
        }
        let config = ParseConfig {
            include_tlvs: false,
            allow_v1: false,
            allow_v2: true,
        };
        // The header is whole, so if it is too short for its addresses, it is an error and not a part.
        let (header, _) =
            ProxyHeader::parse(&self.header, config).map_err(|_| HeaderError::Addresses)?;
        Ok(header.proxied_address().map(|address| address.source.ip()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb];

    const TEXT: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 443\r\n";

    fn v6() -> Vec<u8> {
        let source: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        let destination: std::net::Ipv6Addr = "2001:db8::2".parse().unwrap();
        [
            &source.octets()[..],
            &destination.octets(),
            &[0x30, 0x39, 0x01, 0xbb],
        ]
        .concat()
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// A stream whose reads pause at each of `cuts`, and at the end.
    struct Pieces<'a> {
        bytes: &'a [u8],
        cuts: Vec<usize>,
        at: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.cuts.first() == Some(&self.at) {
                self.cuts.remove(0);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let end = self.cuts.first().copied().unwrap_or(self.bytes.len());
            if self.at == end {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = buffer.len().min(end - self.at);
            buffer[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
            self.at += n;
            Ok(n)
        }
    }

    /// The result of a header in these pieces, and how many of `bytes` it left unread.
    fn read(bytes: &[u8], cuts: &[usize]) -> (Arrived, usize) {
        let mut stream = Pieces {
            bytes,
            cuts: cuts.to_vec(),
            at: 0,
        };
        let mut preface = Preface::default();
        loop {
            let arrived = preface.read_from(&mut stream, &mut [0; 64]);
            let is_over = !matches!(arrived, Arrived::Part) || stream.at == bytes.len();
            if is_over {
                return (arrived, bytes.len() - stream.at);
            }
        }
    }

    fn named(bytes: &[u8]) -> Option<IpAddr> {
        match read(bytes, &[]) {
            (Arrived::Header(named), 0) => named,
            other => panic!("{other:?}"),
        }
    }

    fn bad(bytes: &[u8]) -> HeaderError {
        match read(bytes, &[]) {
            (Arrived::Bad(error), _) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_client_is_the_source_of_either_family_over_either_transport() {
        let v4: Option<IpAddr> = Some("192.0.2.1".parse().unwrap());
        let v6_source: Option<IpAddr> = Some("2001:db8::1".parse().unwrap());
        for transport in [1, 2] {
            assert_eq!(named(&header(PROXY, 0x10 | transport, &V4)), v4);
            assert_eq!(named(&header(PROXY, 0x20 | transport, &v6())), v6_source);
        }
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_or_for_whom_it_does_not_know_names_nobody() {
        assert_eq!(named(&header(LOCAL, 0, &[])), None);
        assert_eq!(named(&header(LOCAL, 0x11, &V4)), None);
        // The rest of a LOCAL header is ignored, even nonsense.
        assert_eq!(named(&header(LOCAL, 0x11, &[])), None);
        assert_eq!(named(&header(LOCAL, 0xff, b"x")), None);
        assert_eq!(named(&header(PROXY, 0, &[])), None);
        assert_eq!(named(&header(PROXY, 0, b"ignored")), None);
        assert_eq!(named(&header(PROXY, 0x31, &[0; 216])), None);
    }

    #[test]
    fn what_else_a_header_tells_is_skipped_whether_it_makes_sense_or_not() {
        let noop = [&[4, 1, 0][..], &[0; 256]].concat();
        let checksum_that_is_wrong = [3, 0, 4, 1, 2, 3, 4];
        let cut = [1, 0xff, 0xff];
        for more in [&noop[..], &checksum_that_is_wrong, &cut] {
            let header = header(PROXY, 0x11, &[&V4, more].concat());
            assert_eq!(named(&header), Some("192.0.2.1".parse().unwrap()));
        }
    }

    #[test]
    fn nothing_behind_a_header_is_read_wherever_it_is_cut() {
        let header = header(PROXY, 0x21, &[&v6()[..], &[4, 0, 2, 0, 0]].concat());
        let stream = [&header[..], b"GET /room HTTP/1.1\r\n"].concat();
        let behind = stream.len() - header.len();
        for first in 0..=header.len() {
            for second in first..=header.len() {
                let (arrived, left) = read(&stream, &[first, second]);
                assert!(
                    matches!(arrived, Arrived::Header(Some(_))),
                    "{first} {second}: {arrived:?}"
                );
                assert_eq!(left, behind, "cut at {first} and {second}");
            }
        }
        let every_byte: Vec<usize> = (0..header.len()).collect();
        assert_eq!(read(&stream, &every_byte).1, behind);
    }

    #[test]
    fn a_header_is_not_complete_before_its_last_byte() {
        for header in [&header(PROXY, 0x11, &V4)[..], TEXT] {
            for len in 0..header.len() {
                let (arrived, _) = read(&header[..len], &[]);
                assert!(matches!(arrived, Arrived::Part), "{len}: {arrived:?}");
            }
        }
    }

    #[test]
    fn version_1_is_known_by_its_first_byte_and_nothing_behind_it_is_read() {
        let address: Option<IpAddr> = Some("192.0.2.1".parse().unwrap());
        for (header, client) in [(TEXT, address), (b"PROXY UNKNOWN\r\n", None)] {
            assert_eq!(named(header), client);
            let stream = [header, b"G\r\n"].concat();
            for first in 0..=header.len() {
                for second in first..=header.len() {
                    let (arrived, left) = read(&stream, &[first, second]);
                    assert!(
                        matches!(arrived, Arrived::Header(named) if named == client),
                        "{first} {second}: {arrived:?}"
                    );
                    assert_eq!(left, 3, "cut at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn a_line_of_version_1_without_an_end_is_refused_at_the_limit() {
        let endless = [&TEXT[..TEXT.len() - 2], &[b'7'; 200]].concat();
        assert_eq!(bad(&endless), HeaderError::TooLong);
        assert_eq!(bad(b"PROXY TCP4 a b 1 2\r\n"), HeaderError::Line);
    }

    #[test]
    fn another_protocol_is_told_by_its_first_wrong_byte() {
        for bytes in [
            &b"G"[..],
            b"POST / HTTP/1.1",
            b"PRI * HTTP/2.0\r",
            b"PROXZ",
            b"\x16",
            b"\r\n\r\n\r",
            b"\r\n\r\n\0\r\nQUIT\r",
        ] {
            assert_eq!(bad(bytes), HeaderError::Signature, "{bytes:?}");
        }
        for at in 0..SIGNATURE.len() {
            let mut header = header(PROXY, 0x11, &V4);
            header[at] ^= 0x80;
            assert_eq!(bad(&header), HeaderError::Signature, "byte {at}");
        }
    }

    #[test]
    fn a_version_or_command_that_is_unknown_is_refused() {
        for command in [0x00, 0x11, 0x22, 0x2f, 0x31] {
            assert_eq!(bad(&header(command, 0x11, &V4)), HeaderError::Command);
        }
    }

    #[test]
    fn a_header_too_short_for_its_addresses_or_of_an_unknown_family_is_refused() {
        assert_eq!(bad(&header(PROXY, 0x11, &V4[..11])), HeaderError::Addresses);
        assert_eq!(
            bad(&header(PROXY, 0x21, &v6()[..35])),
            HeaderError::Addresses
        );
        assert_eq!(bad(&header(PROXY, 0x31, &[0; 215])), HeaderError::Addresses);
        for family in [0x01, 0x10, 0x13, 0x41, 0xff] {
            let header = header(PROXY, family, &[0; 216]);
            assert_eq!(bad(&header), HeaderError::Addresses, "{family:#x}");
        }
    }

    #[test]
    fn a_header_over_the_limit_is_refused_when_it_is_announced() {
        let longest = vec![0; MAX_HEADER_BYTES - FIXED_BYTES];
        assert_eq!(named(&header(PROXY, 0, &longest)), None);
        let longer = vec![0; longest.len() + 1];
        let announced = &header(PROXY, 0, &longer)[..FIXED_BYTES];
        assert_eq!(bad(announced), HeaderError::TooLong);
    }

    #[test]
    fn memory_is_taken_for_what_has_come_and_not_for_what_was_announced() {
        let mut preface = Preface::default();
        let longest = header(PROXY, 0, &vec![0; MAX_HEADER_BYTES - FIXED_BYTES]);
        let (fixed, _) = longest.split_at(FIXED_BYTES);
        let (first, second) = fixed.split_at(preface.wanted());
        preface.push(first).unwrap();
        preface.push(second).unwrap();
        assert!(preface.header.capacity() < 64);
    }
}
