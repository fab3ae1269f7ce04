//! Grants: the topics to which somebody may subscribe or publish, and for how long.
//!
//! They come from a verified token ([`super::token`]), or from the field `Fanwire-Grants` of a trusted proxy, whose syntax is
//! here: `publish=/a/* /b; subscribe=/a/*; exp=1796000000; sub=42`. The patterns are percent-encoded.

use std::time::Duration;

use crate::pattern::Pattern;
use crate::time::WallTime;

/// The tolerance for clocks that differ (RFC 7519, section 4.1.4).
pub(crate) const LEEWAY: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// The topics to which its bearer may publish.
    pub publish: Vec<Pattern>,
    /// The topics that its bearer may hear.
    pub subscribe: Vec<Pattern>,
    /// The end of the grants, in seconds since the Unix epoch. They are accepted for half a minute longer.
    pub expires_at: u64,
    /// The name of the bearer, if it is given.
    pub subject: Option<Box<str>>,
    /// The issuer of that name.
    pub issuer: Issuer,
}

/// The issuer of grants. Names of bearers are unique for one issuer only (RFC 7519, section 4.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// A trusted proxy.
    Proxy,
    /// The one that signs tokens, by its name if they have one.
    Signer(Option<Box<str>>),
}

/// The reason why the words of a proxy cannot be read as grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantsError {
    /// They break the syntax, or `exp` is missing.
    Malformed,
    /// They have expired.
    Expired,
}

/// Whether something that ends at `expires_at` is still accepted.
pub(crate) fn is_in_time(expires_at: u64, now: WallTime) -> bool {
    now.0 < Duration::from_secs(expires_at).saturating_add(LEEWAY)
}

impl Grants {
    /// Reads the words of a proxy. Names that are not known are refused: a word that is spelled wrong would grant too little, or
    /// for too long.
    pub fn from_proxy(value: &[u8], now: WallTime) -> Result<Grants, GrantsError> {
        let text = str::from_utf8(value).map_err(|_| GrantsError::Malformed)?;
        let (mut publish, mut subscribe, mut exp, mut sub) = (None, None, None, None);
        for part in text.split(';').map(str::trim) {
            if part.is_empty() {
                continue;
            }
            let (name, value) = part.split_once('=').ok_or(GrantsError::Malformed)?;
            let (place, value) = match name.trim_end() {
                "publish" => (&mut publish, value.trim()),
                "subscribe" => (&mut subscribe, value.trim()),
                "exp" => (&mut exp, value.trim()),
                "sub" => (&mut sub, value.trim()),
                _ => return Err(GrantsError::Malformed),
            };
            if place.replace(value).is_some() {
                return Err(GrantsError::Malformed);
            }
        }
        let expires_at = exp.and_then(seconds).ok_or(GrantsError::Malformed)?;
        let grants = Grants {
            publish: patterns(publish)?,
            subscribe: patterns(subscribe)?,
            expires_at,
            subject: sub.map(Into::into),
            issuer: Issuer::Proxy,
        };
        if is_in_time(expires_at, now) {
            Ok(grants)
        } else {
            Err(GrantsError::Expired)
        }
    }

    /// Memory of its texts, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let patterns = self.publish.iter().chain(&self.subscribe);
        let patterns: usize = patterns.map(Pattern::memory_bytes).sum();
        let issuer = match &self.issuer {
            Issuer::Proxy | Issuer::Signer(None) => 0,
            Issuer::Signer(Some(name)) => name.len(),
        };
        patterns + issuer + self.subject.as_ref().map_or(0, |name| name.len())
    }

    /// Whether its bearer may publish to the topic.
    pub fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether its bearer may hear the topic.
    pub fn may_subscribe(&self, topic: &str) -> bool {
        self.subscribe.iter().any(|pattern| pattern.matches(topic))
    }
}

/// Patterns with blanks between them. Nothing grants nothing.
fn patterns(list: Option<&str>) -> Result<Vec<Pattern>, GrantsError> {
    let words = list.unwrap_or_default().split_ascii_whitespace();
    words
        .map(|word| Pattern::from_encoded(word).map_err(|_| GrantsError::Malformed))
        .collect()
}

/// A number in digits. Rust's own parser would also accept a sign.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_796_000_000;

    fn read(value: &str) -> Result<Grants, GrantsError> {
        Grants::from_proxy(value.as_bytes(), WallTime(Duration::from_secs(NOW)))
    }

    #[test]
    fn the_words_of_a_proxy_are_grants() {
        let grants = read("publish=/a/* /b; subscribe=/a/*; exp=1796000000; sub=42").unwrap();
        assert!(grants.may_publish("/a/x") && grants.may_publish("/b"));
        assert!(grants.may_subscribe("/a/x") && !grants.may_subscribe("/b"));
        assert_eq!(grants.expires_at, NOW);
        assert_eq!(grants.subject.as_deref(), Some("42"));
        let none = read("exp=1796000001").unwrap();
        assert!(!none.may_publish("/") && !none.may_subscribe("/"));
        assert_eq!(none.subject, None);
    }

    #[test]
    fn blanks_and_an_empty_part_make_no_difference() {
        let plain = read("publish=/a /b;subscribe=/c;exp=1796000000").unwrap();
        let spaced = read(" publish = /a   /b ; subscribe= /c ;; exp =1796000000 ; ").unwrap();
        assert_eq!(plain, spaced);
    }

    #[test]
    fn patterns_are_percent_encoded() {
        let grants = read("publish=/a%20b%3B/* /%2A; exp=1796000000").unwrap();
        assert!(grants.may_publish("/a b;/x") && grants.may_publish("/*"));
        assert!(!grants.may_publish("/other"));
    }

    #[test]
    fn anything_else_is_malformed() {
        for value in [
            "",
            "publish=/a",
            "exp=",
            "exp=+1796000000",
            "exp=-1",
            "exp=1796000000.5",
            "exp=99999999999999999999999",
            "exp=1796000000; exp=1796000000",
            "publish=/a; publish=/b; exp=1796000000",
            "publish=a; exp=1796000000",
            "publish=/a*; exp=1796000000",
            "publish=/**/a; exp=1796000000",
            "publish=/%zz; exp=1796000000",
            "published=/a; exp=1796000000",
            "Publish=/a; exp=1796000000",
            "publish; exp=1796000000",
            "sub=1; sub=2; exp=1796000000",
        ] {
            assert_eq!(read(value), Err(GrantsError::Malformed), "{value}");
        }
        let now = WallTime(Duration::from_secs(NOW));
        assert_eq!(
            Grants::from_proxy(b"exp=1796000000; sub=\xff", now),
            Err(GrantsError::Malformed)
        );
    }

    #[test]
    fn grants_are_accepted_until_half_a_minute_after_their_end() {
        for (exp, expected) in [
            (NOW - 29, Ok(NOW - 29)),
            (NOW - 30, Err(GrantsError::Expired)),
            (0, Err(GrantsError::Expired)),
            (u64::MAX, Ok(u64::MAX)),
        ] {
            let read = read(&format!("exp={exp}"));
            assert_eq!(read.map(|grants| grants.expires_at), expected, "{exp}");
        }
    }
}
