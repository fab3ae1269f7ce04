//! From the path of a request to the name of a topic.
//!
//! No other place decides a topic's name. The rules:
//!
//! - The query does not count: `/room?token=x` is `/room`.
//! - The path is percent-decoded once, byte by byte, and must then be UTF-8. So `/caf%C3%A9` and `/café` are one topic, and
//!   so are `/a%2Fb` and `/a/b`. A `%` without two hexadecimal digits is a bad request.
//! - Nothing else is normalised. Case, dots, empty segments and a trailing slash make different topics.
//! - A decoded name has at most [`MAX_TOPIC_BYTES`].
//! - With `relay.topics: single` every path leads to the topic `/`, and none is judged: old clients send any.

use std::sync::Arc;

use crate::config::Topics;
use crate::http::percent::{self, PercentError};

/// The longest name of a topic, in bytes. It has room for a few UUIDs in a path, and a hundred thousand hostile names take
/// 51 MB at most.
pub const MAX_TOPIC_BYTES: usize = 512;

/// A topic's name, shared by the shards that deal with the topic.
pub(crate) type TopicName = Arc<str>;

/// The reasons for which a path does not name a topic. Each is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// The decoded name is longer than [`MAX_TOPIC_BYTES`].
    TooLong,
    /// A `%` is not followed by two hexadecimal digits.
    BadEscape,
    /// The decoded path is not UTF-8.
    NotUtf8,
}

/// The topic that the path of a request names.
pub fn topic_name(topics: Topics, path: &str) -> Result<TopicName, TopicError> {
    match topics {
        Topics::Path => Ok(percent_decode(path)?.into()),
        Topics::Single => Ok("/".into()),
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

    fn topic(target: &str) -> Result<String, TopicError> {
        topic_name(Topics::Path, target).map(|name| name.to_string())
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
        let topic = |target| topic_name(Topics::Single, target);
        let long = "/x".repeat(MAX_TOPIC_BYTES);
        for path in ["/", "/a", "/%", "/%zz", "/%ff", &long] {
            assert_eq!(&*topic(path).unwrap(), "/", "{path}");
        }
    }
}
