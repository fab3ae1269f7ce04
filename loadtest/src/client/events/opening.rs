//! The request for an event stream, and the head of its answer.

use std::io::{ErrorKind, Read, Write};

use tungstenite::handshake::client::Request;

use crate::client::http::Head;
use crate::client::stream::Stream;

/// Bytes of one read.
const READ_BYTES: usize = 4 << 10;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Opening {
    stream: Stream,
    request: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

/// The state of a request after a step.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It waits for the peer.
    Waits(Opening),
    /// The stream is open. The bytes came behind the head.
    Done(Stream, Vec<u8>),
    /// It failed, for this reason.
    Failed(String),
}

impl Opening {
    /// A request on a stream that is connected, to the same place as `like`. `from` is the position to go on from.
    pub(crate) fn new(stream: Stream, like: &Request, from: Option<&str>) -> Opening {
        Opening {
            stream,
            request: request(like, from).into_bytes(),
            sent: 0,
            answer: Vec::new(),
        }
    }

    /// Goes on as far as it can.
    pub(crate) fn proceed(mut self) -> Progress {
        match self.step() {
            Ok(None) => Progress::Waits(self),
            Ok(Some(behind)) => Progress::Done(self.stream, behind),
            Err(reason) => Progress::Failed(reason),
        }
    }

    /// The bytes behind the head, once that is there.
    fn step(&mut self) -> Result<Option<Vec<u8>>, String> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the connection ended before an answer".to_owned()),
                Ok(bytes) => self.answer.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
            let head = Head::parse(&self.answer);
            if let Some(head) = head.map_err(|what| format!("the answer has {what}"))? {
                check(&head)?;
                return Ok(Some(self.answer.split_off(head.bytes)));
            }
        }
    }
}

fn request(like: &Request, from: Option<&str>) -> String {
    let target = like.uri().path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    let host = like.headers().get("Host");
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut request =
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n");
    if let Some(from) = from {
        request.extend(["Last-Event-ID: ", from, "\r\n"]);
    }
    request + "\r\n"
}

/// Refuses an answer that is not an event stream.
fn check(head: &Head) -> Result<(), String> {
    if head.status != 200 {
        return Err(format!("the answer was HTTP {}", head.status));
    }
    let media_type = head.field("content-type").unwrap_or_default();
    if media_type.split(';').next() != Some("text/event-stream") {
        return Err(format!(
            "the answer is not an event stream, but {media_type:?}"
        ));
    }
    if head.field("transfer-encoding").is_some() || head.field("content-length").is_some() {
        return Err(
            "the answer is an event stream that does not end with the connection".to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tungstenite::client::IntoClientRequest as _;

    use super::*;

    #[test]
    fn the_request_names_the_topic_and_the_position() {
        let like = "ws://a:80/topic?key=1".into_client_request().unwrap();
        assert_eq!(
            request(&like, Some("abc-17")),
            "GET /topic?key=1 HTTP/1.1\r\nHost: a:80\r\nAccept: text/event-stream\r\nLast-Event-ID: abc-17\r\n\r\n"
        );
        assert!(!request(&like, None).contains("Last-Event-ID"));
    }

    #[test]
    fn answers_that_are_no_event_streams_are_refused() {
        let checked = |text: &str| check(&Head::parse(text.as_bytes()).unwrap().unwrap());
        assert_eq!(
            checked("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=utf-8\r\n\r\n"),
            Ok(())
        );
        for bad in [
            "HTTP/1.1 401 No\r\nContent-Type: text/event-stream\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
