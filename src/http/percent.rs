//! Percent-decoding (RFC 3986, section 2.1): once, byte by byte, and nothing else.
//!
//! `port` decodes paths with it, and [`super::bearer`] a value in the query. A `+` stays a `+`: only HTML forms use
//! it for a space.

/// The reason for which a text cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PercentError {
    /// The decoded text is over the limit.
    TooLong,
    /// A `%` is not followed by two hexadecimal digits.
    BadEscape,
}

/// Decodes `text`, to at most `max_bytes` bytes.
pub(crate) fn decode(text: &str, max_bytes: usize) -> Result<Vec<u8>, PercentError> {
    let mut decoded = Vec::with_capacity(text.len().min(max_bytes));
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if decoded.len() == max_bytes {
            return Err(PercentError::TooLong);
        }
        if byte != b'%' {
            decoded.push(byte);
            rest = after;
            continue;
        }
        let [high, low, after @ ..] = after else {
            return Err(PercentError::BadEscape);
        };
        decoded.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
        rest = after;
    }
    Ok(decoded)
}

fn hex_digit(byte: u8) -> Result<u8, PercentError> {
    let digit = char::from(byte).to_digit(16);
    Ok(digit.ok_or(PercentError::BadEscape)? as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes_in_either_case_and_a_plus_is_a_plus() {
        assert_eq!(decode("a%2Bb%2b+%00%fF", 16), Ok(b"a+b++\0\xff".to_vec()));
    }

    #[test]
    fn a_text_is_decoded_only_once() {
        assert_eq!(decode("%2525", 16), Ok(b"%25".to_vec()));
    }

    #[test]
    fn the_limit_counts_decoded_bytes() {
        assert_eq!(decode("%41%41", 2), Ok(b"AA".to_vec()));
        assert_eq!(decode("%41%41A", 2), Err(PercentError::TooLong));
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for text in ["%", "%a", "%zz", "%+1"] {
            assert_eq!(decode(text, 16), Err(PercentError::BadEscape), "{text}");
        }
    }
}
