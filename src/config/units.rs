//! Reads and writes single values in YAML: a port, a count, a name, a word, `1MiB`, `10s`.
//!
//! [`super::types`] names these functions in its serde attributes. They refuse a duration without a
//! unit, a fraction of a byte, a number out of range, a number for a text, and a text for a number.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{self, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, Unexpected, Visitor};

/// A TCP port.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    deserializer.deserialize_any(WholeNumber::new("a port number from 0 to 65535"))
}

/// A whole number.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    deserializer.deserialize_any(WholeNumber::new("a whole number"))
}

/// An address or a host name. YAML would turn `host: 3` into text, although it is more likely a mistake.
pub(super) fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_any(Host)
}

/// One of a few words.
pub(super) fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(OneOf(PhantomData))
}

/// Accepts a whole number that fits, but not a number in quotes.
struct WholeNumber<N> {
    expected: &'static str,
    number: PhantomData<N>,
}

impl<N> WholeNumber<N> {
    fn new(expected: &'static str) -> Self {
        WholeNumber {
            expected,
            number: PhantomData,
        }
    }
}

impl<N: TryFrom<u64>> Visitor<'_> for WholeNumber<N> {
    type Value = N;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<N, E> {
        N::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

/// Accepts text, but no value that YAML would convert to text.
struct Host;

impl Visitor<'_> for Host {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address or a host name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Accepts the name of a variant of `T`.
struct OneOf<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The derived code lists the variants when it refuses one.
        let nothing: StrDeserializer<'_, value::Error> = "".into_deserializer();
        let refusal = T::deserialize(nothing).err().map(|error| error.to_string());
        let variants = refusal
            .as_deref()
            .and_then(|text| text.rsplit_once("expected "));
        f.write_str(variants.map_or("one word", |(_, variants)| variants))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::deserialize(text.into_deserializer())
    }
}

/// A number of bytes that displays with the largest unit that divides it.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Bytes(pub(super) usize);

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            n if n.is_multiple_of(GIB) => write!(f, "{}GiB", n / GIB),
            n if n.is_multiple_of(MIB) => write!(f, "{}MiB", n / MIB),
            n if n.is_multiple_of(KIB) => write!(f, "{}KiB", n / KIB),
            n => write!(f, "{n}"),
        }
    }
}

/// A number of bytes, with or without a unit.
pub(super) mod size {
    use super::{Bytes, Deserializer, Error, KIB, Unexpected, Visitor, fmt};
    use bytesize::ByteSize;
    use serde::Serializer;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(
        bytes: &usize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if *bytes > 0 && bytes.is_multiple_of(KIB) {
            return serializer.collect_str(&Bytes(*bytes));
        }
        serializer.serialize_u64(*bytes as u64)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<usize, D::Error> {
        deserializer.deserialize_any(Size)
    }

    struct Size;

    impl Visitor<'_> for Size {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as `1MiB`, or a whole number of bytes")
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<usize, E> {
            usize::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Unsigned(bytes), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<usize, E> {
            // A number in quotes is refused as a mistake.
            let with_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
            let size: Option<ByteSize> = text.parse().ok().filter(|_| with_unit);
            let bytes = size.and_then(|ByteSize(bytes)| usize::try_from(bytes).ok());
            bytes.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
}

/// Permission bits that display in octal.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Octal(pub(super) u32);

impl fmt::Display for Octal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// Permission bits in octal. They need quotes, because YAML reads 660 as a decimal number and 0660 as text.
pub(super) mod mode {
    use super::{Deserializer, Error, Octal, Unexpected, Visitor, fmt};
    use serde::Serializer;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(bits: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Octal(*bits))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(Mode)
    }

    struct Mode;

    impl Visitor<'_> for Mode {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("octal digits in quotes, such as `\"0660\"`")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
            let is_octal =
                !text.is_empty() && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
            let bits = u32::from_str_radix(text, 8).ok().filter(|_| is_octal);
            bits.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
}

/// The name or the number of a group, if there is one.
pub(super) mod group {
    use super::{Deserializer, Error, Visitor, fmt};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(Group)
    }

    struct Group;

    impl Visitor<'_> for Group {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name or the number of a group")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<String>, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Option<String>, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_unit<E: Error>(self) -> Result<Option<String>, E> {
            Ok(None)
        }
    }
}

/// A duration that displays as in a file, such as `1m 30s`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Span(pub(super) std::time::Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A duration. Only 0 needs no unit.
pub(super) mod duration {
    use super::{Deserializer, Error, Span, Unexpected, Visitor, fmt};
    use serde::Serializer;
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(
        span: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Span(*span))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }

    struct SpanVisitor;

    impl Visitor<'_> for SpanVisitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as `10s`")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Duration, E> {
            if number == 0 {
                return Ok(Duration::ZERO);
            }
            Err(E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text)
                .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
}
