//! The decision on a request. A shard asks for it once the request's head is complete.
//!
//! The order is fixed: whether the request is a health check, or else an upgrade, its topic, access, and last the terms. So
//! an access rule could depend on the topic, and a refused client learns nothing about terms.

use core::net::IpAddr;

use super::start::{self, BadLast};
use super::terms::{Form, Selection, Terms};
use super::topic_name::{TopicError, topic_name};
use super::words;
use crate::access::Access;
use crate::config::{Config, ProxySource, Topics};
use crate::http::forwarded::{self, Forwarded};
use crate::http::percent;
use crate::http::request::RequestHead;
use crate::http::response::Body;
use crate::http::routes::is_read;
use crate::ws::handshake::{self, Refusal};
use crate::ws::subprotocol::{Offer, Subprotocol};

/// The answer to a request that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The client joins a topic and speaks WebSocket. Here is what a trusted proxy says about it, if there is one.
    Upgrade(Terms, Option<Forwarded>),
    /// A health check, answered with the state of the relay and with this body.
    Probe(Body),
}

/// The rules that decide. They are the same on all shards.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    /// The path of health checks. It is not a topic.
    health_path: Option<String>,
    topics: Topics,
    access: Access,
    subprotocols: Vec<Subprotocol>,
    /// The proxies that name their clients in each request.
    proxies: Vec<ProxySource>,
    /// Whether topics keep messages for clients that come later.
    keeps_history: bool,
}

impl Port {
    /// The rules of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        Port {
            health_path: config.server.health_path.clone(),
            topics: config.relay.topics,
            access: Access::new(config),
            subprotocols: config.server.subprotocols.clone(),
            proxies: config.server.trusted_proxies.clone(),
            keeps_history: !config.history.max_age.is_zero(),
        }
    }

    /// Whether a proxy at this address is trusted to name its clients.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.contains(address))
    }

    /// Decides on a complete request head. A trusted proxy names the client in it, if it `is_forwarded`.
    ///
    /// Nobody looks for the client of a request that is refused: it takes no seat.
    pub(crate) fn decide(&self, head: &[u8], is_forwarded: bool) -> Result<Decision, Refusal> {
        let head = RequestHead::parse(head)?;
        if self.is_probe(&head) {
            return Ok(Decision::Probe(Body::for_method(head.method)));
        }
        let upgrade = handshake::upgrade(&head)?;
        let topic = topic_name(self.topics, upgrade.target.path).map_err(TopicError::refusal)?;
        let permission = self.access.admit(&head)?;
        let start = if self.keeps_history {
            let start = start::start(&head, upgrade.target.query);
            Some(start.map_err(|BadLast| Refusal::LAST)?)
        } else {
            None
        };
        let terms = Terms {
            topic,
            form: Form::Frames,
            permission,
            subprotocol: self.select(&upgrade.offer),
            start,
            accept_key: upgrade.accept_key,
        };
        let forwarded =
            is_forwarded.then(|| forwarded::client(&head, |address| self.trusts(address)));
        Ok(Decision::Upgrade(terms, forwarded))
    }

    /// Whether a request is a health check. Neither its version nor an `Upgrade` counts: balancers send HTTP/1.0, and some
    /// proxies ask for an upgrade whatever they pass on. If it breaks a rule of HTTP, the handshake refuses it.
    fn is_probe(&self, head: &RequestHead<'_>) -> bool {
        let (Some(health_path), Some(uri)) = (&self.health_path, head.target_uri()) else {
            return false;
        };
        // Like a topic, the path may be spelled in several ways.
        let names_it = percent::decode(uri.path, health_path.len())
            .is_ok_and(|path| path == health_path.as_bytes());
        names_it && is_read(head.method) && head.has_valid_host() && !head.has_body()
    }

    /// Selects the first name of the relay's list that the client offers (RFC 6455, section 4.2.2).
    fn select(&self, offer: &Offer<'_>) -> Selection {
        if offer.len() == 0 {
            return Selection::NotOffered;
        }
        let own = [words::PROTOCOL, words::RAW];
        let mut own = own.into_iter().skip(usize::from(!self.keeps_history));
        let selected = own.find(|name| offer.has(name)).or_else(|| {
            self.subprotocols.iter().find_map(|entry| match entry {
                Subprotocol::Any => offer.first(),
                Subprotocol::Name(name) => offer.has(name).then_some(&**name),
            })
        });
        match selected {
            Some(name) => Selection::Selected(name.into()),
            None => Selection::Unmet { count: offer.len() },
        }
    }
}

impl TopicError {
    /// The answer to a client whose path does not name a topic.
    fn refusal(self) -> Refusal {
        match self {
            TopicError::TooLong => Refusal::PATH_TOO_LONG,
            TopicError::BadEscape => Refusal::BAD_ESCAPE,
            TopicError::NotUtf8 => Refusal::PATH_NOT_UTF8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Permission;
    use crate::config::Publish;
    use crate::ws::handshake::RefusalKind;

    fn decide(
        change: impl FnOnce(&mut Config),
        target: &str,
        fields: &str,
    ) -> Result<Terms, RefusalKind> {
        let mut config = Config::default();
        change(&mut config);
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
        );
        match Port::new(&config).decide(request.as_bytes(), false) {
            Ok(Decision::Upgrade(terms, None)) => Ok(terms),
            Ok(Decision::Upgrade(_, Some(_))) => panic!("no proxy was there"),
            Ok(Decision::Probe(_)) => panic!("a probe"),
            Err(refusal) => Err(refusal.kind),
        }
    }

    #[test]
    fn an_upgrade_is_granted_with_all_its_terms() {
        let terms = decide(
            |config| config.relay.publish = Publish::Nobody,
            "/a%20b?c",
            "",
        )
        .unwrap();
        assert_eq!(&*terms.topic, "/a b");
        assert_eq!(
            (terms.form, terms.permission),
            (Form::Frames, Permission::Listen)
        );
        assert!(
            terms
                .response(None, None, false)
                .starts_with(b"HTTP/1.1 101 ")
        );
    }

    /// The answer to a head of a relay with the health path `/healthz`.
    fn probe(head: &str) -> Result<Option<Body>, RefusalKind> {
        let mut config = Config::default();
        config.server.health_path = Some("/healthz".into());
        match Port::new(&config).decide(head.as_bytes(), false) {
            Ok(Decision::Probe(body)) => Ok(Some(body)),
            Ok(Decision::Upgrade(..)) => Ok(None),
            Err(refusal) => Err(refusal.kind),
        }
    }

    #[test]
    fn a_health_check_is_known_by_its_path_whatever_else_it_says() {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for head in [
            "GET /healthz HTTP/1.0\r\n\r\n",
            "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /healthz?a=b HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\n\r\n",
            "GET http://a/%68ealthz HTTP/1.1\r\nHost: a\r\n\r\n",
            &format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"),
        ] {
            assert_eq!(probe(head), Ok(Some(Body::Send)), "{head}");
            let head = head.replacen("GET", "HEAD", 1);
            assert_eq!(probe(&head), Ok(Some(Body::Omit)), "{head}");
        }
        let other = format!("GET /healthz/ HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n");
        assert_eq!(probe(&other), Ok(None));
    }

    #[test]
    fn a_health_check_that_breaks_a_rule_is_refused_like_any_request() {
        for (head, kind) in [
            ("GET /healthz HTTP/1.1\r\n\r\n", RefusalKind::BadRequest),
            (
                "GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
                RefusalKind::BadRequest,
            ),
            (
                "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
                RefusalKind::BadRequest,
            ),
            (
                "POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
                RefusalKind::Method,
            ),
            (
                "GET /Healthz HTTP/1.1\r\nHost: a\r\n\r\n",
                RefusalKind::NotUpgrade,
            ),
            (
                "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
                RefusalKind::NotUpgrade,
            ),
        ] {
            assert_eq!(probe(head), Err(kind), "{head}");
        }
    }

    /// The name that a relay with this list selects from `offer`, or else whether there was an offer to it.
    fn selected(list: &[&str], offer: &str) -> Result<String, bool> {
        let listed = |config: &mut Config| {
            let entries = list.iter().map(|text| Subprotocol::new(text).unwrap());
            config.server.subprotocols = entries.collect();
        };
        let fields = format!("Sec-WebSocket-Protocol: {offer}\r\n");
        let terms = decide(listed, "/", &fields).unwrap();
        let answer = String::from_utf8(terms.response(None, None, false).into()).unwrap();
        match terms.subprotocol {
            Selection::Selected(name) => {
                assert!(answer.contains(&format!("\r\nSec-WebSocket-Protocol: {name}\r\n")));
                Ok(name.into())
            }
            other @ (Selection::NotOffered | Selection::Unmet { .. }) => {
                assert!(!answer.contains("Protocol:"), "{answer}");
                Err(other != Selection::NotOffered)
            }
        }
    }

    #[test]
    fn the_first_subprotocol_of_the_relay_that_the_client_offers_is_selected() {
        assert_eq!(selected(&["a", "b"], "b, a"), Ok("a".into()));
        assert_eq!(selected(&["a", "b"], "c, b"), Ok("b".into()));
        assert_eq!(selected(&["a"], "A, aa"), Err(true));
        assert_eq!(selected(&["a"], ""), Err(false));
    }

    #[test]
    fn without_a_list_no_subprotocol_is_selected() {
        assert_eq!(selected(&[], "a, b"), Err(true));
        assert_eq!(selected(&[], ""), Err(false));
    }

    #[test]
    fn an_asterisk_selects_the_first_of_the_client_that_is_not_reserved() {
        assert_eq!(selected(&["*"], "b, a"), Ok("b".into()));
        assert_eq!(selected(&["*"], "fanwire.v1, Bearer.x, c"), Ok("c".into()));
        assert_eq!(selected(&["*"], "bearer.x"), Err(true));
        assert_eq!(selected(&["*"], ", a b"), Err(false));
    }

    #[test]
    fn the_topic_is_judged_before_access() {
        let listed = |config: &mut Config| {
            config.server.allowed_origins = vec!["a.example".parse().unwrap()];
        };
        let foreign = "Origin: https://b.example\r\n";
        assert_eq!(decide(listed, "/", foreign), Err(RefusalKind::Origin));
        assert_eq!(decide(listed, "/%", foreign), Err(RefusalKind::BadRequest));
    }
}
