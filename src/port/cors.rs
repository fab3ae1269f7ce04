//! Cross-origin requests of browsers: the fields that let a page of another site read an answer.
//!
//! `port` decides with `access` who may ask. This file only says what the browser is told. Credentials are never allowed: a page
//! sends its token itself.

use crate::access::Access;
use crate::http::request::RequestHead;

/// The fields that a page may read besides the usual ones.
const EXPOSED: &str = "Fanwire-Position, Fanwire-Lost, Fanwire-Members, Retry-After";

/// The methods that a page may use.
const METHODS: &str = "GET, HEAD, POST";

/// The fields that a page may set besides the usual ones.
const FIELDS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID";

/// The time for which a browser need not ask again, in seconds. Chromium takes no more.
const MAX_AGE: &str = "7200";

/// Which page may read the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cors {
    /// No page asks, or this one may not.
    None,
    /// Any page.
    Anyone,
    /// Pages of this origin.
    Only(Box<str>),
}

impl Cors {
    /// The page that has sent a request.
    pub(crate) fn of(head: &RequestHead<'_>, access: &Access) -> Cors {
        if access.is_open_to_all_origins() {
            return Cors::Anyone;
        }
        let origin = head.only_value("origin").map(std::str::from_utf8);
        match origin {
            Some(Ok(origin)) if access.check_origin(head).is_ok() => Cors::Only(origin.into()),
            Some(_) | None => Cors::None,
        }
    }

    /// The fields of an answer.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let origin = match self {
            Cors::None => None,
            Cors::Anyone => Some("*"),
            Cors::Only(origin) => Some(&**origin),
        };
        let fields = origin.map(|origin| {
            [
                ("Access-Control-Allow-Origin", origin),
                ("Access-Control-Expose-Headers", EXPOSED),
            ]
        });
        fields.into_iter().flatten()
    }
}

/// The fields of the answer to a browser that asks before it sends a request (OPTIONS).
pub(super) const PREFLIGHT: [(&str, &str); 3] = [
    ("Access-Control-Allow-Methods", METHODS),
    ("Access-Control-Allow-Headers", FIELDS),
    ("Access-Control-Max-Age", MAX_AGE),
];
