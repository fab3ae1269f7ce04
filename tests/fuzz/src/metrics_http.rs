//! Any bytes, in any pieces, through the HTTP of the metrics port: [`Requests`], routes and answers.
//!
//! It checks:
//!
//! - The answers do not depend on how the bytes are cut.
//! - Each request gets the answer that a second reader of the same bytes expects from the RFCs.
//! - Each answer is one whole response, without a body for HEAD.
//! - A connection holds no more than it may.
//!
//! The input is whether the relay is ready, four sizes of reads, and the bytes of the client.

use fanwire::internals::http::{
    Answer, Body, Connection, Health, MAX_HEAD_BYTES, Requests, Route, Status,
};

use super::head::{self, Head, Reading};
use super::input::{self, Input};

const EXPOSITION: &str = "fanwire_connected_clients 1\n";

/// An answer as far as it is foreseen.
#[derive(Debug, PartialEq)]
struct Reply {
    status: u16,
    has_body: bool,
    is_last: bool,
}

/// See the module.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_ready = input.byte() & 1 != 0;
    let reads = input.reads();
    let bytes = input.rest();

    let whole = serve(std::iter::once(bytes), is_ready);
    let cut = serve(input::pieces(bytes, reads), is_ready);
    assert_eq!(cut, whole, "how requests are cut changes nothing");

    let answers = whole.iter().map(|answer| read_answer(answer));
    let answers: Vec<Reply> = answers.collect();
    let (expected, is_open) = expected(bytes, is_ready);
    assert!(
        answers.starts_with(&expected),
        "{answers:?}, not {expected:?}"
    );
    match &answers[expected.len()..] {
        [] => {}
        // The relay may refuse input that the second reader does not understand or would wait for. It then closes.
        [last] => assert!(is_open && last.is_last && (400..600).contains(&last.status)),
        [_, ..] => panic!("{answers:?}, not {expected:?}"),
    }
}

/// The answers that a connection gets.
fn serve<'a>(pieces: impl Iterator<Item = &'a [u8]>, is_ready: bool) -> Vec<Vec<u8>> {
    let health = if is_ready {
        Health::Ready
    } else {
        Health::Draining
    };
    let (mut requests, mut answers) = (Requests::default(), Vec::new());
    for piece in pieces {
        requests.push(piece);
        loop {
            let (answer, body, connection) = match requests.take() {
                Ok(None) => break,
                Ok(Some(request)) => {
                    let answer = request.route.answer(health, || Some(EXPOSITION.into()));
                    check_route(request.route, &answer);
                    (answer, request.body, request.connection)
                }
                Err(refused) => (Answer::of(refused.status), refused.body, Connection::Close),
            };
            answers.push(answer.encode(connection, body, None));
            if connection == Connection::Close {
                return answers;
            }
        }
        assert!(
            requests.len() <= MAX_HEAD_BYTES,
            "a head over the limit is kept"
        );
    }
    answers
}

fn check_route(route: Route, answer: &Answer) {
    let is_page = matches!(route, Route::Metrics | Route::Live | Route::Ready);
    let is_fine = matches!(answer.status, Status::Ok | Status::ServiceUnavailable);
    assert_eq!(is_page, is_fine, "{route:?}");
}

/// Takes an answer apart.
fn read_answer(answer: &[u8]) -> Reply {
    super::upgrade::check_answer(answer);
    let end = head::find(answer, b"\r\n\r\n").expect("a head");
    let text = std::str::from_utf8(&answer[..end]).expect("ASCII");
    Reply {
        status: text[9..12].parse().expect("three digits"),
        has_body: answer.len() > end + 4,
        is_last: text.contains("\r\nConnection: close"),
    }
}

/// The answers that are due to the whole requests in front of `bytes`. `true` if the connection stays open after them.
fn expected(mut bytes: &[u8], is_ready: bool) -> (Vec<Reply>, bool) {
    let mut replies = Vec::new();
    while let Reading::Head(head) = head::read(bytes) {
        if head.len > MAX_HEAD_BYTES || head.fields.len() > fanwire::internals::http::MAX_HEADERS {
            break;
        }
        let reply = reply(&head, is_ready);
        let is_last = reply.is_last;
        replies.push(reply);
        bytes = &bytes[head.len..];
        if is_last {
            return (replies, false);
        }
    }
    (replies, true)
}

fn reply(head: &Head<'_>, is_ready: bool) -> Reply {
    let is_zero = |length: &&[u8]| !length.is_empty() && length.iter().all(|&digit| digit == b'0');
    let has_body = !head.values("transfer-encoding").is_empty()
        || !head.values("content-length").iter().all(is_zero);
    let is_read = matches!(head.method, "GET" | "HEAD");
    let path = path(head.target);
    let page = match path {
        Some("/metrics" | "/livez") => Some(200),
        Some("/readyz") => Some(if is_ready { 200 } else { 503 }),
        Some(_) | None => None,
    };
    let status = match page {
        _ if !head.has_valid_host() => 400,
        _ if path.is_none() => {
            if is_read {
                400
            } else {
                405
            }
        }
        Some(_) if !is_read => 405,
        Some(_) | None if has_body => 400,
        Some(status) => status,
        None => 404,
    };
    let options = head.members("connection");
    let says = |option: &str| options.iter().any(|other| other == option);
    let keeps = match head.minor {
        0 => says("keep-alive"),
        _ => !says("close"),
    };
    Reply {
        status,
        has_body: Body::for_method(head.method) == Body::Send,
        is_last: status == 400 || has_body || !keeps,
    }
}

/// The path of a target in origin or absolute form, without its query.
fn path(target: &str) -> Option<&str> {
    if target.contains('#') {
        return None;
    }
    let whole = target.split('?').next().unwrap_or(target);
    if target.starts_with('/') {
        return Some(whole);
    }
    let (scheme, rest) = whole.split_once("://")?;
    let is_known = ["http", "https", "ws", "wss"].contains(&scheme.to_ascii_lowercase().as_str());
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    (is_known && head::is_authority(authority)).then_some(path)
}
