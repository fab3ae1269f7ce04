//! Values that are one of a few words, which the general sections and the rules for topics share.

use serde::{Deserialize, Serialize};

/// `relay.publish`: the clients that may send messages. All may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Publish {
    /// Every client.
    Everyone,
    /// Clients that present one of `relay.publish_tokens`.
    Token,
    /// No client.
    Nobody,
}

/// `access.subscribe`: the clients that may hear a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subscribe {
    /// Every client.
    Everyone,
    /// Clients whose grants have the topic.
    Token,
}

/// `slow_consumer.policy`: the treatment of a client that lags too far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlowConsumerPolicy {
    /// It is closed with 1013.
    Disconnect,
    /// It skips to the newest message.
    Drop,
    /// The topic's publishers are not read while it lags.
    Backpressure,
}
