//! Close codes and the body of a Close frame (RFC 6455, sections 5.5.1 and 7.4).
//!
//! The decoder calls [`parse_body`] for every Close frame that arrives; whoever ends a connection names a
//! [`CloseCode`]. When to close, and in what order the socket is shut, is decided elsewhere.

use super::error::DecodeError;

/// The code of a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// 1001: the server is going down.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// 1007: the payload is not what its type says, as text that is not UTF-8.
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    /// 1008: the peer broke a rule of the server's.
    pub const POLICY: CloseCode = CloseCode(1008);
    /// 1009: the message is over the limit.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// 1011: the server met a condition it did not expect.
    pub const INTERNAL: CloseCode = CloseCode(1011);
    /// 1013: the server cannot serve this peer now; it may come again later.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);

    /// The code that a peer sent, if a Close frame may carry it: 1000–1003 and 1007–1014 (IANA's registry; 1004 is
    /// undefined, 1005, 1006 and 1015 stand for closes without a frame), 3000–4999 (libraries and applications).
    pub fn received(code: u16) -> Option<CloseCode> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(CloseCode(code))
    }

    /// The number on the wire.
    pub fn value(self) -> u16 {
        self.0
    }
}

/// What a Close frame says. A frame without a body says nothing, which is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseBody<'a> {
    /// Why the peer closes.
    pub code: CloseCode,
    /// The same in words; may be empty, and is not meant for people.
    pub reason: &'a str,
}

/// Reads the unmasked body of a Close frame; `None` when it is empty.
///
/// Fails when the body is one byte long, when its code must not be sent, or when its reason is not UTF-8.
pub fn parse_body(body: &[u8]) -> Result<Option<CloseBody<'_>>, DecodeError> {
    let Some((code, reason)) = body.split_first_chunk::<2>() else {
        return if body.is_empty() {
            Ok(None)
        } else {
            Err(DecodeError::CloseBodyTooShort)
        };
    };
    let code =
        CloseCode::received(u16::from_be_bytes(*code)).ok_or(DecodeError::CloseCodeInvalid)?;
    let reason = std::str::from_utf8(reason).map_err(|_| DecodeError::CloseReasonNotUtf8)?;
    Ok(Some(CloseBody { code, reason }))
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::coding::CloseCode as Oracle;

    use super::{CloseBody, CloseCode, parse_body};
    use crate::ws::error::DecodeError;

    #[test]
    fn the_codes_a_peer_may_send_are_those_of_the_registry() {
        for code in 0..=u16::MAX {
            let valid = [1000, 1001, 1002, 1003].contains(&code)
                || (1007..=1014).contains(&code)
                || (3000..5000).contains(&code);
            assert_eq!(CloseCode::received(code).is_some(), valid, "{code}");
        }
    }

    #[test]
    fn an_independent_library_accepts_the_same_codes() {
        // 1014 was registered later than that library's table was written.
        for code in (0..5000).filter(|&code| code != 1014) {
            assert_eq!(
                CloseCode::received(code).is_some(),
                Oracle::from(code).is_allowed(),
                "{code}"
            );
        }
    }

    #[test]
    fn the_codes_we_send_are_codes_a_peer_may_send() {
        for code in [
            CloseCode::NORMAL,
            CloseCode::GOING_AWAY,
            CloseCode::PROTOCOL_ERROR,
            CloseCode::INVALID_DATA,
            CloseCode::POLICY,
            CloseCode::TOO_BIG,
            CloseCode::INTERNAL,
            CloseCode::TRY_AGAIN_LATER,
        ] {
            assert_eq!(CloseCode::received(code.value()), Some(code));
        }
    }

    #[test]
    fn an_empty_body_says_nothing() {
        assert_eq!(parse_body(b""), Ok(None));
    }

    #[test]
    fn a_code_may_stand_alone() {
        let expected = CloseBody {
            code: CloseCode::NORMAL,
            reason: "",
        };
        assert_eq!(parse_body(&[0x03, 0xe8]), Ok(Some(expected)));
    }

    #[test]
    fn a_reason_follows_the_code() {
        let expected = CloseBody {
            code: CloseCode::GOING_AWAY,
            reason: "tschüß",
        };
        assert_eq!(
            parse_body(&[&[0x03, 0xe9], "tschüß".as_bytes()].concat()),
            Ok(Some(expected))
        );
    }

    #[test]
    fn a_body_of_one_byte_is_refused() {
        assert_eq!(parse_body(&[0x03]), Err(DecodeError::CloseBodyTooShort));
    }

    #[test]
    fn a_code_that_must_not_be_sent_is_refused() {
        assert_eq!(
            parse_body(&1005u16.to_be_bytes()),
            Err(DecodeError::CloseCodeInvalid)
        );
    }

    #[test]
    fn a_reason_that_is_not_utf8_is_refused() {
        assert_eq!(
            parse_body(&[0x03, 0xe8, 0xff]),
            Err(DecodeError::CloseReasonNotUtf8)
        );
    }
}
