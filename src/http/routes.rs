//! The pages of the metrics port.
//!
//! The exporter calls `route` for every request and sends the [`Route::answer`]. Nothing here touches a socket; the
//! caller passes in the metrics' text and the health.

use std::borrow::Cow;

use super::health::Health;
use super::response::{Body, Connection, Response, Status};
use crate::time::WallTime;

/// The content type that Prometheus 3 requires of a scrape. Clients that ask for `OpenMetrics` get it too.
pub(crate) const EXPOSITION_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const PLAIN_CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// The page that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/metrics`: the metrics as text.
    Metrics,
    /// `/livez`: whether all threads of the process run.
    Live,
    /// `/readyz`: whether the relay takes new clients.
    Ready,
    /// An unknown page.
    NotFound,
    /// A known page, but a method other than GET or HEAD.
    MethodNotAllowed,
}

/// A response without its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: Status,
    /// The media type of the body.
    pub(crate) content_type: &'static str,
    /// The body, sent only for GET.
    pub(crate) body: Cow<'static, str>,
}

/// The route for a method and path. Methods are case-sensitive (RFC 9110, section 9.1).
pub(crate) fn route(method: &str, path: &str) -> Route {
    let page = match path {
        "/metrics" => Route::Metrics,
        "/livez" => Route::Live,
        "/readyz" => Route::Ready,
        _ => return Route::NotFound,
    };
    if is_read(method) {
        page
    } else {
        Route::MethodNotAllowed
    }
}

/// Whether a method only reads.
pub(crate) fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

impl Route {
    /// The answer. Only the metrics page calls `exposition`, which returns `None` if it failed.
    pub fn answer(self, health: Health, exposition: impl FnOnce() -> Option<String>) -> Answer {
        match self {
            Route::Metrics => exposition().map_or_else(
                || Answer::of(Status::InternalServerError),
                Answer::exposition,
            ),
            Route::Live if health.is_alive() => Answer::plain(Status::Ok, "ok\n"),
            Route::Ready if health.is_ready() => Answer::plain(Status::Ok, health.line()),
            Route::Live | Route::Ready => Answer::plain(Status::ServiceUnavailable, health.line()),
            Route::NotFound => Answer::plain(
                Status::NotFound,
                "not found: see /metrics, /livez, /readyz\n",
            ),
            Route::MethodNotAllowed => Answer::of(Status::MethodNotAllowed),
        }
    }
}

impl Answer {
    /// An answer with the reason phrase as its body.
    pub fn of(status: Status) -> Answer {
        Answer::plain(status, status.reason())
    }

    fn plain(status: Status, body: &'static str) -> Answer {
        Answer {
            status,
            content_type: PLAIN_CONTENT_TYPE,
            body: body.into(),
        }
    }

    fn exposition(text: String) -> Answer {
        Answer {
            status: Status::Ok,
            content_type: EXPOSITION_CONTENT_TYPE,
            body: text.into(),
        }
    }

    /// The HTTP response, with the time in its `Date`.
    pub fn encode(&self, connection: Connection, body: Body, now: Option<WallTime>) -> Vec<u8> {
        let mut response = Response::new(self.status).body(self.content_type, self.body.as_bytes());
        if self.status == Status::MethodNotAllowed {
            response = response.header("Allow", "GET, HEAD");
        }
        response.encode(connection, body, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_has_its_route() {
        assert_eq!(route("GET", "/metrics"), Route::Metrics);
        assert_eq!(route("HEAD", "/livez"), Route::Live);
        assert_eq!(route("GET", "/readyz"), Route::Ready);
    }

    #[test]
    fn a_path_that_only_resembles_a_page_is_not_found() {
        for path in [
            "/",
            "*",
            "",
            "/metrics/",
            "/Metrics",
            "//metrics",
            "/metrics2",
        ] {
            assert_eq!(route("GET", path), Route::NotFound, "{path}");
        }
    }

    #[test]
    fn other_methods_are_refused_on_pages_only() {
        assert_eq!(route("POST", "/metrics"), Route::MethodNotAllowed);
        assert_eq!(route("get", "/metrics"), Route::MethodNotAllowed);
        assert_eq!(route("DELETE", "/nothing"), Route::NotFound);
    }

    #[test]
    fn readiness_chooses_between_200_and_503() {
        for (health, status, body) in [
            (Health::Ready, Status::Ok, "ready\n"),
            (Health::Full, Status::ServiceUnavailable, "full\n"),
            (Health::Draining, Status::ServiceUnavailable, "draining\n"),
            (Health::Frozen, Status::ServiceUnavailable, "frozen\n"),
        ] {
            let answer = Route::Ready.answer(health, || None);
            assert_eq!((answer.status, &*answer.body), (status, body));
        }
    }

    #[test]
    fn a_relay_that_is_full_or_shutting_down_is_alive_and_a_frozen_one_is_not() {
        for (health, status, body) in [
            (Health::Ready, Status::Ok, "ok\n"),
            (Health::Full, Status::Ok, "ok\n"),
            (Health::Draining, Status::Ok, "ok\n"),
            (Health::Frozen, Status::ServiceUnavailable, "frozen\n"),
        ] {
            let answer = Route::Live.answer(health, || None);
            assert_eq!((answer.status, &*answer.body), (status, body));
        }
    }

    #[test]
    fn a_failed_exposition_is_an_internal_error() {
        assert_eq!(
            Route::Metrics.answer(Health::Ready, || None).status,
            Status::InternalServerError
        );
    }

    #[test]
    fn only_metrics_ask_for_the_exposition() {
        for route in [
            Route::Live,
            Route::Ready,
            Route::NotFound,
            Route::MethodNotAllowed,
        ] {
            route.answer(Health::Ready, || panic!("{route:?} asked"));
        }
    }

    #[test]
    fn the_metrics_are_sent_as_the_text_format_of_prometheus() {
        let answer = Route::Metrics.answer(Health::Ready, || Some("12345".into()));
        assert_eq!(
            String::from_utf8(answer.encode(Connection::KeepAlive, Body::Send, None)).unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: 5\r\nConnection: keep-alive\r\n\r\n12345"
        );
    }

    #[test]
    fn a_refused_method_gets_the_list_of_allowed_ones() {
        let answer = Route::MethodNotAllowed
            .answer(Health::Ready, || None)
            .encode(Connection::KeepAlive, Body::Send, None);
        assert!(
            String::from_utf8(answer)
                .unwrap()
                .contains("\r\nAllow: GET, HEAD\r\n")
        );
    }
}
