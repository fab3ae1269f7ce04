//! Cross-origin requests of browsers: the fields that let a page of another site read an answer.
//!
//! `port` decides with `access` who may ask. This file only says what the browser is told. A page sends its token itself, unless
//! a cookie may carry it (`access.cookie`). Then requests of pages from listed origins may carry cookies, and those of no others.

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
    /// Pages of this origin, which the request names and the configuration lists.
    Only {
        /// The origin, as the request writes it.
        origin: Box<str>,
        /// Their requests may carry cookies.
        with_cookies: bool,
    },
}

impl Cors {
    /// The page that has sent a request.
    pub(crate) fn of(head: &RequestHead<'_>, access: &Access) -> Cors {
        if access.is_open_to_all_origins() {
            return Cors::Anyone;
        }
        let origin = head.only_value("origin").map(std::str::from_utf8);
        match origin {
            Some(Ok(origin)) if access.check_origin(head).is_ok() => Cors::Only {
                origin: origin.into(),
                with_cookies: access.takes_cookies(),
            },
            Some(_) | None => Cors::None,
        }
    }

    /// The fields of an answer.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let origin = match self {
            Cors::None => None,
            Cors::Anyone => Some("*"),
            Cors::Only { origin, .. } => Some(&**origin),
        };
        let fields = origin.map(|origin| {
            [
                ("Access-Control-Allow-Origin", origin),
                ("Access-Control-Expose-Headers", EXPOSED),
            ]
        });
        let cookies = match self {
            Cors::Only { with_cookies, .. } => *with_cookies,
            Cors::None | Cors::Anyone => false,
        };
        let credentials = cookies.then_some(("Access-Control-Allow-Credentials", "true"));
        fields.into_iter().flatten().chain(credentials)
    }
}

/// The fields of the answer to a browser that asks before it sends a request (OPTIONS).
pub(super) const PREFLIGHT: [(&str, &str); 3] = [
    ("Access-Control-Allow-Methods", METHODS),
    ("Access-Control-Allow-Headers", FIELDS),
    ("Access-Control-Max-Age", MAX_AGE),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn fields(change: impl FnOnce(&mut Config), origin: &str) -> Vec<(String, String)> {
        let mut config = Config::default();
        change(&mut config);
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{origin}\r\n");
        let head = RequestHead::parse(request.as_bytes()).unwrap();
        let cors = Cors::of(&head, &Access::new(&config));
        let fields = cors.fields();
        fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn has_credentials(fields: &[(String, String)]) -> bool {
        let name = "Access-Control-Allow-Credentials";
        fields.contains(&(name.into(), "true".into()))
    }

    #[test]
    fn cookies_are_for_pages_of_listed_origins_where_one_may_carry_a_token() {
        for with_cookies in [false, true] {
            let listed = |config: &mut Config| {
                config.server.allowed_origins = vec!["https://a.example".parse().unwrap()];
                config.access.cookie = with_cookies.then(|| "token".into());
            };
            let own = fields(listed, "Origin: https://a.example\r\n");
            assert!(own.contains(&(
                "Access-Control-Allow-Origin".into(),
                "https://a.example".into()
            )));
            assert_eq!(has_credentials(&own), with_cookies);
            assert_eq!(fields(listed, ""), []);
            assert_eq!(fields(listed, "Origin: https://b.example\r\n"), []);
        }
    }

    #[test]
    fn pages_that_nobody_has_listed_never_have_cookies() {
        let open = |config: &mut Config| config.access.cookie = Some("token".into());
        let all = fields(open, "Origin: https://a.example\r\n");
        assert!(all.contains(&("Access-Control-Allow-Origin".into(), "*".into())));
        assert!(!has_credentials(&all));
    }
}
