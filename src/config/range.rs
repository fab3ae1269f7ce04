//! The check of one value against its range.
//!
//! `bounds` and `access` call it and choose the ranges.

use std::fmt;
use std::ops::RangeInclusive;

use super::error::ConfigError;

/// Refuses a `value` of `key` outside `allowed`. The error shows the value and the range.
pub(super) fn check_range<T>(
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
) -> Result<(), ConfigError>
where
    T: Copy + PartialOrd + fmt::Display,
{
    if allowed.contains(&value) {
        return Ok(());
    }
    let side = if value < *allowed.start() {
        "small"
    } else {
        "large"
    };
    let fix = format!("use {} to {}", allowed.start(), allowed.end());
    Err(ConfigError::new(format!("{value} is too {side}"), fix).of_key(key))
}
