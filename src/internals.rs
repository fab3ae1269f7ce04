//! The inside of the relay, for this repository's own program, tests, benches and fuzzers.
//!
//! Nobody else may rely on it: names and behaviour change without notice. It has no code of its own, only the names that they
//! use, by layer. An item that is not listed here, in [`config`](crate::config) or in [`server`](crate::server) is private.

pub use crate::ids::{ClientId, ClientKey, Seq, ShardId};
pub use crate::time::{Timestamp, WallTime};

/// The mailboxes between threads.
pub mod mailbox {
    pub use crate::mailbox::{Counter, Flag, Mailbox, Parts, Queue, Wake};
    pub use crate::net::mail::PollWaker;
}

/// The core.
pub mod relay {
    pub use crate::relay::batch::Batch;
    pub use crate::relay::batch::audience::Audience;
    pub use crate::relay::batch::draft::{Draft, OVERHEAD_BYTES, Source};
    pub use crate::relay::envelope::Envelope;
    pub use crate::relay::owner::cluster::{Cluster, ClusterSettings};
    pub use crate::relay::owner::coalesce::{Coalesce, PER_MEMBER};
    pub use crate::relay::owner::keepsake::{Amount, Keepsake};
    pub use crate::relay::owner::offer::Offer;
    pub use crate::relay::owner::topic::OwnedTopic;
    pub use crate::relay::policy::departure::close_frames;
    pub use crate::relay::router::Router;
    pub use crate::relay::saved::Damage;
    pub use crate::relay::saved::restore::{Restored, Restoring, Taken};
    pub use crate::relay::saved::write::{Clocks, Writer};
    pub use crate::relay::shard::{
        Effect, Named, NotTaken, Settings, Shard, Transfer, Undecided, Written,
    };
    pub use crate::relay::topic::log::Log;
    pub use crate::relay::turn::{Budgets, Filled, Host, Moment, Readiness, Turn};
}

/// Several relays as one, over an engine.
pub mod cluster {
    pub use crate::cluster::batch::{
        Arrival, Head, OLDEST_VERSION, OVERHEAD_BYTES, Refused, VERSION, pack, read, stamp,
    };
    pub use crate::cluster::command::Command;
    pub use crate::cluster::engine::asked::TopicKey;
    pub use crate::cluster::engine::{Action, Counts, Engine, EngineSettings};
    pub use crate::cluster::hello::{Hello, Peers, Shared};
    pub use crate::cluster::info::{Identity, Unfit};
    pub use crate::cluster::link::{Lane, LinkSettings, Reason};
    pub use crate::cluster::names::{NOT_IN_PREFIX, TopicNames, hello_channel, own_channel};
    pub use crate::cluster::place::{Epoch, MAX_NUMBER, NodeId, Place};
    pub use crate::cluster::rendezvous::engine_of;
    pub use crate::cluster::reply::{NotRespError, Replies, Reply};
    pub use crate::cluster::scripts::{SCRIPTS, Script};
    pub use crate::cluster::topic::effect::{Effect, Resume};
    pub use crate::cluster::topic::parcel::Parcel;
    pub use crate::cluster::topic::verdict::Why;
    pub use crate::cluster::topic::{State, Topic, TopicSettings};
}

/// The decisions on requests.
pub mod port {
    pub use crate::port::position::{Epoch, Position, Start};
    pub use crate::port::reply::Fault;
    pub use crate::port::start::{BadLast, start};
    pub use crate::port::terms::Form;
    pub use crate::port::topic_name::{MAX_TOPIC_BYTES, TopicError, topic_name};
}

/// Tokens, and the grants in them.
pub mod access {
    pub use crate::access::grants::{Grants, GrantsError};
    pub use crate::access::keys::{KeyError, Keys};
    pub use crate::access::token::{Rules, TokenError, verify};
}

/// Patterns for topics.
pub mod pattern {
    pub use crate::pattern::set::PatternSet;
    pub use crate::pattern::{Pattern, PatternError};
}

/// RFC 6455 and RFC 7692.
pub mod ws {
    pub use crate::ws::close::CloseCode;
    pub use crate::ws::decode::{Decoder, Event, Message, Payload};
    pub use crate::ws::deflate::{Compressor, WindowSize};
    pub use crate::ws::encode::{ControlFrame, frame_len, push_message};
    pub use crate::ws::error::DecodeError;
    pub use crate::ws::extension::Deflate;
    pub use crate::ws::frame::{ControlPayload, MessageKind};
    pub use crate::ws::handshake::{Refusal, upgrade};
    pub use crate::ws::inflate::{Inflater, Window};
}

/// Files with certificates.
pub mod tls {
    pub use crate::net::tls::contents::read_trusted;
}

/// Requests and responses.
pub mod http {
    pub use crate::http::body::{BodyError, BodyReader, Framing};
    pub use crate::http::health::Health;
    pub use crate::http::reader::Reader;
    pub use crate::http::request::{HeadScanner, MAX_HEADERS, RequestError, RequestHead, Version};
    pub use crate::http::requests::{MAX_HEAD_BYTES, Requests};
    pub use crate::http::response::{Body, Connection, Status};
    pub use crate::http::routes::{Answer, Route};
}

/// Counters, and their way out.
pub mod metrics {
    pub use crate::metrics::catalogue::METRICS;
    pub use crate::metrics::collector::{Exposition, InboxDepth};
    pub use crate::metrics::exporter::{Exporter, ExporterHandle, Limits};
    pub use crate::metrics::listing::{markdown_table, print};
    pub use crate::metrics::stats::{Published, TlsStatus};
}
