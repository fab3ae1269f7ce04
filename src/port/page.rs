//! The page to try a topic in a browser.
//!
//! A browser that opens a topic's URL gets one document. It connects to its own path, sends, and shows what comes. It is made of
//! `clients/fanwire.js` and the files in `src/port/page/`. It loads nothing, and its policy allows its own script and style only.
//!
//! [`decision`](super::decision) asks who gets it, and a shard answers with it. Any page could connect as this one does, so it
//! gives nobody a right.

use std::sync::LazyLock;

use data_encoding::BASE64;
use ring::digest::{SHA256, digest};

use crate::http::accept;
use crate::http::request::RequestHead;
use crate::http::response::{Body, Connection, Response, Status};
use crate::time::WallTime;
use crate::ws::handshake;

const STYLE: &str = include_str!("page/style.css");

/// The client comes first: the page's own script uses it.
const SCRIPT: &str = concat!(
    include_str!("../../clients/fanwire.js"),
    "\n",
    include_str!("page/script.js")
);

const DOCUMENT: &str = concat!(
    include_str!("page/head.html"),
    "<style>",
    include_str!("page/style.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script type=\"module\">",
    include_str!("../../clients/fanwire.js"),
    "\n",
    include_str!("page/script.js"),
    "</script>\n"
);

/// The policy of the document. `'self'` is the relay itself, by WebSocket as well.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// Fields that a proxy adds. One of them is enough: the client is then somebody else than the peer of the connection.
const FIELDS_OF_PROXIES: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Whether a browser that shows pages asks. Neither the version nor the path counts.
pub(super) fn is_asked_for(head: &RequestHead<'_>) -> bool {
    // A HEAD describes its topic.
    head.method == "GET"
        && head.has_valid_host()
        && !head.has_body()
        && !handshake::is_wanted(head)
        && accept::names(head, "text/html")
        // A program that asks for these as well does not show pages.
        && !accept::names(head, "text/event-stream")
        && !accept::names(head, "application/json")
}

/// Whether the request is for this machine and no proxy has passed it on. Other sites' names can lead here, too, so the name
/// counts.
pub(super) fn is_local(head: &RequestHead<'_>) -> bool {
    let is_passed_on = |name: &&str| head.values(name).next().is_some();
    head.authority().is_some_and(|host| host.is_loopback())
        && !FIELDS_OF_PROXIES.iter().any(is_passed_on)
}

/// The response with the page.
pub(crate) fn answer(now: Option<WallTime>) -> Vec<u8> {
    Response::new(Status::Ok)
        .header("Content-Security-Policy", &POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("X-Frame-Options", "DENY")
        .header("Referrer-Policy", "no-referrer")
        .header("Cross-Origin-Opener-Policy", "same-origin")
        .header("Cache-Control", "no-store")
        .header("Vary", "Accept, Origin")
        .body("text/html; charset=utf-8", DOCUMENT.as_bytes())
        .encode(Connection::Close, Body::Send, now)
}

/// An expression for the policy that allows exactly this text.
fn hash(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    format!("sha256-{}", BASE64.encode(digest.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `Accept` of Chromium and of Firefox when a URL is opened.
    const BROWSERS: [&str; 2] = [
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
         application/signed-exchange;v=b3;q=0.7",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ];

    fn asks(head: &str) -> bool {
        is_asked_for(&RequestHead::parse(head.as_bytes()).unwrap())
    }

    fn local(fields: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        is_local(&RequestHead::parse(head.as_bytes()).unwrap())
    }

    #[test]
    fn a_browser_that_opens_a_url_asks_for_the_page() {
        for accept in BROWSERS {
            for line in [
                "GET /a HTTP/1.1",
                "GET /a?b HTTP/1.1",
                "GET http://a/ HTTP/1.0",
            ] {
                assert!(
                    asks(&format!("{line}\r\nHost: a\r\nAccept: {accept}\r\n\r\n")),
                    "{line}"
                );
            }
        }
        assert!(asks(
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nAccept: Text/HTML ; q=0.1\r\n\r\n"
        ));
    }

    #[test]
    fn programs_and_other_requests_do_not() {
        let accept = "Accept: text/html\r\n";
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/*\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html;q=0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html; level=1; q=0.000\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json, text/html\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream, text/html\r\n\r\n",
            &format!("POST / HTTP/1.1\r\nHost: a\r\n{accept}\r\n"),
            &format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n"
            ),
            &format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{accept}\r\n"),
            &format!("GET / HTTP/1.1\r\n{accept}\r\n"),
        ] {
            assert!(!asks(head), "{head}");
        }
    }

    #[test]
    fn only_a_loopback_name_without_a_proxy_is_local() {
        assert!(local("Host: localhost:8443\r\n") && local("Host: [::1]\r\nOrigin: http://a\r\n"));
        assert!(!local("Host: relay.example\r\n") && !local(""));
        for name in FIELDS_OF_PROXIES {
            assert!(
                !local(&format!("Host: localhost\r\n{name}: a\r\n")),
                "{name}"
            );
        }
        // A host in the target wins over the field (RFC 9112, section 3.2.2).
        let head = "GET http://relay.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert!(!is_local(&RequestHead::parse(head.as_bytes()).unwrap()));
    }

    #[test]
    fn the_document_has_exactly_the_script_and_the_style_that_its_policy_allows() {
        let between = |begin: &str, end: &str| {
            let (_, rest) = DOCUMENT.split_once(begin).unwrap();
            let (inner, rest) = rest.split_once(end).unwrap();
            assert!(
                !rest.contains(begin) && !rest.contains(end),
                "{begin} is there twice"
            );
            inner
        };
        assert_eq!(between("<style>", "</style>"), STYLE);
        assert_eq!(between("<script type=\"module\">", "</script>"), SCRIPT);
        // Neither works under the policy.
        assert!(!DOCUMENT.contains(" style=") && !DOCUMENT.contains(" onclick="));
        // Messages are never read as markup.
        for door in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!SCRIPT.contains(door), "{door}");
        }
    }

    #[test]
    fn the_page_may_load_nothing_and_stand_in_no_other() {
        let answer = String::from_utf8(answer(None)).unwrap();
        let head = answer.strip_suffix(DOCUMENT).unwrap();
        for field in [
            "HTTP/1.1 200 OK\r\n",
            "\r\nContent-Security-Policy: default-src 'none'; script-src 'sha256-",
            "; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'\r\n",
            "\r\nX-Content-Type-Options: nosniff\r\n",
            "\r\nReferrer-Policy: no-referrer\r\n",
            "\r\nCache-Control: no-store\r\n",
            "\r\nVary: Accept, Origin\r\n",
            "\r\nContent-Type: text/html; charset=utf-8\r\n",
        ] {
            assert!(head.contains(field), "{field} is not in {head}");
        }
    }
}
