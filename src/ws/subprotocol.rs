//! Subprotocols (RFC 6455, section 1.9): the names that a client offers, and the names that the relay may select.
//!
//! The configuration reads each [`Subprotocol`] once. The handshake reads the [`Offer`] of a request, and `port` chooses. Names
//! of the configuration have no meaning here: the relay selects one because many clients refuse a connection whose offer is not
//! answered.

use std::fmt;

use tungstenite::http::header;

use crate::http::request::RequestHead;
use crate::http::token::is_token;

/// The longest name in the configuration, in bytes. Registered names have at most 40.
pub(crate) const MAX_NAME_BYTES: usize = 128;

/// Names with these beginnings, in any case, are never selected by a list: they have meanings of their own.
const RESERVED: [&str; 2] = ["fanwire", BEARER];

/// The beginning of a name that carries a token, because web pages cannot set headers. It is never selected.
const BEARER: &str = "bearer.";

/// The entry for any name.
const ANY: &str = "*";

/// An entry of `server.subprotocols`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// The first name of the client, whatever it is.
    Any,
    /// This name.
    Name(Box<str>),
}

/// The reason for which a text is not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubprotocolError {
    /// It is not a token (RFC 9110, section 5.6.2).
    NotAToken,
    /// It is longer than [`MAX_NAME_BYTES`].
    TooLong,
    /// It has this beginning, which is reserved. A token may follow.
    Reserved(&'static str),
}

impl Subprotocol {
    /// Reads `*` or a name.
    pub fn new(text: &str) -> Result<Subprotocol, SubprotocolError> {
        if text == ANY {
            Ok(Subprotocol::Any)
        } else if !is_token(text) {
            Err(SubprotocolError::NotAToken)
        } else if text.len() > MAX_NAME_BYTES {
            Err(SubprotocolError::TooLong)
        } else if let Some(beginning) = reserved_beginning(text) {
            Err(SubprotocolError::Reserved(beginning))
        } else {
            Ok(Subprotocol::Name(text.into()))
        }
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subprotocol::Any => f.write_str(ANY),
            Subprotocol::Name(name) => f.write_str(name),
        }
    }
}

/// The names that a client offers, in its order. Members of the list that are no names are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<'a>(Vec<&'a str>);

impl<'a> Offer<'a> {
    /// Reads all fields with names, which are one list (section 11.3.4).
    pub(crate) fn of(head: &RequestHead<'a>) -> Offer<'a> {
        let values = head.values(header::SEC_WEBSOCKET_PROTOCOL.as_str());
        let members = values.flat_map(|value| value.split(|&byte| byte == b','));
        let names = members.filter_map(|member| str::from_utf8(member.trim_ascii()).ok());
        Offer(names.filter(|name| is_token(name)).collect())
    }

    /// The number of names. The names themselves are in no log, because some clients put a token there.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has this name. Names are case-sensitive, as browsers compare them.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    /// The first name that may be selected.
    pub fn first(&self) -> Option<&'a str> {
        let mut names = self.0.iter().copied();
        names.find(|name| reserved_beginning(name).is_none())
    }
}

/// The tokens that a client offers among its subprotocols, as Kubernetes and `AnyCable` take them.
pub(crate) fn bearer_tokens<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = &'a [u8]> {
    let names = Offer::of(head).0.into_iter();
    let tokens = names.filter(|name| reserved_beginning(name) == Some(BEARER));
    tokens.map(|name| &name.as_bytes()[BEARER.len()..])
}

fn reserved_beginning(name: &str) -> Option<&'static str> {
    let begins = |reserved: &&str| {
        let start = name.get(..reserved.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(reserved))
    };
    RESERVED.into_iter().find(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lines: &str) -> Vec<String> {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        let offer = Offer::of(&head);
        offer.0.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn an_offer_is_a_list_over_all_fields() {
        assert_eq!(names(""), Vec::<String>::new());
        assert_eq!(names("Sec-WebSocket-Protocol: a\r\n"), ["a"]);
        let lines = "Sec-WebSocket-Protocol: b ,\ta\r\nsec-websocket-protocol: v2.c!\r\n";
        assert_eq!(names(lines), ["b", "a", "v2.c!"]);
    }

    #[test]
    fn what_is_no_name_is_left_out() {
        for value in ["", ",", "a b", "a/b", "\"a\"", "a=b", "a;b", "é", "(a)"] {
            let lines = format!("Sec-WebSocket-Protocol: {value}\r\n");
            assert_eq!(names(&lines), Vec::<String>::new(), "{value}");
        }
        assert_eq!(names("Sec-WebSocket-Protocol: ,a b,, c,\r\n"), ["c"]);
    }

    #[test]
    fn an_entry_is_a_name_that_is_not_reserved_or_an_asterisk() {
        assert_eq!(Subprotocol::new("*"), Ok(Subprotocol::Any));
        for name in [
            "chat",
            "mqtt",
            "graphql-transport-ws",
            "fan",
            "bearer",
            "a*",
        ] {
            let entry = Subprotocol::new(name).expect(name);
            assert_eq!(entry.to_string(), name);
        }
        for (text, error) in [
            ("", SubprotocolError::NotAToken),
            ("a b", SubprotocolError::NotAToken),
            ("a,b", SubprotocolError::NotAToken),
            ("é", SubprotocolError::NotAToken),
            ("a\r\nb", SubprotocolError::NotAToken),
            (&"x".repeat(129), SubprotocolError::TooLong),
            ("fanwire", SubprotocolError::Reserved("fanwire")),
            ("fanwire.v1", SubprotocolError::Reserved("fanwire")),
            ("Fanwire-x", SubprotocolError::Reserved("fanwire")),
            ("bearer.secret", SubprotocolError::Reserved("bearer.")),
            ("BEARER.secret", SubprotocolError::Reserved("bearer.")),
        ] {
            assert_eq!(Subprotocol::new(text), Err(error), "{text}");
        }
        assert!(Subprotocol::new(&"x".repeat(128)).is_ok());
    }

    #[test]
    fn the_first_name_is_not_a_reserved_one() {
        let first = |names: &[&'static str]| Offer(names.to_vec()).first();
        assert_eq!(first(&["a", "b"]), Some("a"));
        assert_eq!(first(&["fanwire.v1", "bearer.x", "b"]), Some("b"));
        assert_eq!(first(&["Bearer.x"]), None);
        assert_eq!(first(&[]), None);
    }
}
