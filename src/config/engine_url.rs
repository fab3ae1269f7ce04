//! The address of an engine, or of a Sentinel, with the user and the password in it.
//!
//! `types` has it in `cluster.engines`. The password is never printed: neither by an error, nor by a log line, nor by
//! `--print-config`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lists::{self, Entry};

/// Printed in place of a password.
const HIDDEN: &str = "(hidden)";

/// The longest path of a Unix socket in bytes (unix(7)).
const MAX_PATH_BYTES: usize = 107;

/// The longest host name (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

const FORM: &str =
    "a URL such as redis://user:password@10.0.0.1:6379, rediss://… or unix:/run/redis/redis.sock";

/// A secret for an engine.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl Password {
    /// A password.
    pub(crate) fn new(text: &str) -> Self {
        Password(text.into())
    }

    /// The secret. It goes to the engine and nowhere else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// The server that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineHost {
    /// Over the network.
    Tcp {
        /// An address, a host name, or the name of a Sentinel group.
        host: String,
        /// The port, if the URL has one.
        port: Option<u16>,
        /// Whether TLS is spoken.
        is_tls: bool,
    },
    /// On the same machine.
    Unix(PathBuf),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUrl {
    /// The server.
    pub host: EngineHost,
    /// The user, if it is not the default one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Password>,
}

impl EngineUrl {
    /// Whether TLS is spoken.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.host, EngineHost::Tcp { is_tls: true, .. })
    }

    /// Whether a port is named.
    pub(super) fn has_port(&self) -> bool {
        matches!(self.host, EngineHost::Tcp { port: Some(_), .. })
    }

    /// The path of the socket, if it is one on the same machine.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.host {
            EngineHost::Unix(path) => Some(path),
            EngineHost::Tcp { .. } => None,
        }
    }
}

/// The problem with a text that should be such a URL. It never has a part of the text: that may be a password.
type Problem = (&'static str, &'static str);

fn parse(text: &str) -> Result<EngineUrl, Problem> {
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let (is_unix, is_tls) = match scheme {
        "redis" => (false, false),
        "rediss" => (false, true),
        "unix" => (true, false),
        _ => return Err(("a text that is no URL of an engine", FORM)),
    };
    if rest.contains(['?', '#']) {
        return Err((
            "a URL with a `?` or a `#`",
            "a URL without them; in a user or password, write them as %3F and %23",
        ));
    }
    let authority = rest.strip_prefix("//");
    if authority.is_none() && !is_unix {
        return Err(("a URL without `//` behind the scheme", FORM));
    }
    let rest = authority.unwrap_or(rest);
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => (credentials, rest),
        None => ("", rest),
    };
    let (user, password) = read_credentials(credentials)?;
    let host = if is_unix {
        read_path(rest)?
    } else {
        read_host(rest, is_tls)?
    };
    Ok(EngineUrl {
        host,
        user,
        password,
    })
}

fn read_credentials(text: &str) -> Result<(Option<String>, Option<Password>), Problem> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    if text.contains('/') {
        return Err((
            "a URL with a `/` in the user or password",
            "%2F in its place",
        ));
    }
    if password == Some(HIDDEN) {
        return Err((
            "the placeholder that --print-config prints for a password",
            "the password itself",
        ));
    }
    let user = decode(user)?;
    let password = password.map(decode).transpose()?;
    if password.as_deref() == Some("") {
        return Err((
            "a URL with an empty password",
            "the password, or no `:` in front of the `@`",
        ));
    }
    let user = (!user.is_empty()).then_some(user);
    Ok((user, password.as_deref().map(Password::new)))
}

fn decode(text: &str) -> Result<String, Problem> {
    const PROBLEM: Problem = (
        "a URL with a broken percent sign in the user or password",
        "%25 for a percent sign",
    );
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, behind @ ..] = rest else {
            return Err(PROBLEM);
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(PROBLEM);
        };
        // Two hexadecimal digits are a byte.
        bytes.push((high * 16 + low) as u8);
        rest = behind;
    }
    let text = String::from_utf8(bytes).map_err(|_| PROBLEM)?;
    if text.chars().any(char::is_control) {
        return Err((
            "a URL with a control character in the user or password",
            "a user and a password of plain characters",
        ));
    }
    Ok(text)
}

fn read_path(text: &str) -> Result<EngineHost, Problem> {
    const FIX: &str = "an absolute path of at most 107 bytes, as in unix:/run/redis/redis.sock";
    if !text.starts_with('/') || text.ends_with('/') {
        return Err(("a `unix:` URL that does not name a socket", FIX));
    }
    if text.len() > MAX_PATH_BYTES || text.contains('\0') {
        return Err(("a `unix:` URL with a path that no socket can have", FIX));
    }
    Ok(EngineHost::Unix(text.into()))
}

fn read_host(text: &str, is_tls: bool) -> Result<EngineHost, Problem> {
    let (text, path) = text.split_once('/').unwrap_or((text, ""));
    if !path.is_empty() {
        return Err((
            "a URL with a database number",
            "the URL without it: channels are the same in all databases, so the relays use number 0 only; \
             another cluster.prefix keeps two groups of relays apart",
        ));
    }
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, behind) = inner
            .split_once(']')
            .ok_or(("a URL with `[` and no `]`", FORM))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(("a URL with brackets around no IPv6 address", FORM));
        }
        (host, behind)
    } else {
        text.split_at(text.find(':').unwrap_or(text.len()))
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if host.is_empty() || host.len() > MAX_HOST_BYTES || !host.chars().all(is_name) {
        return Err(("a URL without a valid host", FORM));
    }
    let port = match port.strip_prefix(':') {
        Some(digits) => {
            let port = digits.parse().ok().filter(|&port| port != 0);
            Some(port.ok_or(("a URL without a valid port", "a port from 1 to 65535"))?)
        }
        None if port.is_empty() => None,
        None => return Err(("a URL with something behind its `]`", FORM)),
    };
    Ok(EngineHost::Tcp {
        host: host.into(),
        port,
        is_tls,
    })
}

/// Writes all but the password.
impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.host {
            EngineHost::Tcp { is_tls: false, .. } => "redis://",
            EngineHost::Tcp { is_tls: true, .. } => "rediss://",
            EngineHost::Unix(_) => "unix:",
        })?;
        let has_credentials = self.user.is_some() || self.password.is_some();
        if has_credentials && self.path().is_some() {
            f.write_str("//")?;
        }
        if let Some(user) = &self.user {
            for byte in user.bytes() {
                if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                    write!(f, "{}", char::from(byte))?;
                } else {
                    write!(f, "%{byte:02X}")?;
                }
            }
        }
        if self.password.is_some() {
            write!(f, ":{HIDDEN}")?;
        }
        if has_credentials {
            f.write_str("@")?;
        }
        match &self.host {
            EngineHost::Tcp { host, port, .. } => {
                if host.contains(':') {
                    write!(f, "[{host}]")?;
                } else {
                    f.write_str(host)?;
                }
                match port {
                    Some(port) => write!(f, ":{port}"),
                    None => Ok(()),
                }
            }
            EngineHost::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Entry for EngineUrl {
    const LIST: &'static str =
        "a list such as `[redis://10.0.0.1:26379, redis://10.0.0.2:26379, redis://10.0.0.3:26379]`";

    fn read(text: &str) -> Result<Self, (String, String)> {
        parse(text).map_err(|(problem, fix)| (problem.into(), fix.into()))
    }
}

impl<'de> Deserialize<'de> for EngineUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        lists::one(deserializer)
    }
}

impl Serialize for EngineUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "redis://10.0.0.1:6379",
            "redis://redis.example",
            "rediss://relay@redis.example:6380",
            "redis://[::1]:6379",
            "unix:/run/redis/redis.sock",
            "unix://relay@/run/redis/redis.sock",
            "redis://my_master",
        ] {
            assert_eq!(parse(text).expect(text).to_string(), text);
        }
        assert_eq!(parse("redis://a/"), parse("redis://a"));
        assert_eq!(parse("unix:///a/b"), parse("unix:/a/b"));
    }

    #[test]
    fn users_and_passwords_are_decoded() {
        let url = parse("redis://re%6cay:p%40ss:w%2Frd@10.0.0.1").expect("a URL");
        assert_eq!(url.user.as_deref(), Some("relay"));
        assert_eq!(
            url.password.as_ref().map(Password::reveal),
            Some("p@ss:w/rd")
        );
        let url = parse("redis://:only@10.0.0.1").expect("a URL");
        assert_eq!((url.user.is_some(), url.password.is_some()), (false, true));
    }

    #[test]
    fn a_password_is_never_written() {
        for text in [
            "redis://relay:correct-horse@10.0.0.1",
            "unix://:correct-horse@/run/redis.sock",
        ] {
            let url = parse(text).expect(text);
            let written = format!(
                "{url} {url:?} {}",
                serde_yaml::to_string(&url).expect("YAML")
            );
            assert!(!written.contains("horse"), "{written}");
            assert!(written.contains("hidden"), "{written}");
            let printed = parse(&url.to_string()).expect_err("the placeholder");
            assert!(printed.0.contains("placeholder"), "{printed:?}");
        }
    }

    #[test]
    fn what_is_no_url_of_an_engine_is_refused_without_a_quote() {
        for (text, problem) in [
            ("", "no URL"),
            ("10.0.0.1:6379", "no URL"),
            ("http://a", "no URL"),
            ("redis:a", "without `//`"),
            ("redis://", "valid host"),
            ("redis://a b", "valid host"),
            ("redis://a:0", "valid port"),
            ("redis://a:x", "valid port"),
            ("redis://a:70000", "valid port"),
            ("redis://a/3", "database number"),
            ("redis://a/0", "database number"),
            ("redis://a?db=3", "`?`"),
            ("redis://[::1", "no `]`"),
            ("redis://[a]", "no IPv6 address"),
            ("redis://[::1]x", "behind its `]`"),
            ("redis://u:@a", "empty password"),
            ("redis://u:p/w@a", "`/` in the user or password"),
            ("redis://u:p%4@a", "broken percent sign"),
            ("redis://u:p%zz@a", "broken percent sign"),
            ("redis://u:p%0a@a", "control character"),
            ("unix:run/redis.sock", "does not name a socket"),
            ("unix:/run/", "does not name a socket"),
        ] {
            let refused = parse(text).expect_err(text);
            assert!(refused.0.contains(problem), "{text}: {refused:?}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert!(parse(&long).is_err());
    }
}
