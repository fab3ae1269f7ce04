//! Writes a size for people: `1 GiB`, `45.5 MiB`.
//!
//! The log and messages at the start use it. `units` writes sizes as a configuration has them.

use std::fmt;

use bytesize::ByteSize;

/// A number of bytes that displays rounded, with one decimal at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanSize(pub u64);

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = ByteSize(self.0).display().iec().to_string();
        f.write_str(&rounded.replace(".0 ", " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_one_decimal_at_most() {
        for (bytes, text) in [
            (0, "0 B"),
            (1000, "1000 B"),
            (8 << 10, "8 KiB"),
            (1 << 30, "1 GiB"),
            ((45 << 20) + (1 << 19), "45.5 MiB"),
            (10 << 40, "10 TiB"),
        ] {
            assert_eq!(HumanSize(bytes).to_string(), text);
        }
    }
}
