//! Close codes (RFC 6455, section 7.4).
//!
//! The relay picks a [`CloseCode`] for each connection that it closes, and the decoder reads the ones that clients
//! send. This file does not decide when to close.

use tungstenite::protocol::frame::coding::CloseCode as Registered;

/// The code of a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the connection has served its purpose.
    pub(crate) const NORMAL: CloseCode = CloseCode(1000);
    /// 1001: the server is shutting down.
    pub(crate) const GOING_AWAY: CloseCode = CloseCode(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// 1007: the payload does not fit its type, such as text that is not UTF-8.
    pub(crate) const INVALID_DATA: CloseCode = CloseCode(1007);
    /// 1008: the peer broke a rule of this server.
    pub(crate) const POLICY: CloseCode = CloseCode(1008);
    /// 1009: the message is too big.
    pub(crate) const TOO_BIG: CloseCode = CloseCode(1009);
    /// 1011: the server met an unexpected condition.
    pub(crate) const INTERNAL: CloseCode = CloseCode(1011);
    /// 1013: the server cannot serve this peer now; it may try again later.
    pub(crate) const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    /// 3000: the peer's credentials are not valid any more. IANA has it registered as "Unauthorized".
    pub(crate) const UNAUTHORIZED: CloseCode = CloseCode(3000);
    /// 3008: the peer did not answer in time. IANA has it registered as "Timeout".
    pub(crate) const TIMEOUT: CloseCode = CloseCode(3008);

    /// The code that a peer sent, if a Close frame may carry it: 1000–1003 and 1007–1014 (registered with IANA), or
    /// 3000–4999 (libraries and applications). 1004 is undefined; 1005, 1006 and 1015 describe closes without a frame.
    pub(crate) fn received(code: u16) -> Option<CloseCode> {
        // 1014 was registered after tungstenite's table was written.
        let allowed = code == 1014 || Registered::from(code).is_allowed();
        allowed.then_some(CloseCode(code))
    }

    /// The number on the wire.
    pub fn value(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::CloseCode;

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
    fn a_peer_may_send_every_code_that_we_send() {
        for code in [
            CloseCode::GOING_AWAY,
            CloseCode::PROTOCOL_ERROR,
            CloseCode::INVALID_DATA,
            CloseCode::POLICY,
            CloseCode::TOO_BIG,
            CloseCode::INTERNAL,
            CloseCode::TRY_AGAIN_LATER,
            CloseCode::TIMEOUT,
        ] {
            assert_eq!(CloseCode::received(code.value()), Some(code));
        }
    }
}
