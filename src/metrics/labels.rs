//! The values that labels of metrics have, and the counter of each.
//!
//! The rows of the [`catalogue`](super::catalogue) use them. The sets are closed: no value is a client's text.

use super::stats::Stat;

/// The reasons for which a member leaves.
pub(crate) const DISCONNECTIONS: &[(&str, Stat)] = &[
    ("client", Stat::DisconnectedByClient),
    ("lost", Stat::DisconnectedLost),
    ("protocol_error", Stat::DisconnectedProtocol),
    ("message_too_big", Stat::DisconnectedTooBig),
    ("lag", Stat::DisconnectedLag),
    ("stall", Stat::DisconnectedStall),
    ("pong_timeout", Stat::DisconnectedPong),
    ("rate", Stat::DisconnectedRate),
    ("control_rate", Stat::DisconnectedControlRate),
    ("publish_denied", Stat::DisconnectedPublishDenied),
    ("token_expired", Stat::DisconnectedExpired),
    ("by_hand", Stat::DisconnectedByHand),
    ("reserved_text", Stat::DisconnectedReservedText),
    ("memory", Stat::DisconnectedMemory),
    ("break", Stat::DisconnectedBreak),
    ("outage", Stat::DisconnectedOutage),
    ("shutdown", Stat::DisconnectedShutdown),
    ("internal_error", Stat::DisconnectedInternal),
];

/// The statuses of answers to requests that publish.
pub(crate) const POSTS: &[(&str, Stat)] = &[
    ("200", Stat::PostsMany),
    ("202", Stat::PostsAccepted),
    ("400", Stat::PostsBadRequest),
    ("401", Stat::PostsUnauthorized),
    ("403", Stat::PostsForbidden),
    ("408", Stat::PostsTimeout),
    ("413", Stat::PostsTooLarge),
    ("414", Stat::PostsPathTooLong),
    ("415", Stat::PostsMediaType),
    ("417", Stat::PostsExpectation),
    ("422", Stat::PostsReused),
    ("429", Stat::PostsRate),
    ("501", Stat::PostsCoding),
    ("503", Stat::PostsUnavailable),
    ("none", Stat::PostsLost),
];

/// The kinds of other requests that are answered.
pub(crate) const HTTP_REQUESTS: &[(&str, Stat)] = &[
    ("describe", Stat::Described),
    ("preflight", Stat::Preflights),
    ("page", Stat::Pages),
];

/// How much clients that came back got of the messages that they had missed.
pub(crate) const RESUMES: &[(&str, Stat)] = &[
    ("full", Stat::ResumedFull),
    ("partial", Stat::ResumedPartly),
    ("unknown", Stat::ResumedUnknown),
];

/// The reasons for which a connection is not upgraded, and their counters.
pub(crate) const FAILED_HANDSHAKES: &[(&str, Stat)] = &[
    ("bad_request", Stat::HandshakeBadRequest),
    ("not_upgrade", Stat::HandshakeNotUpgrade),
    ("method", Stat::HandshakeMethod),
    ("path_too_long", Stat::HandshakePathTooLong),
    ("head_too_large", Stat::HandshakeHeadTooLarge),
    ("origin", Stat::HandshakeOrigin),
    ("unauthorized", Stat::HandshakeUnauthorized),
    ("invalid_token", Stat::HandshakeToken),
    ("token_expired", Stat::HandshakeTokenExpired),
    ("grants_header", Stat::HandshakeGrants),
    ("forbidden", Stat::HandshakeForbidden),
    ("timeout", Stat::HandshakeTimeout),
    ("lost", Stat::HandshakeLost),
    ("capacity", Stat::HandshakeCapacity),
    ("per_ip", Stat::HandshakePerIp),
    ("proxy_header", Stat::HandshakeProxyHeader),
    ("shutdown", Stat::HandshakeShutdown),
    ("tls", Stat::HandshakeTls),
];

/// The reasons for which the compression of a topic began anew.
pub(crate) const DEFLATE_KEYS: &[(&str, Stat)] = &[
    ("start", Stat::DeflateKeysStart),
    ("waiting", Stat::DeflateKeysWaiting),
    ("evicted", Stat::DeflateKeysEvicted),
    ("larger_window", Stat::DeflateKeysLarger),
    ("retry", Stat::DeflateKeysRetry),
    ("echo", Stat::DeflateKeysEcho),
];

/// The kinds of TLS handshakes.
pub(crate) const TLS_HANDSHAKES: &[(&str, Stat)] =
    &[("full", Stat::TlsFull), ("resumed", Stat::TlsResumed)];

/// The label values of [`Source::TlsReloads`] and [`Source::KeyReloads`], in the order of
/// [`TlsStatus::reloads`](super::stats::TlsStatus::reloads) and [`Reloads::counts`](super::stats::Reloads).
pub(crate) const RELOADS: [&str; 2] = ["ok", "failed"];

/// The outcomes of writes.
pub(crate) const WRITE_CALLS: &[(&str, Stat)] = &[
    ("full", Stat::WritesFull),
    ("partial", Stat::WritesPartial),
    ("would_block", Stat::WritesBlocked),
    ("error", Stat::WritesFailed),
];
