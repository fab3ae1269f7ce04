//! Extensions (RFC 6455, section 9): the offers of permessage-deflate (RFC 7692) in a request, and the answer to them.
//!
//! `port` asks for the answer if `compression.enabled` is set. An offer that cannot be accepted is passed over: a client that
//! gets no extension sends plain messages. So nothing here is an error.
//!
//! The answer never has a parameter that was not offered. RFC 7692 allows some, but several clients then give up.

use std::borrow::Cow;
use std::fmt;

use tungstenite::http::header;

use crate::http::request::RequestHead;
use crate::http::token::is_token;

/// The name of the extension.
const PERMESSAGE_DEFLATE: &str = "permessage-deflate";
/// The client's messages do not refer to earlier ones (section 7.1.1.2).
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
/// The longest distance in the client's messages (section 7.1.2.2).
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";
/// The same in the server's messages (section 7.1.2.1).
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";

/// The values of both parameters for windows. They have no zeros in front.
const WINDOW_BITS: [&str; 8] = ["8", "9", "10", "11", "12", "13", "14", "15"];

/// The only window that the relay promises to keep to, because it is no promise at all.
const LARGEST_WINDOW_BITS: &str = "15";

/// permessage-deflate, as it is agreed with a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deflate {
    /// The client's messages do not refer to earlier ones, so the relay keeps nothing of them.
    pub client_no_context_takeover: bool,
    /// The client has asked for the largest window of the server by its name.
    pub server_max_window_bits: bool,
}

impl Deflate {
    /// Accepts the first offer of a request that can be accepted.
    pub fn choose(head: &RequestHead<'_>) -> Option<Deflate> {
        let mut lines = head.values(header::SEC_WEBSOCKET_EXTENSIONS.as_str());
        lines.find_map(|line| parts(line, b',').find_map(Deflate::accept))
    }

    /// Accepts one member of the list, if it is an offer of permessage-deflate with parameters that are known, right, there
    /// once, and acceptable.
    fn accept(member: &[u8]) -> Option<Deflate> {
        let mut parts = parts(member, b';');
        if parts.next()? != PERMESSAGE_DEFLATE.as_bytes() {
            return None;
        }
        let mut agreed = Deflate::default();
        let mut has_client_window = false;
        for part in parts {
            let (name, value) = parameter(part)?;
            let is_new = match (name, value.as_deref()) {
                (CLIENT_NO_CONTEXT_TAKEOVER, None) => {
                    !std::mem::replace(&mut agreed.client_no_context_takeover, true)
                }
                (SERVER_MAX_WINDOW_BITS, Some(LARGEST_WINDOW_BITS)) => {
                    !std::mem::replace(&mut agreed.server_max_window_bits, true)
                }
                (CLIENT_MAX_WINDOW_BITS, value)
                    if value.is_none_or(|bits| WINDOW_BITS.contains(&bits)) =>
                {
                    !std::mem::replace(&mut has_client_window, true)
                }
                // The server's messages are the same for all members of a topic. So there is one window for them, which is of
                // one size and is kept. No client can have it in another way, whatever else it offers.
                _ => return None,
            };
            if !is_new {
                return None;
            }
        }
        Some(agreed)
    }
}

/// The value of `Sec-WebSocket-Extensions` in the 101.
impl fmt::Display for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PERMESSAGE_DEFLATE)?;
        if self.client_no_context_takeover {
            write!(f, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if self.server_max_window_bits {
            write!(f, "; {SERVER_MAX_WINDOW_BITS}={LARGEST_WINDOW_BITS}")?;
        }
        Ok(())
    }
}

/// The parts of a list, without the blanks around them. A separator within quotation marks does not count.
fn parts(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = list.split(move |&byte| {
        let is_literal = is_escaped;
        is_escaped = is_quoted && !is_literal && byte == b'\\';
        if byte == b'"' && !is_literal {
            is_quoted = !is_quoted;
        }
        byte == separator && !is_quoted
    });
    parts.map(<[u8]>::trim_ascii)
}

/// A parameter's name, and its value if it has one; `None` if the text does not have this form.
fn parameter(text: &[u8]) -> Option<(&str, Option<Cow<'_, str>>)> {
    let text = str::from_utf8(text).ok()?;
    let Some((name, value)) = text.split_once('=') else {
        return is_token(text).then_some((text, None));
    };
    let (name, value) = (name.trim_ascii(), value.trim_ascii());
    let value = match value.strip_prefix('"') {
        None => Cow::Borrowed(value),
        Some(quoted) => Cow::Owned(unquoted(quoted)?),
    };
    (is_token(name) && is_token(&value)).then_some((name, Some(value)))
}

/// The content of a quoted text. `quoted` begins behind the first quotation mark, and must end with the second.
fn unquoted(quoted: &str) -> Option<String> {
    let mut content = String::new();
    let mut rest = quoted.chars();
    loop {
        match rest.next()? {
            '"' => return rest.as_str().is_empty().then_some(content),
            '\\' => content.push(rest.next()?),
            plain => content.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to these lines.
    fn answer(values: &[&str]) -> Option<String> {
        let mut lines = vec!["GET / HTTP/1.1".to_owned(), "Host: a".to_owned()];
        lines.extend(
            values
                .iter()
                .map(|value| format!("Sec-WebSocket-Extensions:{value}")),
        );
        let request = lines.join("\r\n") + "\r\n\r\n";
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        Deflate::choose(&head).map(|agreed| agreed.to_string())
    }

    const PLAIN: Option<&str> = Some("permessage-deflate");

    #[test]
    fn clients_get_what_they_offered_and_nothing_else() {
        for (client, offer, expected) in [
            (
                "Chromium, Python websockets, ws, undici, Bun",
                "permessage-deflate; client_max_window_bits",
                PLAIN,
            ),
            ("Firefox, Java, Go nhooyr", "permessage-deflate", PLAIN),
            (
                "wsproto, Beast",
                "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
                Some("permessage-deflate; server_max_window_bits=15"),
            ),
            (
                "autobahn, websocketpp",
                "permessage-deflate; client_no_context_takeover; client_max_window_bits",
                Some("permessage-deflate; client_no_context_takeover"),
            ),
            (
                "gorilla",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                None,
            ),
            ("Netty", "permessage-deflate;client_max_window_bits", PLAIN),
            (
                "Netty, in several variants",
                "permessage-deflate;client_max_window_bits=8;server_max_window_bits=9, permessage-deflate",
                PLAIN,
            ),
            ("Safari", "x-webkit-deflate-frame", None),
            ("nobody", "", None),
        ] {
            assert_eq!(answer(&[offer]).as_deref(), expected, "{client}");
        }
    }

    #[test]
    fn the_first_acceptable_offer_of_all_lines_is_taken() {
        for (values, expected) in [
            (
                &[
                    "permessage-deflate; server_max_window_bits=10, permessage-deflate; client_no_context_takeover",
                ][..],
                Some("permessage-deflate; client_no_context_takeover"),
            ),
            (
                &[
                    "permessage-bzip2, permessage-deflate; server_no_context_takeover",
                    "x, permessage-deflate",
                ],
                PLAIN,
            ),
            (
                &[
                    "permessage-deflate",
                    "permessage-deflate; client_no_context_takeover",
                ],
                PLAIN,
            ),
            (&[",, ,permessage-deflate,"], PLAIN),
        ] {
            assert_eq!(answer(values).as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn blanks_and_quotation_marks_change_nothing() {
        for offer in [
            "permessage-deflate;client_max_window_bits=\"15\"",
            "permessage-deflate ;\tclient_max_window_bits = 15",
            "permessage-deflate; client_max_window_bits=\"1\\5\" ",
            "x; y=\"permessage-deflate, z; \\\"\"; w, permessage-deflate",
            "x; y=\"a\\\\\", permessage-deflate",
        ] {
            assert_eq!(answer(&[offer]).as_deref(), PLAIN, "{offer}");
        }
    }

    #[test]
    fn an_offer_with_a_parameter_that_is_not_right_is_passed_over() {
        for parameters in [
            "unknown",
            "unknown=15",
            "Client_max_window_bits",
            "client_no_context_takeover=1",
            "client_no_context_takeover=\"\"",
            "client_no_context_takeover; client_no_context_takeover",
            "server_no_context_takeover",
            "server_no_context_takeover=true",
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=8",
            "server_max_window_bits=14",
            "server_max_window_bits=16",
            "server_max_window_bits=015",
            "server_max_window_bits=+15",
            "server_max_window_bits=15 15",
            "server_max_window_bits=\"15",
            "server_max_window_bits=\"15\"5",
            "server_max_window_bits=15; server_max_window_bits=15",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=08",
            "client_max_window_bits=a",
            "client_max_window_bits=",
            "client_max_window_bits; client_max_window_bits=15",
            "client_max_window_bits=\"\\",
            "client max window bits",
            "=15",
            "",
            ";",
        ] {
            let offer = format!("permessage-deflate; {parameters}");
            assert_eq!(answer(&[&offer]), None, "{offer}");
            // The next offer counts. A quotation mark that does not end takes the rest of its line with it.
            let next = format!("permessage-deflate; {parameters}, permessage-deflate");
            let is_open = parameters.matches('"').count() % 2 == 1;
            assert_eq!(answer(&[&next]).is_some(), !is_open, "{next}");
            assert_eq!(answer(&[&offer, "permessage-deflate"]).as_deref(), PLAIN);
        }
    }

    #[test]
    fn the_name_is_exact() {
        for name in [
            "Permessage-Deflate",
            "permessage-deflate=1",
            "permessage-deflate2",
            "permessage deflate",
            "\"permessage-deflate\"",
        ] {
            assert_eq!(answer(&[name]), None, "{name}");
        }
    }
}
