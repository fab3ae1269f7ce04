//! An answer on the relay's port to a request that is no upgrade, and how it is sent.
//!
//! A [`Reply`] says what is answered. A [`Manner`] comes from the request: who may read the answer, whether it has a body, and
//! whether the connection goes on.

use std::borrow::Cow;

use super::cors::{self, Cors};
use crate::http::bearer::Challenge;
use crate::http::request::RequestHead;
use crate::http::response::{Body, Connection, Response, Status};
use crate::time::WallTime;
use crate::ws::handshake::{ALLOWED, Refusal};

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// The page that may read the answer.
    pub cors: Cors,
    /// Whether another request may follow.
    pub connection: Connection,
    /// Whether the answer has its body.
    pub body: Body,
}

impl Manner {
    /// The manner that a request asks for.
    pub(super) fn of(head: &RequestHead<'_>, cors: Cors) -> Manner {
        let connection = if head.keeps_alive() {
            Connection::KeepAlive
        } else {
            Connection::Close
        };
        Manner {
            cors,
            connection,
            body: Body::for_method(head.method),
        }
    }

    /// The same, and the connection is closed after the answer.
    #[must_use]
    pub(crate) fn closing(self) -> Manner {
        let connection = Connection::Close;
        Manner { connection, ..self }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: Status,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    /// The media type of the body; `None` without a body.
    media_type: Option<&'static str>,
    body: Vec<u8>,
}

impl Reply {
    /// An answer without fields or a body.
    pub(crate) fn new(status: Status) -> Reply {
        Reply {
            status,
            fields: Vec::new(),
            media_type: None,
            body: Vec::new(),
        }
    }

    /// Adds a field.
    #[must_use]
    pub(crate) fn field(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Reply {
        self.fields.push((name, value.into()));
        self
    }

    /// The answer to OPTIONS.
    pub(super) fn preflight() -> Reply {
        let reply = Reply::new(Status::NoContent).field("Allow", ALLOWED);
        let fields = cors::PREFLIGHT.into_iter();
        fields.fold(reply, |reply, (name, value)| reply.field(name, value))
    }

    /// Sets the body.
    #[must_use]
    pub(crate) fn body(self, media_type: &'static str, body: Vec<u8>) -> Reply {
        Reply {
            media_type: Some(media_type),
            body,
            ..self
        }
    }

    /// The HTTP response, with the time in its `Date`.
    pub(crate) fn encode(&self, manner: &Manner, now: Option<WallTime>) -> Vec<u8> {
        let mut response = Response::new(self.status).header("Vary", "Accept, Origin");
        response = response.header("Cache-Control", "no-store");
        for (name, value) in &self.fields {
            response = response.header(name, value);
        }
        for (name, value) in manner.cors.fields() {
            response = response.header(name, value);
        }
        if let Some(media_type) = self.media_type {
            response = response.body(media_type, &self.body);
        }
        response.encode(manner.connection, manner.body, now)
    }
}

/// A request that cannot be served: its status, and a line of text that says what to do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(crate) status: Status,
    pub(crate) text: &'static str,
    /// The fault of the credentials, if it is theirs.
    pub(super) challenge: Option<Challenge>,
}

impl Fault {
    /// The number of the status.
    pub fn code(&self) -> u16 {
        self.status.code()
    }

    /// The line of text that the client gets.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// The answer.
    pub(crate) fn reply(self) -> Reply {
        let reply = Reply::new(self.status);
        let reply = match self.challenge {
            Some(challenge) => reply.field("WWW-Authenticate", challenge.value(self.text)),
            None => reply,
        };
        let reply = if self.status == Status::MethodNotAllowed {
            reply.field("Allow", ALLOWED)
        } else {
            reply
        };
        reply.body("text/plain; charset=utf-8", self.text.as_bytes().to_vec())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault {
            status: refusal.status,
            text: refusal.text(),
            challenge: refusal.challenge(),
        }
    }
}
