//! From a request's target to a topic, and from a topic to the shard that owns it.
//!
//! This is the one place where a topic's name is decided:
//!
//! - The query and everything after it do not count: `/room?token=x` is `/room`.
//! - The path is percent-decoded once, byte by byte, and must then be UTF-8, so that `/caf%C3%A9` and `/café` meet, and
//!   so do `/a%2Fb` and `/a/b`. A `%` without two hexadecimal digits is a bad request.
//! - Nothing else is normalised: case, dots, empty segments and a trailing slash tell topics apart.
//! - A decoded name is at most [`MAX_TOPIC_BYTES`] long.
//! - With `relay.topics: single` every valid path leads to the topic `/`.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::config::Topics;
use crate::http::percent::{self, PercentError};
use crate::ids::ShardId;

/// Longest name of a topic in bytes. Long enough for a few UUIDs in a path, short enough that a hundred thousand
/// hostile names are some ten megabytes.
pub const MAX_TOPIC_BYTES: usize = 512;

/// A topic's name, shared by the shards that deal with the topic.
pub type TopicName = Arc<str>;

/// Why a target names no topic. The client's fault, each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// The decoded name is over [`MAX_TOPIC_BYTES`].
    TooLong,
    /// A `%` is not followed by two hexadecimal digits.
    BadEscape,
    /// The decoded path is not UTF-8.
    NotUtf8,
}

/// Names topics and finds their owners; the same on every shard of a relay.
#[derive(Clone, Debug)]
pub struct Router {
    topics: Topics,
    shards: u16,
    seed: u64,
}

impl Router {
    /// A router over `shards` shards. `seed` is drawn at start, so that nobody outside can aim topics at one shard.
    pub fn new(topics: Topics, shards: u16, seed: u64) -> Self {
        assert!(shards > 0, "a relay has a shard");
        Router {
            topics,
            shards,
            seed,
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId)
    }

    /// The topic that a request target (RFC 9112 section 3.2.1, origin form) names.
    pub fn topic(&self, target: &str) -> Result<TopicName, TopicError> {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let name = percent_decode(path)?;
        match self.topics {
            Topics::Path => Ok(name.into()),
            Topics::Single => Ok("/".into()),
        }
    }

    /// The shard that sequences `topic`.
    pub fn owner(&self, topic: &str) -> ShardId {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        topic.hash(&mut hasher);
        // The remainder is below `shards`, which is 16 bits wide.
        ShardId((hasher.finish() % u64::from(self.shards)) as u16)
    }
}

fn percent_decode(path: &str) -> Result<String, TopicError> {
    let decoded = percent::decode(path, MAX_TOPIC_BYTES).map_err(|error| match error {
        PercentError::TooLong => TopicError::TooLong,
        PercentError::BadEscape => TopicError::BadEscape,
    })?;
    String::from_utf8(decoded).map_err(|_| TopicError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(topics: Topics) -> Router {
        Router::new(topics, 4, 1)
    }

    fn topic(target: &str) -> Result<String, TopicError> {
        router(Topics::Path)
            .topic(target)
            .map(|name| name.to_string())
    }

    #[test]
    fn the_path_without_its_query_names_the_topic() {
        assert_eq!(topic("/room/1?token=x#y").unwrap(), "/room/1");
    }

    #[test]
    fn spellings_of_one_path_meet() {
        assert_eq!(topic("/caf%c3%A9"), topic("/café"));
        assert_eq!(topic("/a%2fb"), topic("/a/b"));
    }

    #[test]
    fn nothing_but_escapes_is_normalised() {
        assert_eq!(topic("/A/./b//").unwrap(), "/A/./b//");
        assert_eq!(topic("/100%2525").unwrap(), "/100%25");
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for target in ["/%", "/%a", "/%zz", "/%+1"] {
            assert_eq!(topic(target), Err(TopicError::BadEscape), "{target}");
        }
        assert_eq!(topic("/%ff"), Err(TopicError::NotUtf8));
    }

    #[test]
    fn a_name_has_a_longest_length() {
        let longest = format!("/{}", "x".repeat(MAX_TOPIC_BYTES - 1));
        assert_eq!(topic(&longest).unwrap(), longest);
        assert_eq!(topic(&format!("{longest}x")), Err(TopicError::TooLong));
    }

    #[test]
    fn with_a_single_topic_every_path_leads_to_it() {
        let router = router(Topics::Single);
        assert_eq!(router.topic("/a").unwrap(), router.topic("/b?c").unwrap());
        assert_eq!(router.topic("/%"), Err(TopicError::BadEscape));
    }

    #[test]
    fn topics_are_spread_over_all_shards() {
        let router = router(Topics::Path);
        let mut topics_by_shard = [0; 4];
        for n in 0..4000 {
            topics_by_shard[router.owner(&format!("/{n}")).index()] += 1;
        }
        assert!(
            topics_by_shard
                .iter()
                .all(|&count| (800..1200).contains(&count)),
            "{topics_by_shard:?}"
        );
    }
}
