//! Reads and writes values that a rule may leave out. [`super::rules`] names these functions in its serde attributes.
//!
//! The spelling is the one that the value has in its general section. `null` is not a way to leave it out.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

use super::units;

/// One of a few words, if it is there.
pub(super) fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    units::word(deserializer).map(Some)
}

/// `true` or `false`, if it is there.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    bool::deserialize(deserializer).map(Some)
}

/// A whole number, if it is there.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    units::count(deserializer).map(Some)
}

/// A duration, if it is there.
pub(super) fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    units::duration::deserialize(deserializer).map(Some)
}

#[allow(clippy::ref_option, reason = "serde's signature")]
pub(super) fn write_duration<S: Serializer>(
    span: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    units::duration::serialize(&span.unwrap_or_default(), serializer)
}

/// A size, if it is there.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    units::size::deserialize(deserializer).map(Some)
}

#[allow(clippy::ref_option, reason = "serde's signature")]
pub(super) fn write_size<S: Serializer>(
    bytes: &Option<usize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    units::size::serialize(&bytes.unwrap_or_default(), serializer)
}
