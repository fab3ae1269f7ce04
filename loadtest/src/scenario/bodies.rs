//! Bodies of messages: trades, order books, chat, telemetry, snapshots, and noise.
//!
//! The bodies of a kind are made once, always the same, and a message has the body that its number asks for. So a receiver
//! compares every byte without making anything. The bodies of a kind follow one another as in a real stream: prices walk, and
//! most of a snapshot is as it was before.

use std::fmt::Write as _;

use super::options::Opcode;
use super::payload::Payload;

/// The first of the 64 characters in text that looks random. They end with `o`.
pub(super) const FIRST_CHAR: u8 = b'0';

/// Bytes of all bodies of a kind together, about. It is many times what a window of DEFLATE holds, so no compressor finds a body
/// that it has seen before.
const BODIES_BYTES: usize = 1 << 20;

/// Bodies are counted as if they had this many bytes at least, so that there are not too many of tiny ones.
const LEAST_BYTES: usize = 64;

/// Places between the first bodies of two publishers.
const STRIDE: u64 = 257;

/// Different bodies of the kind `fixed`: a prime, so that neighbours differ.
const FILLERS: usize = 251;

/// The bodies of a run's messages: all that is behind their heads.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    /// Bytes of each.
    len: usize,
    /// One behind the other. Those of the kind `fixed` overlap.
    bytes: Vec<u8>,
    /// One less than their number, which is a power of two. `None` for the kind `fixed`.
    mask: Option<u64>,
}

impl Bodies {
    /// Bodies of `len` bytes.
    pub(crate) fn new(kind: Payload, len: usize, opcode: Opcode) -> Bodies {
        let mut noise = Noise(1);
        if kind == Payload::Fixed {
            return Bodies {
                len,
                bytes: (0..len + FILLERS).map(|_| noise.of(opcode)).collect(),
                mask: None,
            };
        }
        let count = (BODIES_BYTES / len.max(LEAST_BYTES))
            .next_power_of_two()
            .max(2);
        let mut bytes = Vec::with_capacity(count * len);
        let mut stream = Stream::new(kind, noise);
        for _ in 0..count {
            stream.push(len, opcode, &mut bytes);
        }
        Bodies {
            len,
            bytes,
            mask: Some(count as u64 - 1),
        }
    }

    /// Whether each message of a publisher has another body than the one before it.
    #[inline]
    pub(crate) fn vary(&self) -> bool {
        self.mask.is_some()
    }

    /// The body of a message.
    #[inline]
    pub(crate) fn of(&self, publisher: usize, sequence: u64) -> &[u8] {
        let start = match self.mask {
            None => publisher % FILLERS,
            Some(mask) => {
                let place = publisher as u64 * STRIDE + sequence;
                (place & mask) as usize * self.len
            }
        };
        &self.bytes[start..start + self.len]
    }
}

/// Numbers that look random and are always the same: Knuth's generator for MMIX.
#[derive(Clone, Debug)]
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    fn below(&mut self, range: u64) -> u64 {
        self.next() % range
    }

    /// A step of at most `most` up or down.
    fn step(&mut self, most: i64) -> i64 {
        self.below((2 * most + 1).cast_unsigned()).cast_signed() - most
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }

    fn of(&mut self, opcode: Opcode) -> u8 {
        let byte = self.byte();
        match opcode {
            Opcode::Text => FIRST_CHAR + (byte & 63),
            Opcode::Binary => byte,
        }
    }
}

/// Symbols, and their prices in hundredths.
const SYMBOLS: [(&str, i64); 6] = [
    ("BTCUSDT", 6_712_340),
    ("ETHUSDT", 351_211),
    ("SOLUSDT", 17_854),
    ("XRPUSDT", 6_240),
    ("BNBUSDT", 59_417),
    ("ADAUSDT", 4_512),
];

/// Words of a chat, the most frequent first.
const WORDS: [&str; 96] = [
    "the",
    "to",
    "and",
    "a",
    "i",
    "you",
    "it",
    "is",
    "that",
    "in",
    "of",
    "we",
    "for",
    "on",
    "have",
    "this",
    "be",
    "not",
    "with",
    "just",
    "so",
    "but",
    "what",
    "do",
    "at",
    "can",
    "if",
    "all",
    "was",
    "are",
    "they",
    "me",
    "my",
    "out",
    "like",
    "up",
    "get",
    "now",
    "there",
    "no",
    "about",
    "how",
    "good",
    "one",
    "time",
    "know",
    "when",
    "see",
    "think",
    "really",
    "then",
    "here",
    "will",
    "some",
    "would",
    "from",
    "been",
    "yes",
    "more",
    "them",
    "going",
    "want",
    "today",
    "thanks",
    "where",
    "could",
    "play",
    "game",
    "again",
    "right",
    "someone",
    "people",
    "because",
    "never",
    "maybe",
    "great",
    "stream",
    "watch",
    "after",
    "before",
    "server",
    "tomorrow",
    "weekend",
    "anyone",
    "tonight",
    "already",
    "music",
    "question",
    "morning",
    "problem",
    "friends",
    "between",
    "different",
    "beautiful",
    "yesterday",
    "everybody",
];

/// Things of a snapshot that change from one to the next, in percent.
const CHANGING: u64 = 8;

/// A stream of bodies of one kind.
#[derive(Debug)]
struct Stream {
    kind: Payload,
    noise: Noise,
    /// Milliseconds since 1970.
    time: u64,
    prices: [i64; SYMBOLS.len()],
    /// Of a snapshot: place and health of each thing.
    things: Vec<[i64; 3]>,
    text: String,
}

impl Stream {
    fn new(kind: Payload, noise: Noise) -> Stream {
        Stream {
            kind,
            noise,
            time: 1_796_000_000_000,
            prices: SYMBOLS.map(|(_, price)| price),
            things: Vec::new(),
            text: String::new(),
        }
    }

    /// Appends the next body: as many records as fill it, the last of them cut off.
    fn push(&mut self, len: usize, opcode: Opcode, out: &mut Vec<u8>) {
        if self.kind == Payload::Random {
            out.extend((0..len).map(|_| self.noise.of(opcode)));
            return;
        }
        self.text.clear();
        let mut records = 0;
        while self.text.len() < len {
            self.record(records);
            records += 1;
        }
        out.extend_from_slice(&self.text.as_bytes()[..len]);
    }

    /// Adds a record to the text. It is the one with this number in its message.
    fn record(&mut self, number: usize) {
        let written = match self.kind {
            Payload::Trades => self.trade(),
            Payload::Depth => self.depth(),
            Payload::Chat => self.chat(),
            Payload::Telemetry => self.telemetry(),
            Payload::Snapshot => self.thing(number),
            Payload::Fixed | Payload::Random => unreachable!("they have no records"),
        };
        written.expect("a string takes everything");
    }

    /// A symbol, after a step of its price.
    fn market(&mut self) -> (usize, &'static str) {
        // The first are traded most.
        let range = 1 + self.noise.below(SYMBOLS.len() as u64);
        let symbol = self.noise.below(range) as usize;
        let price = &mut self.prices[symbol];
        let most = (*price / 5_000).max(2);
        *price = (*price + self.noise.step(most)).max(100);
        self.time += self.noise.below(40);
        (symbol, SYMBOLS[symbol].0)
    }

    fn trade(&mut self) -> std::fmt::Result {
        let (symbol, name) = self.market();
        let price = self.prices[symbol];
        let amount = self.noise.below(9_999) + 1;
        let is_sale = self.noise.below(2) == 0;
        writeln!(
            self.text,
            r#"{{"e":"trade","s":"{name}","T":{},"p":"{}.{:02}000000","q":"0.{amount:05}000","m":{is_sale}}}"#,
            self.time,
            price / 100,
            price % 100,
        )
    }

    fn depth(&mut self) -> std::fmt::Result {
        let (symbol, name) = self.market();
        let price = self.prices[symbol];
        write!(self.text, r#"{{"e":"depth","s":"{name}","T":{}"#, self.time)?;
        for (side, sign) in [("b", -1), ("a", 1)] {
            write!(self.text, r#","{side}":["#)?;
            let mut at = price;
            for level in 0..7 {
                at = (at + sign * (1 + self.noise.below(9).cast_signed())).max(1);
                let comma = if level == 0 { "" } else { "," };
                // Most levels have a round amount, and some are empty again.
                let amount = match self.noise.below(4) {
                    0 => 0,
                    1 => self.noise.below(90_000),
                    _ => self.noise.below(90) * 1_000,
                };
                write!(
                    self.text,
                    r#"{comma}["{}.{:02}000000","{}.{:05}000"]"#,
                    at / 100,
                    at % 100,
                    amount / 100_000,
                    amount % 100_000,
                )?;
            }
            write!(self.text, "]")?;
        }
        writeln!(self.text, "}}")
    }

    fn chat(&mut self) -> std::fmt::Result {
        self.time += self.noise.below(4_000);
        let range = 1 + self.noise.below(200);
        let user = self.noise.below(range);
        write!(
            self.text,
            r#"{{"type":"message","room":"lobby","user":"user-{user}","time":{},"text":""#,
            self.time
        )?;
        for word in 0..8 + self.noise.below(6) {
            let range = 1 + self.noise.below(WORDS.len() as u64);
            let next = WORDS[self.noise.below(range) as usize];
            let blank = if word == 0 { "" } else { " " };
            write!(self.text, "{blank}{next}")?;
        }
        writeln!(self.text, r#""}}"#)
    }

    fn telemetry(&mut self) -> std::fmt::Result {
        self.time += self.noise.below(20);
        let device = self.noise.below(64);
        let noise = &mut self.noise;
        writeln!(
            self.text,
            r#"{{"device":"sensor-{device:04}","time":{},"temperature":{}.{:02},"humidity":{}.{},"pressure":{}.{},"battery":{},"signal":-{}}}"#,
            self.time,
            18 + device % 7,
            noise.below(100),
            40 + device % 20,
            noise.below(10),
            1_000 + device % 20,
            noise.below(10),
            60 + device % 40,
            50 + noise.below(8),
        )
    }

    fn thing(&mut self, number: usize) -> std::fmt::Result {
        if number == self.things.len() {
            let place = [self.noise.below(4_096), self.noise.below(4_096), 100];
            self.things.push(place.map(u64::cast_signed));
        } else if self.noise.below(100) < CHANGING {
            let steps = [40, 40, 5].map(|most| self.noise.step(most));
            for (value, step) in self.things[number].iter_mut().zip(steps) {
                *value = (*value + step).max(0);
            }
        }
        let [x, y, health] = self.things[number];
        writeln!(
            self.text,
            r#"{{"id":{},"kind":"{}","x":{x},"y":{y},"health":{health},"team":"{}"}}"#,
            10_000 + number,
            ["player", "npc", "item"][number % 3],
            ["red", "blue"][number % 2],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Payload; 7] = [
        Payload::Fixed,
        Payload::Trades,
        Payload::Depth,
        Payload::Chat,
        Payload::Telemetry,
        Payload::Snapshot,
        Payload::Random,
    ];

    fn bodies(kind: Payload) -> Bodies {
        Bodies::new(kind, kind.size() as usize - 22, Opcode::Text)
    }

    #[test]
    fn bodies_have_their_length_and_are_always_the_same() {
        for kind in KINDS {
            for len in [0, 1, 70, 5_000] {
                let bodies = Bodies::new(kind, len, Opcode::Binary);
                let again = Bodies::new(kind, len, Opcode::Binary);
                for sequence in [0, 1, 2, 1 << 39] {
                    assert_eq!(bodies.of(3, sequence).len(), len, "{kind:?}");
                    assert_eq!(bodies.of(3, sequence), again.of(3, sequence), "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_message_has_another_body_than_the_ones_before_it() {
        for kind in KINDS {
            let bodies = bodies(kind);
            let of = |publisher, sequence| bodies.of(publisher, sequence);
            for sequence in 1..40 {
                let is_new = (0..sequence).all(|before| of(0, before) != of(0, sequence));
                assert_eq!(is_new, bodies.vary(), "{kind:?}");
                assert_ne!(of(0, sequence), of(1, sequence), "{kind:?}");
            }
        }
    }

    #[test]
    fn text_is_ascii() {
        for kind in KINDS {
            let bodies = Bodies::new(kind, 700, Opcode::Text);
            assert!(bodies.of(0, 1).is_ascii(), "{kind:?}");
        }
    }

    #[test]
    fn records_fill_most_of_a_message_of_the_usual_size() {
        for kind in KINDS.into_iter().filter(|kind| kind.is_json()) {
            let bodies = bodies(kind);
            let ends = (0..200).filter(|&sequence| {
                let body = bodies.of(0, sequence);
                body[body.len() / 2..].contains(&b'\n')
            });
            assert!(
                ends.count() > 150,
                "{kind:?}: a record ends in the second half"
            );
        }
    }
}
