//! Nodes introduce themselves every few seconds, so that nodes that do not fit together are found.
//!
//! A node that is starting judges before it is first ready. Nodes that are ready only log and count: else one wrong node would
//! take all of them out of the balancer. All nodes write the lowest version that is heard, so they are upgraded one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::batch::{OLDEST_VERSION, VERSION};
use super::place::NodeId;
use crate::time::Timestamp;

/// The time between two introductions of a node.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// A node that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(16);

/// The most nodes that are remembered.
const MAX_PEERS: usize = 4_096;

/// Settings that all nodes must share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// A hash of the names of the engines, in order.
    pub engines: u64,
    /// `cluster.prefix`.
    pub prefix: String,
    /// `relay.topics`.
    pub topics: String,
    /// Whether clients may resume.
    pub history: bool,
    /// Whether members get their own messages.
    pub echo: bool,
    /// The longest message.
    pub max_message_bytes: u64,
}

/// The introduction of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The highest version that it reads.
    pub version: u8,
    /// The node.
    pub node: NodeId,
    /// Its settings.
    pub shared: Shared,
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        write!(
            f,
            "fanwire {} {} {:016x} {} {} {} {} {}",
            self.version,
            self.node,
            shared.engines,
            shared.topics,
            u8::from(shared.history),
            u8::from(shared.echo),
            shared.max_message_bytes,
            shared.prefix,
        )
    }
}

impl Hello {
    /// Reads what [`fmt::Display`] wrote. Later versions may append words.
    pub fn read(text: &[u8]) -> Option<Hello> {
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split(' ');
        let mut word = || words.next();
        if word()? != "fanwire" {
            return None;
        }
        Some(Hello {
            version: word()?.parse().ok()?,
            node: NodeId(u64::from_str_radix(word()?, 16).ok()?),
            shared: Shared {
                engines: u64::from_str_radix(word()?, 16).ok()?,
                topics: word()?.into(),
                history: word()? == "1",
                echo: word()? == "1",
                max_message_bytes: word()?.parse().ok()?,
                prefix: word()?.into(),
            },
        })
    }

    /// The differences that keep this node from working with `other`, by the keys of the configuration.
    pub fn differences(&self, other: &Hello) -> Vec<&'static str> {
        let (mine, theirs) = (&self.shared, &other.shared);
        let rows = [
            (
                self.version.abs_diff(other.version) > 1,
                "the relay's version",
            ),
            (mine.engines != theirs.engines, "cluster.engines"),
            (mine.prefix != theirs.prefix, "cluster.prefix"),
            (mine.topics != theirs.topics, "relay.topics"),
            (mine.history != theirs.history, "history"),
            (mine.echo != theirs.echo, "relay.echo"),
            (
                mine.max_message_bytes != theirs.max_message_bytes,
                "limits.max_message_bytes",
            ),
        ];
        let differing = rows.into_iter().filter(|(differs, _)| *differs);
        differing.map(|(_, key)| key).collect()
    }
}

/// The nodes that were heard.
#[derive(Debug)]
pub struct Peers {
    mine: Hello,
    heard: BTreeMap<NodeId, (Hello, Timestamp)>,
}

impl Peers {
    /// Nobody yet, but this node.
    pub fn new(mine: Hello) -> Self {
        let heard = BTreeMap::new();
        Peers { mine, heard }
    }

    /// This node's introduction.
    pub fn mine(&self) -> &Hello {
        &self.mine
    }

    /// Takes what somebody said. Returns the differences of a node that was not heard before, or says something else now.
    pub fn on_hello(&mut self, text: &[u8], now: Timestamp) -> Vec<&'static str> {
        self.heard.retain(|_, (_, at)| now.since(*at) < SILENCE);
        let Some(hello) = Hello::read(text).filter(|hello| hello.node != self.mine.node) else {
            return Vec::new();
        };
        if self.heard.len() >= MAX_PEERS && !self.heard.contains_key(&hello.node) {
            return Vec::new();
        }
        let differences = self.mine.differences(&hello);
        let before = self.heard.insert(hello.node, (hello.clone(), now));
        let is_news = before.is_none_or(|(before, _)| before != hello);
        if is_news { differences } else { Vec::new() }
    }

    /// Nodes that were heard lately.
    pub fn count(&self) -> usize {
        self.heard.len()
    }

    /// Those that do not fit to this one. A node that is starting is not ready while there is one.
    pub fn mismatched(&self) -> usize {
        let heard = self.heard.values();
        heard
            .filter(|(hello, _)| !self.mine.differences(hello).is_empty())
            .count()
    }

    /// The version to write: the lowest that is read by all nodes, and that this one can write.
    pub fn version(&self) -> u8 {
        let heard = self.heard.values().map(|(hello, _)| hello.version);
        let lowest = heard.min().unwrap_or(VERSION);
        lowest.clamp(OLDEST_VERSION, VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: u64) -> Hello {
        Hello {
            version: VERSION,
            node: NodeId(node),
            shared: Shared {
                engines: 7,
                prefix: "fanwire".into(),
                topics: "path".into(),
                history: true,
                echo: true,
                max_message_bytes: 1 << 20,
            },
        }
    }

    #[test]
    fn a_hello_is_read_as_it_was_written() {
        let text = hello(0xabc).to_string();
        assert_eq!(Hello::read(text.as_bytes()), Some(hello(0xabc)));
        let later = format!("{text} more words");
        assert_eq!(Hello::read(later.as_bytes()), Some(hello(0xabc)));
        for text in ["", "fanwire", "hello", "fanwire 1 x 7 path 1 1 1 p"] {
            assert_eq!(Hello::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Hello::read(b"fanwire \xff"), None);
    }

    #[test]
    fn a_node_that_differs_is_named_once_and_counted() {
        let mut peers = Peers::new(hello(1));
        let mut other = hello(2);
        other.shared.topics = "single".into();
        other.shared.echo = false;
        let text = other.to_string();
        let told = peers.on_hello(text.as_bytes(), Timestamp(0));
        assert_eq!(told, ["relay.topics", "relay.echo"]);
        assert_eq!(peers.on_hello(text.as_bytes(), Timestamp(1)), [""; 0]);
        peers.on_hello(hello(3).to_string().as_bytes(), Timestamp(1));
        peers.on_hello(hello(1).to_string().as_bytes(), Timestamp(1));
        assert_eq!((peers.count(), peers.mismatched()), (2, 1));
        let later = Timestamp(1) + SILENCE;
        peers.on_hello(hello(3).to_string().as_bytes(), later);
        assert_eq!((peers.count(), peers.mismatched()), (1, 0));
    }

    #[test]
    fn the_lowest_version_that_is_heard_is_written() {
        let mut peers = Peers::new(hello(1));
        assert_eq!(peers.version(), VERSION);
        let mut newer = hello(2);
        newer.version = VERSION + 1;
        assert_eq!(
            peers.on_hello(newer.to_string().as_bytes(), Timestamp(0)),
            [""; 0]
        );
        assert_eq!(peers.version(), VERSION);
        newer.version = VERSION + 2;
        let told = peers.on_hello(newer.to_string().as_bytes(), Timestamp(0));
        assert_eq!(told, ["the relay's version"]);
    }
}
