//! A Sentinel's answer to the question where the master is.
//!
//! The thread that looks for engines asks it (`net::engine::finder`). The link checks the role of the server that was named.

use super::command::Command;
use super::reply::Reply;

/// The longest reply that a Sentinel may send, in bytes. An address is short.
pub(crate) const MAX_REPLY_BYTES: usize = 16 << 10;

/// The longest host name (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// Asks where the master of this name is.
pub(crate) fn question(master: &str) -> Command {
    Command::new("SENTINEL")
        .arg("get-master-addr-by-name")
        .arg(master.to_owned())
}

/// Why a Sentinel's answer names no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoMaster {
    /// It watches no master of this name.
    Unknown,
    /// It refuses the question, with this error.
    Refused(String),
    /// Its answer is not that of a Sentinel.
    NotUnderstood,
}

impl std::fmt::Display for NoMaster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoMaster::Unknown => f.write_str(
                "it watches no master of this name: compare cluster.engines[…].master with `sentinel monitor` there",
            ),
            NoMaster::Refused(error) => write!(f, "it refuses the question: {error}"),
            NoMaster::NotUnderstood => {
                f.write_str("its answer is not understood: is this a Sentinel?")
            }
        }
    }
}

/// Reads the answer: the host, and the port.
pub(crate) fn master(reply: &Reply) -> Result<(String, u16), NoMaster> {
    match reply {
        Reply::Nil => Err(NoMaster::Unknown),
        Reply::Error(text) => Err(NoMaster::Refused(text.clone())),
        Reply::Array(items) => address(items).ok_or(NoMaster::NotUnderstood),
        Reply::Status(_) | Reply::Integer(_) | Reply::Bulk(_) => Err(NoMaster::NotUnderstood),
    }
}

fn address(items: &[Reply]) -> Option<(String, u16)> {
    let [host, port] = items else {
        return None;
    };
    let host = std::str::from_utf8(host.bytes()?).ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
    if host.is_empty() || host.len() > MAX_HOST_BYTES || !host.chars().all(is_plain) {
        return None;
    }
    let port = u16::try_from(port.number()?)
        .ok()
        .filter(|&port| port != 0)?;
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn bulk(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn an_address_is_read() {
        let found = |host, port| master(&Reply::Array(vec![bulk(host), bulk(port)]));
        assert_eq!(found("10.0.0.1", "6379"), Ok(("10.0.0.1".into(), 6379)));
        assert_eq!(found("::1", "1"), Ok(("::1".into(), 1)));
        assert_eq!(
            found("redis-1.example", "6380"),
            Ok(("redis-1.example".into(), 6380))
        );
        for (host, port) in [
            ("", "1"),
            ("a b", "1"),
            ("a\n", "1"),
            ("a", "0"),
            ("a", "65536"),
            ("a", "x"),
        ] {
            assert_eq!(
                found(host, port),
                Err(NoMaster::NotUnderstood),
                "{host} {port}"
            );
        }
    }

    #[test]
    fn all_else_is_an_error_with_its_reason() {
        assert_eq!(master(&Reply::Nil), Err(NoMaster::Unknown));
        let refused = master(&Reply::Error("NOPERM no".into())).expect_err("an error");
        assert_eq!(refused.to_string(), "it refuses the question: NOPERM no");
        for reply in [
            Reply::Integer(1),
            bulk("10.0.0.1"),
            Reply::Array(Vec::new()),
            Reply::Array(vec![bulk("a"), bulk("1"), bulk("2")]),
            Reply::Array(vec![Reply::Nil, Reply::Integer(1)]),
        ] {
            assert_eq!(master(&reply), Err(NoMaster::NotUnderstood), "{reply:?}");
        }
    }
}
