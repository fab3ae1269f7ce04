//! The client that proxies name in a request: `X-Forwarded-For`, and `Forwarded` (RFC 7239).
//!
//! `port` asks for it when a request comes from a trusted proxy. Each proxy adds the address that it was reached from at the
//! end. So the headers are read from the end, and the first address that is not a trusted proxy is the client. Everything
//! before it may be invented by the client, and is not looked at.
//!
//! A client can send the header that its proxy does not set. So if both headers are there and name different clients,
//! neither is believed.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

use super::request::RequestHead;
use super::token::is_tchar;

const X_FORWARDED_FOR: &str = "X-Forwarded-For";
const FORWARDED: &str = "Forwarded";

/// The most addresses that are looked at. Each is compared with the whole list of trusted proxies.
const MAX_HOPS: usize = 64;

/// The fault of a proxy that does not name its clients. Its configuration may lack a line.
const MISSING: &str =
    "the proxy sets neither X-Forwarded-For nor Forwarded; let it set one of them";

/// The most bytes that are kept of a header that is not understood.
const MAX_SENT_BYTES: usize = 256;

/// The client, as far as trusted proxies name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// The client's address, or that of the proxy that hides it. `None` if the proxy that sent the request names nobody.
    pub(crate) address: Option<IpAddr>,
    /// A header that is missing or not understood.
    pub(crate) fault: Option<Fault>,
}

/// A header that is missing or not understood. The proxy has a fault, or passes on what its client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The fault, with the name of the header, for an operator.
    pub(crate) problem: &'static str,
    /// The part that is not understood, as it was sent. It may be cut.
    pub(crate) sent: Vec<u8>,
}

/// A step on the way of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hop<'a> {
    /// The request came from here.
    Address(IpAddr),
    /// The proxy does not tell: `unknown`, a name that it made up, or no `for`.
    Hidden,
    /// The text does not say from where.
    Broken(&'static str, Cow<'a, [u8]>),
}

/// The client that the headers of a request name. `trusts` says whether an address is a trusted proxy's.
pub(crate) fn client(head: &RequestHead<'_>, trusts: impl Fn(IpAddr) -> bool) -> Forwarded {
    let listed = read(head, X_FORWARDED_FOR, hops_of_list, &trusts);
    let forwarded = read(head, FORWARDED, hops_of_forwarded, &trusts);
    match (listed, forwarded) {
        (None, None) => Forwarded {
            address: None,
            fault: Some(Fault::new(MISSING, b"")),
        },
        (Some(only), None) | (None, Some(only)) => only,
        (Some(one), Some(other)) if one == other => one,
        (Some(listed), Some(forwarded)) => Forwarded {
            address: None,
            fault: forwarded
                .fault
                .or(listed.fault)
                .or_else(|| Some(disagreement(listed.address, forwarded.address))),
        },
    }
}

/// Reads one of the headers from its end to the client; `None` if it is not there, or empty.
fn read<'a>(
    head: &RequestHead<'a>,
    name: &str,
    hops: fn(&'a [u8]) -> Vec<Hop<'a>>,
    trusts: &impl Fn(IpAddr) -> bool,
) -> Option<Forwarded> {
    // Several lines are one list, in their order (RFC 9110, section 5.3).
    let lines: Vec<&[u8]> = head.values(name).collect();
    let hops = lines
        .into_iter()
        .rev()
        .flat_map(|line| hops(line).into_iter().rev());
    let mut found = None;
    for hop in hops.take(MAX_HOPS) {
        let found: &mut Forwarded = found.get_or_insert_default();
        match hop {
            Hop::Address(address) => {
                found.address = Some(address);
                if !trusts(address) {
                    break;
                }
            }
            Hop::Hidden => break,
            Hop::Broken(problem, sent) => {
                found.fault = Some(Fault::new(problem, &sent));
                break;
            }
        }
    }
    found
}

fn disagreement(listed: Option<IpAddr>, forwarded: Option<IpAddr>) -> Fault {
    let name = |address: Option<IpAddr>| address.map_or("nobody".to_owned(), |it| it.to_string());
    let sent = format!(
        "{X_FORWARDED_FOR}: {}, {FORWARDED}: {}",
        name(listed),
        name(forwarded)
    );
    let problem = "X-Forwarded-For and Forwarded name different clients: let the proxy remove the one that it does not set";
    Fault::new(problem, sent.as_bytes())
}

impl Fault {
    fn new(problem: &'static str, sent: &[u8]) -> Fault {
        let sent = sent[..sent.len().min(MAX_SENT_BYTES)].to_vec();
        Fault { problem, sent }
    }
}

/// The steps in a line of `X-Forwarded-For`. Empty members of the list do not count.
fn hops_of_list(line: &[u8]) -> Vec<Hop<'_>> {
    let last = line.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let last = last.filter(|member| !member.is_empty()).take(MAX_HOPS);
    let mut hops: Vec<_> = last
        .map(|member| {
            let hop = node(member);
            hop.unwrap_or_else(|| {
                let problem = "X-Forwarded-For has something else than an address";
                Hop::Broken(problem, Cow::Borrowed(member))
            })
        })
        .collect();
    hops.reverse();
    hops
}

/// The steps in a line of `Forwarded`. A line that breaks the syntax is one broken step, because a quotation mark that a
/// client left open may hide what its proxy added.
fn hops_of_forwarded(line: &[u8]) -> Vec<Hop<'_>> {
    let mut elements = Elements { rest: line };
    let mut hops = Vec::new();
    while !elements.rest.is_empty() {
        match elements.next() {
            Ok(None) => {}
            Ok(Some(hop)) => hops.push(hop),
            Err(Broken) => {
                let problem = "Forwarded breaks the syntax of RFC 7239";
                return vec![Hop::Broken(problem, Cow::Borrowed(line))];
            }
        }
    }
    hops
}

/// A value that breaks the syntax.
struct Broken;

/// The elements of a line of `Forwarded` that are still to be read (RFC 7239, section 4).
struct Elements<'a> {
    rest: &'a [u8],
}

/// A parameter of an element.
struct Pair<'a> {
    name: &'a [u8],
    value: Cow<'a, [u8]>,
}

impl<'a> Elements<'a> {
    /// Takes the next element and the comma behind it; `None` if it is empty.
    fn next(&mut self) -> Result<Option<Hop<'a>>, Broken> {
        let mut hop = None;
        let mut is_empty = true;
        loop {
            self.skip_blanks();
            if let Some(Pair { name, value }) = self.pair()? {
                is_empty = false;
                if name.eq_ignore_ascii_case(b"for") && hop.replace(value).is_some() {
                    return Err(Broken);
                }
            }
            self.skip_blanks();
            match self.rest.split_first() {
                Some((b';', rest)) => self.rest = rest,
                Some((b',', rest)) => {
                    self.rest = rest;
                    break;
                }
                None => break,
                Some(_) => return Err(Broken),
            }
        }
        Ok(match hop {
            None if is_empty => None,
            None => Some(Hop::Hidden),
            Some(value) => Some(match node(&value) {
                Some(hop) => hop,
                None => Hop::Broken(
                    "Forwarded has something else than an address in `for`",
                    value,
                ),
            }),
        })
    }

    /// Takes a parameter; `None` if there is none.
    fn pair(&mut self) -> Result<Option<Pair<'a>>, Broken> {
        let name = self.take_while(is_tchar);
        if name.is_empty() {
            return Ok(None);
        }
        self.rest = self.rest.strip_prefix(b"=").ok_or(Broken)?;
        let value = match self.rest.strip_prefix(b"\"") {
            Some(rest) => {
                self.rest = rest;
                Cow::Owned(self.quoted()?)
            }
            // Addresses with a colon must be quoted, but some senders do not.
            None => Cow::Borrowed(self.take_while(|byte| is_tchar(byte) || b":[]".contains(&byte))),
        };
        Ok(Some(Pair { name, value }))
    }

    /// Takes the rest of a quoted string.
    fn quoted(&mut self) -> Result<Vec<u8>, Broken> {
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first().ok_or(Broken)?;
            self.rest = rest;
            match byte {
                b'"' => return Ok(value),
                b'\\' => {
                    let (&escaped, rest) = rest.split_first().ok_or(Broken)?;
                    self.rest = rest;
                    value.push(escaped);
                }
                byte => value.push(byte),
            }
        }
    }

    fn take_while(&mut self, is_in: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !is_in(byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn skip_blanks(&mut self) {
        self.take_while(|byte| byte == b' ' || byte == b'\t');
    }
}

/// Reads a node: an address, `unknown` or an invented name, with or without a port (RFC 7239, section 6). Other headers
/// than `Forwarded` have IPv6 addresses without brackets. `None` for anything else.
fn node(text: &[u8]) -> Option<Hop<'static>> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(Hop::Address(IpAddr::from(address).to_canonical()));
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_whole.then(|| Hop::Address(IpAddr::from(address).to_canonical()));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    if !port.is_none_or(is_port) {
        return None;
    }
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return Some(Hop::Address(address.into()));
    }
    (name.eq_ignore_ascii_case("unknown") || is_invented(name)).then_some(Hop::Hidden)
}

/// Up to five digits, or an invented name.
fn is_port(text: &str) -> bool {
    let is_number = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number || is_invented(text)
}

/// A name that a proxy made up, to hide its client (RFC 7239, section 6.3).
fn is_invented(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_allowed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Proxies are in 10.0.0.0/8 and at `2001:db8::1`.
    fn trusts(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address == Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        }
    }

    fn read_lines(lines: &[&str]) -> Forwarded {
        let fields: String = lines.iter().flat_map(|line| [*line, "\r\n"]).collect();
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = RequestHead::parse(request.as_bytes()).expect("well-formed");
        client(&head, trusts)
    }

    /// The address in well-formed headers.
    fn named(lines: &[&str]) -> Option<IpAddr> {
        let forwarded = read_lines(lines);
        assert_eq!(forwarded.fault, None, "{lines:?}");
        forwarded.address
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "it is compared with what a request may lack"
    )]
    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    /// The problem with headers, and the address that is still believed.
    fn fault(lines: &[&str]) -> (String, Option<IpAddr>) {
        let forwarded = read_lines(lines);
        let fault = forwarded.fault.unwrap_or_else(|| panic!("{lines:?}"));
        (
            String::from_utf8(fault.sent).expect("text"),
            forwarded.address,
        )
    }

    #[test]
    fn a_request_without_the_headers_names_nobody() {
        for lines in [
            &[][..],
            &["X-Forwarded-For:", "Forwarded: "],
            &["X-Forwarded-For: , ,", "X-Real-IP: 192.0.2.1"],
        ] {
            let forwarded = read_lines(lines);
            assert_eq!(forwarded.address, None);
            assert_eq!(forwarded.fault.unwrap().problem, MISSING, "{lines:?}");
        }
        // This proxy hides its client on purpose.
        for line in ["X-Forwarded-For: unknown", "Forwarded: for=_hidden"] {
            assert_eq!(read_lines(&[line]), Forwarded::default());
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        for (list, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
            ("198.51.100.7,192.0.2.1, 10.0.0.1 , 10.9.9.9", "192.0.2.1"),
            ("nonsense, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
            ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
            ("192.0.2.1, 2001:db8::1", "192.0.2.1"),
        ] {
            let line = format!("x-forwarded-for: {list}");
            assert_eq!(named(&[&line]), address(client), "{list}");
            let elements: Vec<_> = list
                .split(',')
                .map(|hop| format!("for=\"{}\"", hop.trim()))
                .collect();
            let line = format!("forwarded: {}", elements.join(", "))
                .replace("2001:db8::1", "[2001:db8::1]");
            assert_eq!(named(&[&line]), address(client), "{line}");
        }
    }

    #[test]
    fn several_lines_are_one_list_in_their_order() {
        let lines = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"];
        assert_eq!(named(&lines), address("192.0.2.2"));
        let lines = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.0.0.1"];
        assert_eq!(named(&lines), address("192.0.2.1"));
        let lines = [
            "Forwarded: for=192.0.2.1, for=192.0.2.2",
            "Forwarded: for=10.0.0.1",
        ];
        assert_eq!(named(&lines), address("192.0.2.2"));
    }

    #[test]
    fn an_address_may_have_brackets_and_a_port() {
        for (list, client) in [
            ("192.0.2.1:47011", "192.0.2.1"),
            ("2001:db8::2", "2001:db8::2"),
            ("[2001:db8::2]", "2001:db8::2"),
            ("[2001:db8::2]:47011", "2001:db8::2"),
            ("[2001:db8::2]:_port", "2001:db8::2"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
        ] {
            assert_eq!(
                named(&[&format!("X-Forwarded-For: {list}")]),
                address(client),
                "{list}"
            );
            assert_eq!(
                named(&[&format!("Forwarded: for=\"{list}\"")]),
                address(client),
                "{list}"
            );
        }
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_shows_it() {
        for (value, client) in [
            ("for=192.0.2.43", "192.0.2.43"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            (
                "proto=https;host=\"a, for=1.2.3.4\";FOR=\"192.0.2.1\"",
                "192.0.2.1",
            ),
            ("by=\"a\\\"b\";for=\"192\\.0.2.1\"", "192.0.2.1"),
            (";; for=192.0.2.1 ;\tproto=https; , ,", "192.0.2.1"),
            // Not quoted, as some send it.
            ("for=192.0.2.1:80", "192.0.2.1"),
            ("for=[2001:db8::2]:80;proto=http", "2001:db8::2"),
        ] {
            assert_eq!(
                named(&[&format!("Forwarded: {value}")]),
                address(client),
                "{value}"
            );
        }
    }

    #[test]
    fn a_client_that_is_hidden_is_known_by_the_proxy_that_hides_it() {
        for list in [
            "unknown",
            "UNKNOWN",
            "_hidden",
            "_SEVKISEK:8080",
            "unknown:_x",
        ] {
            for (before, after, known) in [
                ("", "", None),
                ("192.0.2.1, ", "", None),
                ("", ", 10.0.0.1", address("10.0.0.1")),
                ("192.0.2.1, ", ", 10.0.0.2, 10.0.0.1", address("10.0.0.2")),
            ] {
                let list = format!("{before}{list}{after}");
                assert_eq!(
                    named(&[&format!("X-Forwarded-For: {list}")]),
                    known,
                    "{list}"
                );
                let elements: Vec<_> = list
                    .split(", ")
                    .map(|hop| format!("for=\"{hop}\""))
                    .collect();
                assert_eq!(
                    named(&[&format!("Forwarded: {}", elements.join(","))]),
                    known,
                    "{list}"
                );
            }
        }
        assert_eq!(named(&["Forwarded: for=192.0.2.1, proto=https"]), None);
    }

    #[test]
    fn something_else_than_an_address_is_a_fault_and_the_rest_is_not_looked_at() {
        for member in [
            "localhost",
            "192.0.2.1.",
            "192.0.2.01",
            "192.0.2.1:",
            "192.0.2.1:123456",
            "192.0.2.1:http",
            "[192.0.2.1]",
            "[2001:db8::2",
            "[2001:db8::2]x",
            "fe80::1%eth0",
            "_",
            "-",
            "192.0.2.1 192.0.2.2",
        ] {
            let list = format!("X-Forwarded-For: 192.0.2.1, {member}");
            assert_eq!(fault(&[&list]), (member.into(), None));
            let list = format!("X-Forwarded-For: 192.0.2.1, {member}, 10.0.0.1");
            assert_eq!(fault(&[&list]), (member.into(), address("10.0.0.1")));
            let line = format!("Forwarded: for=\"{member}\";proto=http");
            assert_eq!(fault(&[&line]), (member.into(), None));
        }
    }

    #[test]
    fn a_line_that_breaks_the_syntax_of_forwarded_is_not_believed_at_all() {
        for value in [
            "192.0.2.1",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\",
            "for=\"192.0.2.1\"x",
            "for=192.0.2.1;for=192.0.2.2",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=192.0.2.1 proto=http",
            "=192.0.2.1",
            "for=192.0.2.1, \"",
        ] {
            assert_eq!(
                fault(&[&format!("Forwarded: {value}")]),
                (value.into(), None)
            );
        }
        // The proxy's own line, behind a line of its client, is believed.
        assert_eq!(
            named(&["Forwarded: for=\"", "Forwarded: for=192.0.2.1"]),
            address("192.0.2.1")
        );
    }

    #[test]
    fn a_client_cannot_hide_what_its_proxy_adds_behind_a_quotation_mark() {
        for sent in [
            "for=198.51.100.7;x=\"",
            "for=198.51.100.7, for=\"",
            "x=\"\\",
        ] {
            for added in [
                "for=192.0.2.1",
                "for=\"192.0.2.1\"",
                "for=192.0.2.1;by=\"[::1]\";x=\"y\"",
            ] {
                let forwarded = read_lines(&[&format!("Forwarded: {sent}, {added}")]);
                assert_eq!(forwarded.address, None, "{sent} {added}");
                assert!(forwarded.fault.is_some(), "{sent} {added}");
            }
        }
    }

    /// Text that a client may send to be mistaken.
    fn claims() -> impl Strategy<Value = String> {
        let pieces = [
            "for=",
            "192.0.2.9",
            "\"",
            "\\",
            ",",
            ";",
            " ",
            "=",
            "unknown",
            "_x",
            "[::1]",
            ":80",
            "10.0.0.1",
            "by=",
            "\u{e4}",
        ];
        proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..12)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_a_client_claims_it_counts_by_its_own_address_or_its_proxys(
            claim in claims(),
            others in claims(),
            is_new_line: bool,
        ) {
            for (name, own) in [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")] {
                let lines = if is_new_line {
                    vec![format!("{name}: {claim}"), format!("{name}: {own}")]
                } else {
                    vec![format!("{name}: {claim}, {own}")]
                };
                let other = if name == "Forwarded" { "X-Forwarded-For" } else { "Forwarded" };
                let lines = lines.into_iter().chain([format!("{other}: {others}")]);
                let lines: Vec<String> = lines.collect();
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                let found = read_lines(&lines).address;
                prop_assert!(found == address("192.0.2.1") || found.is_none(), "{lines:?}: {found:?}");
            }
        }
    }

    #[test]
    fn of_two_headers_that_disagree_neither_is_believed() {
        let agreeing = [
            "X-Forwarded-For: 192.0.2.1",
            "Forwarded: for=\"192.0.2.1:80\"",
        ];
        assert_eq!(named(&agreeing), address("192.0.2.1"));
        let differing = ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=198.51.100.7"];
        assert_eq!(
            fault(&differing),
            (
                "X-Forwarded-For: 192.0.2.1, Forwarded: 198.51.100.7".into(),
                None
            )
        );
        let hidden = ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=unknown"];
        assert_eq!(
            fault(&hidden),
            ("X-Forwarded-For: 192.0.2.1, Forwarded: nobody".into(), None)
        );
        let broken = ["X-Forwarded-For: 192.0.2.1", "Forwarded: for="];
        assert_eq!(fault(&broken), (String::new(), None));
    }

    #[test]
    fn a_chain_without_end_is_read_to_a_limit() {
        let list = format!(
            "X-Forwarded-For: 192.0.2.1{}",
            ", 10.0.0.1".repeat(MAX_HOPS)
        );
        assert_eq!(named(&[&list]), address("10.0.0.1"));
        let list = format!(
            "X-Forwarded-For: 192.0.2.1{}",
            ", 10.0.0.1".repeat(MAX_HOPS - 1)
        );
        assert_eq!(named(&[&list]), address("192.0.2.1"));
    }

    #[test]
    fn a_fault_keeps_little_of_what_was_sent() {
        let (sent, _) = fault(&[&format!("X-Forwarded-For: {}", "x".repeat(5000))]);
        assert_eq!(sent.len(), MAX_SENT_BYTES);
    }
}
