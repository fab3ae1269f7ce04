//! Names of keys and channels in the engine.
//!
//! All names of one topic have one hash tag, so they would live in one slot. In a topic's name, `%`, `{`, `}` and bytes below
//! 0x21 are percent-encoded: braces would change the tag, and blanks and line ends would spoil logs and ACL patterns.

use bytes::Bytes;

use super::place::NodeId;

/// Characters that a prefix may not have: braces are the tag's, `!` sets the relay's own names apart, `*` is a pattern of ACLs.
pub const NOT_IN_PREFIX: &[char] = &['{', '}', '!', '*'];

/// The names of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// The hash: epoch, numbers, and the state of each node.
    pub hash: Bytes,
    /// The stream: the last batches.
    pub stream: Bytes,
    /// The channel: every batch.
    pub channel: Bytes,
}

impl TopicNames {
    /// The names of `topic` below `prefix`.
    pub fn new(prefix: &str, topic: &str) -> Self {
        let mut name = format!("{prefix}:{{").into_bytes();
        for &byte in topic.as_bytes() {
            if byte < 0x21 || b"%{}".contains(&byte) {
                name.extend_from_slice(format!("%{byte:02X}").as_bytes());
            } else {
                name.push(byte);
            }
        }
        name.push(b'}');
        let with = |end: &[u8]| Bytes::from([&name, end].concat());
        TopicNames {
            hash: with(b""),
            stream: with(b":s"),
            channel: with(b":c"),
        }
    }
}

/// The channel on which nodes introduce themselves.
pub fn hello_channel(prefix: &str) -> Bytes {
    format!("{prefix}!hello").into()
}

/// The key and the channel of one worker of a node, for probes and fences.
pub fn own_channel(prefix: &str, node: NodeId, worker: u16) -> Bytes {
    format!("{prefix}!{node}.{worker}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_of_a_topic_have_one_tag() {
        let names = TopicNames::new("fanwire", "/a b/{c}%\n/é");
        assert_eq!(names.hash, "fanwire:{/a%20b/%7Bc%7D%25%0A/é}");
        assert_eq!(names.stream, "fanwire:{/a%20b/%7Bc%7D%25%0A/é}:s");
        assert_eq!(names.channel, "fanwire:{/a%20b/%7Bc%7D%25%0A/é}:c");
    }

    #[test]
    fn different_topics_have_different_names() {
        let names =
            ["/a", "/a}", "/a%7D", "/a:c", "/a}:c", "/A"].map(|topic| TopicNames::new("p", topic));
        let mut all: Vec<&Bytes> = names
            .iter()
            .flat_map(|names| [&names.hash, &names.stream, &names.channel])
            .collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn the_relays_own_names_are_no_topics() {
        assert_eq!(hello_channel("p"), "p!hello");
        assert_eq!(own_channel("p", NodeId(0xab), 3), "p!00000000000000ab.3");
    }
}
