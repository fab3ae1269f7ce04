//! Patterns for topics, as grants and rules have them: `/room/*`, `/private/**`, `/news`.
//!
//! A pattern goes by the segments of a name, which are its parts between slashes. `*` is one whole segment, which may be empty.
//! `**` at the end is any number of segments, or none, so `/private/**` has `/private` and `/private/`. All else is plain text.
//!
//! A pattern is compared with the decoded name of a topic. Nothing in a name is special: `..` is a name, and so is `*`.

pub(crate) mod set;

use std::fmt;

use crate::http::percent;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    segments: Box<[Segment]>,
    /// It ends in `**`.
    has_rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Exactly this text.
    Text(Box<str>),
    /// Any text.
    Any,
}

/// The reason why a text is not a pattern. It follows the text in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It does not begin with a slash.
    NoSlash,
    /// An asterisk is part of a longer segment.
    Asterisk,
    /// `**` is not the last segment.
    RestInside,
    /// A percent sign is not followed by two hexadecimal digits, or the decoded text is not UTF-8.
    Escape,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PatternError::NoSlash => "does not begin with `/`",
            PatternError::Asterisk => "has `*` beside other characters of a segment",
            PatternError::RestInside => "has `**` before its end",
            PatternError::Escape => "is not percent-encoded text",
        })
    }
}

impl Pattern {
    /// Reads a pattern whose text is as it is meant.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        Pattern::read(text, |segment| Ok(vec![segment.into()]))
    }

    /// Memory of its segments, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let texts = self.segments.iter().map(|segment| match segment {
            Segment::Text(text) => text.len(),
            Segment::Any => 0,
        });
        size_of::<Pattern>() + size_of_val(&*self.segments) + texts.sum::<usize>()
    }

    /// Reads a pattern whose text is percent-encoded. It is decoded once. `%2F` is a slash, and `%2A` is a plain asterisk.
    pub fn from_encoded(text: &str) -> Result<Pattern, PatternError> {
        Pattern::read(text, |segment| {
            let decoded =
                percent::decode(segment, segment.len()).map_err(|_| PatternError::Escape)?;
            let decoded = String::from_utf8(decoded).map_err(|_| PatternError::Escape)?;
            Ok(decoded.split('/').map(Into::into).collect())
        })
    }

    fn read(
        text: &str,
        plain: impl Fn(&str) -> Result<Vec<Box<str>>, PatternError>,
    ) -> Result<Pattern, PatternError> {
        let path = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        let (path, has_rest) = match path.strip_suffix("**") {
            Some("") => (None, true),
            Some(before) => match before.strip_suffix('/') {
                Some(before) => (Some(before), true),
                None => return Err(PatternError::Asterisk),
            },
            None => (Some(path), false),
        };
        let mut segments = Vec::new();
        for segment in path.into_iter().flat_map(|path| path.split('/')) {
            match segment {
                "*" => segments.push(Segment::Any),
                "**" => return Err(PatternError::RestInside),
                _ if segment.contains('*') => return Err(PatternError::Asterisk),
                _ => segments.extend(plain(segment)?.into_iter().map(Segment::Text)),
            }
        }
        Ok(Pattern {
            segments: segments.into(),
            has_rest,
        })
    }

    /// Whether this decoded name is the only one that the pattern has.
    pub(crate) fn is_only(&self, name: &str) -> bool {
        let has_one = !self.has_rest && !self.segments.contains(&Segment::Any);
        has_one && self.matches(name)
    }

    /// Whether the topic with this decoded name is one of the pattern's.
    pub fn matches(&self, name: &str) -> bool {
        let Some(path) = name.strip_prefix('/') else {
            return false;
        };
        let mut parts = path.split('/');
        let begins = self.segments.iter().all(|segment| {
            parts.next().is_some_and(|part| match segment {
                Segment::Any => true,
                Segment::Text(text) => **text == *part,
            })
        });
        begins && (self.has_rest || parts.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap_or_else(|error| panic!("{text} {error}"))
    }

    #[test]
    fn an_asterisk_is_one_segment_and_two_at_the_end_are_any_number() {
        for (text, yes, no) in [
            ("/", &["/"][..], &["/a", "//"][..]),
            (
                "/news",
                &["/news"],
                &["/", "/news/", "/news/a", "/News", "/new", "/newsx"],
            ),
            (
                "/room/*",
                &["/room/1", "/room/", "/room/*", "/room/.."],
                &["/room", "/room/1/2", "/rooms/1"],
            ),
            ("/*", &["/", "/a"], &["/a/", "//"]),
            ("/*/b", &["/a/b", "//b"], &["/b", "/a/a/b"]),
            ("/**", &["/", "/a", "//", "/a/b"], &[]),
            (
                "/private/**",
                &["/private", "/private/", "/private/a/b"],
                &["/", "/privately", "/private2/a"],
            ),
            ("/*/**", &["/", "/a", "/a/b"], &[]),
            ("/a//b", &["/a//b"], &["/a/b"]),
            ("/a/../b", &["/a/../b"], &["/b"]),
        ] {
            for name in yes {
                assert!(pattern(text).matches(name), "{text} has {name}");
            }
            for name in no {
                assert!(!pattern(text).matches(name), "{text} has not {name}");
            }
        }
        assert!(!pattern("/**").matches("no path"));
    }

    #[test]
    fn any_other_asterisk_is_refused() {
        for (text, error) in [
            ("", PatternError::NoSlash),
            ("*", PatternError::NoSlash),
            ("**", PatternError::NoSlash),
            ("room/*", PatternError::NoSlash),
            ("/a*", PatternError::Asterisk),
            ("/*a", PatternError::Asterisk),
            ("/a**", PatternError::Asterisk),
            ("/***", PatternError::Asterisk),
            ("/a/*b/c", PatternError::Asterisk),
            ("/**/a", PatternError::RestInside),
            ("/**/", PatternError::RestInside),
            ("/**/**", PatternError::RestInside),
            ("/a/**/b", PatternError::RestInside),
        ] {
            assert_eq!(Pattern::new(text), Err(error), "{text}");
            assert_eq!(Pattern::from_encoded(text), Err(error), "{text}");
        }
    }

    #[test]
    fn an_encoded_pattern_is_decoded_once_and_an_encoded_asterisk_is_plain() {
        let encoded = |text: &str| Pattern::from_encoded(text).unwrap();
        assert!(encoded("/caf%C3%A9/*").matches("/café/x"));
        assert!(encoded("/a%2Fb").matches("/a/b"));
        assert!(encoded("/%2525").matches("/%25"));
        assert!(encoded("/users/%2A").matches("/users/*"));
        assert!(!encoded("/users/%2A").matches("/users/eve"));
        assert!(!encoded("/users/%2A%2A").matches("/users/eve"));
        for text in ["/%", "/%zz", "/%ff", "/a%2"] {
            assert_eq!(
                Pattern::from_encoded(text),
                Err(PatternError::Escape),
                "{text}"
            );
        }
        // A plain pattern is not decoded at all.
        assert!(pattern("/a%2Fb").matches("/a%2Fb"));
    }

    /// An independent matcher, which tries all ways to divide the name.
    fn agrees(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            ([], []) | (["**"], _) => true,
            ([first, pattern @ ..], [part, name @ ..]) => {
                (first == part || *first == "*") && agrees(pattern, name)
            }
            ([], _) | ([_, ..], []) => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_has_the_names_that_an_independent_matcher_finds(
            before in proptest::collection::vec("|a|b|\\*|\\.\\.|%", 0..4),
            has_rest: bool,
            name in proptest::collection::vec("|a|b|\\*|\\.\\.|%", 1..5),
        ) {
            let mut segments: Vec<&str> = before.iter().map(String::as_str).collect();
            if has_rest || segments.is_empty() {
                segments.push("**");
            }
            let parts: Vec<&str> = name.iter().map(String::as_str).collect();
            // A literal asterisk in the name is text, so the pattern's asterisk is the only special one.
            let matched = pattern(&format!("/{}", segments.join("/"))).matches(&format!("/{}", parts.join("/")));
            prop_assert_eq!(matched, agrees(&segments, &parts));
        }

        #[test]
        fn no_text_is_read_as_a_pattern_for_more_than_it_says(text in "/[ab*/%2F.]{0,8}", name in "/[ab*/%2F.]{0,8}") {
            if let Ok(pattern) = Pattern::new(&text) && !text.contains('*') {
                prop_assert_eq!(pattern.matches(&name), text == name);
            }
        }
    }
}
