//! The grammar of a token in HTTP: the names of subprotocols, and the parts of many headers. It has nothing to do with secrets.

/// Whether a token may have this byte (RFC 9110, section 5.6.2).
pub(crate) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a text is a token: at least one such byte, and no other.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_blanks_and_other_alphabets_are_no_part_of_a_token() {
        assert!(is_token("v1.chat+json~!#$%&'*-^_`|"));
        assert!(!is_token(""));
        for byte in b"\"(),/:;<=>?@[\\]{} \t\0\x7f\xe4" {
            assert!(!is_tchar(*byte), "{byte}");
        }
    }
}
