//! Records like those of TLS, without the cryptography. A record is numbered, and usable only when it is complete and
//! in its turn.
//!
//! On the wire, a record is a byte for its kind, two for its length, and its content. Every byte is combined with one
//! derived from the number, so the opener notices a record that is lost, repeated or torn.

use std::collections::VecDeque;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first record of each side. Nothing else is sent before the other side's has arrived.
    Hello,
    Data,
    /// The last record of a side that ends in order.
    End,
}

/// The length of the header.
const HEADER: usize = 3;

/// The longest content.
const MAX_CONTENT: usize = 2 << 10;

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Hello => 0x16,
            Kind::Data => 0x17,
            Kind::End => 0x15,
        }
    }

    fn of(byte: u8) -> Option<Kind> {
        [Kind::Hello, Kind::Data, Kind::End]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }
}

fn key(number: u64) -> u8 {
    // Neighbours differ, and so do records 256 apart.
    (number.wrapping_mul(0x9e37_79b9) >> 5) as u8
}

/// The writer of records.
#[derive(Debug, Default)]
pub(crate) struct Sealer {
    number: u64,
}

impl Sealer {
    /// The record of `content`, which may be empty.
    pub(crate) fn seal(&mut self, kind: Kind, content: &[u8]) -> Vec<u8> {
        assert!(
            content.len() <= MAX_CONTENT,
            "a record of {}",
            content.len()
        );
        let key = key(self.number);
        self.number += 1;
        let mut record = vec![kind.byte()];
        record.extend((content.len() as u16).to_be_bytes());
        record.extend(content.iter().map(|byte| byte ^ key));
        record
    }
}

/// The reader of records.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    number: u64,
    /// The received bytes of the next record, and perhaps of later ones.
    raw: VecDeque<u8>,
}

impl Opener {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.raw.extend(bytes);
    }

    /// The next record, once it is complete. An invalid record is an error.
    pub(crate) fn next(&mut self) -> Result<Option<(Kind, Vec<u8>)>, String> {
        let [Some(&kind), Some(&high), Some(&low)] = [0, 1, 2].map(|at| self.raw.get(at)) else {
            return Ok(None);
        };
        let Some(kind) = Kind::of(kind) else {
            return Err(format!("record {} begins with {kind:#x}", self.number));
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > MAX_CONTENT {
            return Err(format!("record {} has {len} bytes", self.number));
        }
        if self.raw.len() < HEADER + len {
            return Ok(None);
        }
        let key = key(self.number);
        self.number += 1;
        let record = self.raw.drain(..HEADER + len).skip(HEADER);
        Ok(Some((kind, record.map(|byte| byte ^ key).collect())))
    }

    /// Whether a part of a record has arrived.
    pub(crate) fn is_partial(&self) -> bool {
        !self.raw.is_empty()
    }
}

// Tests, run by `main`

pub(crate) fn records_are_read_however_they_arrive() {
    let mut sealer = Sealer::default();
    let said = [(Kind::Hello, ""), (Kind::Data, "ab"), (Kind::End, "")]
        .map(|(kind, content)| (kind, content.as_bytes().to_vec()));
    let mut opener = Opener::default();
    let mut heard = Vec::new();
    for (kind, content) in &said {
        for byte in sealer.seal(*kind, content) {
            opener.push(&[byte]);
            heard.extend(opener.next().expect("a record or none"));
        }
    }
    assert_eq!(heard, said);
    assert!(!opener.is_partial());
}

pub(crate) fn a_record_that_is_lost_or_torn_is_noticed() {
    let mut sealer = Sealer::default();
    let records = [b"ab", b"ab", b"cd"].map(|content| sealer.seal(Kind::Data, content));
    let second = Ok(Some((Kind::Data, b"ab".to_vec())));

    let mut opener = Opener::default();
    opener.push(&[&records[0][..], &records[2][..]].concat());
    opener.next().expect("a record").expect("a whole one");
    assert_ne!(opener.next(), second, "it is missing");

    let mut opener = Opener::default();
    opener.push(&[&records[0][..], &records[1][..4], &records[2][..]].concat());
    opener.next().expect("a record").expect("a whole one");
    assert_ne!(opener.next(), second, "it is torn");
    assert!(opener.next().is_err(), "no record begins here");
}
