//! The reasons for which a client leaves or never arrives, each with its counter and its words to the client.

use crate::metrics::stats::Stat;
use crate::ws::close::CloseCode;
use crate::ws::error::DecodeError;
use crate::ws::handshake::RefusalKind;

/// The reason for which a client leaves after its 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// It sent Close.
    ByClient,
    /// The connection failed, or it did not take in time what it was owed.
    Lost,
    /// It ended its side of the connection without a Close. It may still read.
    Ended,
    /// It ended its side of an event stream, as its clients do to leave.
    Hangup,
    /// It broke the protocol or a limit on messages.
    Protocol(DecodeError),
    /// It lagged by more than `slow_consumer.max_lag_bytes`.
    Lag,
    /// It accepted nothing for `slow_consumer.stall_timeout`.
    Stall,
    /// It did not answer a ping within `keepalive.pong_timeout`.
    Pong,
    /// It sent more messages than `limits.messages_per_second` and `limits.burst` allow.
    Rate,
    /// It sent more control frames, or frames that bring nothing, than `limits.control_frames_per_second` allows.
    ControlRate,
    /// It sent more behind its request for an event stream than `limits.control_frames_per_second` allows.
    Surplus,
    /// It sent a text that begins with U+0000, as only the relay's own words do.
    ReservedText,
    /// It sent a message, and `relay.publish` does not allow that.
    PublishDenied,
    /// Its grants have ended.
    Expired,
    /// The operator has closed its topic, or all clients of its subject.
    ByHand,
    /// The relay is short of memory, and holds too much for this client or because it lags.
    Memory,
    /// It has compressed a message in a way that takes memory on the relay, and the relay has no more of that.
    Window,
    /// Messages of its topic are missing, or may be, and it cannot be told in its stream.
    Break,
    /// It published, and the engine was away for too long.
    Outage,
    /// The relay is shutting down.
    Shutdown,
    /// The relay has failed.
    Internal,
}

/// The end of a connection whose membership is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// Nothing more is sent.
    Cut,
    /// The client's own Close is answered.
    Reply,
    /// The connection fails (RFC 6455, section 7.1.7): Close, and nothing more is read.
    Fail(CloseCode, &'static str),
    /// Close, and the client's Close is waited for (section 7.1.2).
    Close(CloseCode, &'static str),
    /// The same. The client is asked to come back after a pause, which ends the reason.
    CloseForNow(CloseCode, &'static str),
}

/// The end of the reason of a Close that asks the client to come back after a number of milliseconds.
const RETRY: &str = "; retry MS";

impl Departure {
    /// The counter of this reason.
    pub(crate) fn stat(self) -> Stat {
        match self {
            Departure::ByClient | Departure::Hangup => Stat::DisconnectedByClient,
            Departure::Lost | Departure::Ended => Stat::DisconnectedLost,
            Departure::Protocol(DecodeError::MessageTooBig | DecodeError::TooManyLastBlocks) => {
                Stat::DisconnectedTooBig
            }
            Departure::Protocol(_) => Stat::DisconnectedProtocol,
            Departure::Lag => Stat::DisconnectedLag,
            Departure::Stall => Stat::DisconnectedStall,
            Departure::Pong => Stat::DisconnectedPong,
            Departure::Rate => Stat::DisconnectedRate,
            Departure::ControlRate | Departure::Surplus => Stat::DisconnectedControlRate,
            Departure::ReservedText => Stat::DisconnectedReservedText,
            Departure::PublishDenied => Stat::DisconnectedPublishDenied,
            Departure::Expired => Stat::DisconnectedExpired,
            Departure::Memory | Departure::Window => Stat::DisconnectedMemory,
            Departure::ByHand => Stat::DisconnectedByHand,
            Departure::Break => Stat::DisconnectedBreak,
            Departure::Outage => Stat::DisconnectedOutage,
            Departure::Shutdown => Stat::DisconnectedShutdown,
            Departure::Internal => Stat::DisconnectedInternal,
        }
    }

    /// The counter of a connection that ends for this reason before it is upgraded.
    pub(crate) fn handshake_stat(self) -> Stat {
        match self {
            Departure::Shutdown => Stat::HandshakeShutdown,
            Departure::Memory => Stat::HandshakeCapacity,
            Departure::ByClient
            | Departure::Lost
            | Departure::Ended
            | Departure::Hangup
            | Departure::Protocol(_)
            | Departure::Lag
            | Departure::Stall
            | Departure::Pong
            | Departure::Rate
            | Departure::ControlRate
            | Departure::Surplus
            | Departure::PublishDenied
            | Departure::ReservedText
            | Departure::Expired
            | Departure::Window
            | Departure::ByHand
            | Departure::Break
            | Departure::Outage
            | Departure::Internal => Stat::HandshakeLost,
        }
    }

    /// Whether it deserves a line in the debug log, because the client or its connection misbehaves.
    pub(crate) fn is_odd(self) -> bool {
        match self {
            Departure::Protocol(_)
            | Departure::Lag
            | Departure::Stall
            | Departure::Pong
            | Departure::Rate
            | Departure::ControlRate
            | Departure::Surplus
            | Departure::PublishDenied
            | Departure::ReservedText
            | Departure::Memory
            | Departure::Window => true,
            Departure::ByClient
            | Departure::Lost
            | Departure::Ended
            | Departure::Hangup
            | Departure::Expired
            | Departure::ByHand
            | Departure::Break
            | Departure::Outage
            | Departure::Shutdown
            | Departure::Internal => false,
        }
    }

    /// The words to the client.
    pub(crate) fn farewell(self) -> Farewell {
        match self {
            Departure::ByClient => Farewell::Reply,
            Departure::Lost => Farewell::Cut,
            Departure::Ended => Farewell::Fail(
                CloseCode::NORMAL,
                "you ended the connection without a Close",
            ),
            Departure::Hangup => Farewell::Fail(CloseCode::NORMAL, "you ended the connection"),
            Departure::Protocol(error) => Farewell::Fail(error.close_code(), error.reason()),
            Departure::Lag => {
                Farewell::Close(CloseCode::TRY_AGAIN_LATER, "slow consumer: too far behind")
            }
            Departure::Stall => {
                Farewell::Close(CloseCode::TRY_AGAIN_LATER, "slow consumer: accepts nothing")
            }
            Departure::Pong => Farewell::Fail(CloseCode::TIMEOUT, "no pong in time"),
            Departure::Rate => Farewell::Fail(CloseCode::POLICY, "too many messages"),
            Departure::ControlRate => Farewell::Fail(CloseCode::POLICY, "too many control frames"),
            Departure::Surplus => Farewell::Fail(CloseCode::POLICY, "too much behind the request"),
            Departure::ReservedText => {
                Farewell::Fail(CloseCode::POLICY, "reserved: begins with U+0000")
            }
            Departure::PublishDenied => Farewell::Fail(CloseCode::POLICY, "not allowed to publish"),
            Departure::Expired => Farewell::Close(CloseCode::UNAUTHORIZED, "the token has expired"),
            Departure::ByHand => Farewell::Close(CloseCode::NORMAL, "closed by the operator"),
            Departure::Memory => {
                Farewell::Fail(CloseCode::TRY_AGAIN_LATER, "the relay is short of memory")
            }
            Departure::Window => Farewell::Fail(
                CloseCode::TRY_AGAIN_LATER,
                "too many clients compress with context takeover",
            ),
            Departure::Break => Farewell::Close(CloseCode::TRY_AGAIN_LATER, "messages are missing"),
            Departure::Outage => Farewell::Close(
                CloseCode::TRY_AGAIN_LATER,
                "cannot publish: other servers are out of reach",
            ),
            Departure::Shutdown => Farewell::CloseForNow(CloseCode::GOING_AWAY, "going away"),
            Departure::Internal => Farewell::Close(CloseCode::INTERNAL, "internal error"),
        }
    }
}

/// All codes and reasons that the relay sends in a Close of its own. `tests/docs.rs` compares them with the page for authors
/// of clients.
pub fn close_frames() -> Vec<(u16, String)> {
    let faults = DecodeError::ALL.map(Departure::Protocol);
    let others = [
        Departure::ByClient,
        Departure::Lost,
        Departure::Ended,
        Departure::Lag,
        Departure::Stall,
        Departure::Pong,
        Departure::ReservedText,
        Departure::Rate,
        Departure::ControlRate,
        Departure::PublishDenied,
        Departure::Expired,
        Departure::ByHand,
        Departure::Memory,
        Departure::Window,
        Departure::Break,
        Departure::Outage,
        Departure::Shutdown,
        Departure::Internal,
    ];
    let all = faults.into_iter().chain(others);
    all.filter_map(|departure| match departure.farewell() {
        Farewell::Cut | Farewell::Reply => None,
        Farewell::Fail(code, reason) | Farewell::Close(code, reason) => {
            Some((code.value(), reason.to_owned()))
        }
        Farewell::CloseForNow(code, reason) => Some((code.value(), format!("{reason}{RETRY}"))),
    })
    .collect()
}

/// The counter of a refused upgrade.
pub(crate) fn refusal_stat(kind: RefusalKind) -> Stat {
    match kind {
        RefusalKind::BadRequest => Stat::HandshakeBadRequest,
        RefusalKind::NotUpgrade => Stat::HandshakeNotUpgrade,
        RefusalKind::Method => Stat::HandshakeMethod,
        RefusalKind::PathTooLong => Stat::HandshakePathTooLong,
        RefusalKind::HeadTooLarge => Stat::HandshakeHeadTooLarge,
        RefusalKind::Origin => Stat::HandshakeOrigin,
        RefusalKind::Unauthorized => Stat::HandshakeUnauthorized,
        RefusalKind::Token => Stat::HandshakeToken,
        RefusalKind::TokenExpired => Stat::HandshakeTokenExpired,
        RefusalKind::Grants => Stat::HandshakeGrants,
        RefusalKind::Forbidden => Stat::HandshakeForbidden,
        RefusalKind::Timeout => Stat::HandshakeTimeout,
        RefusalKind::Capacity => Stat::HandshakeCapacity,
        RefusalKind::PerIp => Stat::HandshakePerIp,
        RefusalKind::ProxyHeader => Stat::HandshakeProxyHeader,
        RefusalKind::Shutdown => Stat::HandshakeShutdown,
    }
}
