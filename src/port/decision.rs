//! The decision on a request. A shard asks for it once the request's head is complete.
//!
//! The order is fixed: what kind of request it is, its topic, access, and last the terms. So an access rule could depend on the
//! topic, and a refused client learns nothing about terms.

use core::net::IpAddr;
use std::sync::Arc;

use super::cors::Cors;
use super::describe::Describe;
use super::events;
use super::page;
use super::position::Start;
use super::post::Post;
use super::reply::{Fault, Manner, Reply};
use super::start::{self, BadLast};
use super::terms::{Answer, Form, Selection, Subprotocols, Terms};
use super::topic_name::{TopicError, TopicName, topic_name};
use super::words;
use crate::access::keys::Keys;
use crate::access::rules::TopicRules;
use crate::access::{Access, Circumstances, Permission};
use crate::config::{Config, Page, ProxySource, Topics};
use crate::http::accept;
use crate::http::forwarded::{self, Forwarded};
use crate::http::percent;
use crate::http::request::RequestHead;
use crate::http::response::Body;
use crate::http::routes::is_read;
use crate::http::target::TargetUri;
use crate::time::WallTime;
use crate::ws::extension::Deflate;
use crate::ws::handshake::{self, Refusal, RefusalKind, Upgrade};
use crate::ws::subprotocol::{Offer, Subprotocol};

/// The answer to a request that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The client joins a topic on these terms: it speaks WebSocket, or reads an event stream. Here is what a trusted proxy
    /// says about it, if there is one.
    Join(Terms, Option<Forwarded>),
    /// A health check, answered with the state of the relay and with this body.
    Probe(Body),
    /// A browser that opens a topic's URL. It gets a page to try the topic.
    Page,
    /// The client publishes, once its body is read. Here is what a trusted proxy says about it, if there is one.
    Publish(Box<Post>, Option<Forwarded>),
    /// The client asks about a topic.
    Describe(Box<Describe>),
    /// The client is answered at once.
    Answer(Box<Reply>, Manner),
    /// The request cannot be served, and the connection is closed after the answer.
    Decline(Decline),
}

/// The other end of a connection, as the host knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// A program on this machine, over TCP. It is not a trusted proxy, and there was no PROXY header.
    pub is_loopback: bool,
    /// A trusted proxy, which names the client in each request. Its address may be one that a PROXY header claims.
    pub names_clients: bool,
    /// The socket itself comes from a trusted proxy, whatever address a PROXY header claims. So its words about grants count.
    pub is_proxy: bool,
}

/// A request that is no upgrade and cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decline {
    /// The reason.
    pub fault: Fault,
    /// The kind to count it by; `None` for a request that publishes, which counts by its status.
    pub kind: Option<RefusalKind>,
    /// How it is answered.
    pub manner: Manner,
}

/// The rules that decide. They are the same on all shards.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    /// The path of health checks. It is not a topic.
    health_path: Option<String>,
    topics: Topics,
    page: Page,
    pub(super) access: Access,
    subprotocols: Vec<Subprotocol>,
    /// The proxies that name their clients in each request.
    proxies: Vec<ProxySource>,
    /// Whether the port speaks TLS.
    speaks_tls: bool,
}

impl Port {
    /// The rules of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        Port {
            health_path: config.server.health_path.clone(),
            topics: config.relay.topics,
            page: config.http.page,
            access: Access::new(config),
            subprotocols: config.server.subprotocols.clone(),
            proxies: config.server.trusted_proxies.clone(),
            speaks_tls: config.server.tls.enabled,
        }
    }

    /// The rules for topics.
    pub(crate) fn topics(&self) -> &TopicRules {
        self.access.topics()
    }

    /// Puts other rules for topics in force.
    pub(crate) fn set_topics(&mut self, topics: Arc<TopicRules>) {
        self.access.set_topics(topics);
    }

    /// The topic that a name in a body leads to. The path of health checks leads to none.
    pub(crate) fn topic_named(&self, name: &str) -> Option<TopicName> {
        if self.health_path.as_deref() == Some(name) {
            return None;
        }
        Some(match self.topics {
            Topics::Path => name.into(),
            Topics::Single => "/".into(),
        })
    }

    /// Puts other keys for tokens in force.
    pub(crate) fn set_keys(&mut self, keys: Arc<Keys>) {
        self.access.set_keys(keys);
    }

    /// Whether a decision may cost much, because of a signature: some 60 µs for RSA.
    pub(crate) fn is_costly(&self) -> bool {
        self.access.has_keys()
    }

    /// Whether a proxy at this address is trusted to name its clients.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.contains(address))
    }

    /// Whether proxies that connect through the Unix socket are trusted.
    pub(crate) fn trusts_unix(&self) -> bool {
        self.proxies.contains(&ProxySource::Unix)
    }

    /// Decides on a complete request head that came from this peer. Without the time of day, no token is believed.
    ///
    /// Nobody looks for the client of a request that is refused: it takes no seat.
    pub(crate) fn decide(
        &self,
        head: &[u8],
        peer: Peer,
        now: Option<WallTime>,
    ) -> Result<Decision, Refusal> {
        let head = RequestHead::parse(head)?;
        if self.is_probe(&head) {
            return Ok(Decision::Probe(Body::for_method(head.method)));
        }
        if let Some(target) = self.page_target(&head, peer) {
            self.topic(target.path)?;
            return Ok(Decision::Page);
        }
        match head.method {
            _ if self.is_post(&head) => return Ok(self.decide_post(&head, peer, now)),
            "OPTIONS" => return Ok(self.decide_options(&head)),
            "HEAD" => return Ok(self.decide_describe(&head, peer, now)),
            "GET" if asks_for_description(&head) => {
                return Ok(self.decide_describe(&head, peer, now));
            }
            _ => {}
        }
        let asked = Asked::of(&head).map_err(|refusal| self.worded(refusal))?;
        let target = asked.target();
        let topic = self.topic(target.path)?;
        let circumstances = Circumstances {
            is_upgrade: matches!(asked, Asked::Upgrade(_)),
            ..Circumstances::of(now, peer)
        };
        let admission = self.access.admit(&head, &topic, circumstances)?;
        let permission = match asked {
            Asked::Upgrade(_) => admission.to_join()?,
            Asked::Events(_) => admission.to_listen()?,
        };
        // A topic that lives on from before a reload may keep messages, whatever the rules say now. Its owner decides.
        let rule = self.topics().of(&topic);
        let start = match start::start(&head, target.query) {
            Ok(start) => start,
            Err(BadLast) if rule.keeps_history => return Err(Refusal::LAST),
            Err(BadLast) => Start::Now,
        };
        let (form, subprotocol, deflate, answer) = match asked {
            Asked::Upgrade(upgrade) => {
                let deflate = rule.compresses.then(|| Deflate::choose(&head)).flatten();
                let form = deflate.map_or(Form::Frames, |_| Form::Deflated);
                let subprotocol = self.select(&upgrade.offer, permission);
                let answer = Answer::Upgrade(upgrade.accept_key);
                (form, subprotocol, deflate, answer)
            }
            Asked::Events(_) => (
                Form::Events,
                Subprotocols::default(),
                None,
                Answer::Events(Cors::of(&head, &self.access)),
            ),
        };
        let terms = Terms {
            topic,
            form,
            permission,
            subprotocol,
            deflate,
            start,
            expires_at: admission.expires_at,
            subject: admission.subject,
            answer,
        };
        Ok(Decision::Join(terms, self.named(&head, peer)))
    }

    /// The client that a trusted proxy names.
    pub(super) fn named(&self, head: &RequestHead<'_>, peer: Peer) -> Option<Forwarded> {
        peer.names_clients
            .then(|| forwarded::client(head, |address| self.trusts(address)))
    }

    /// A browser that asks which requests it may send. It needs no token for that.
    fn decide_options(&self, head: &RequestHead<'_>) -> Decision {
        let manner = Manner::of(head, Cors::of(head, &self.access));
        // `OPTIONS *` asks about the whole server (RFC 9110, section 9.3.7).
        let checked = match head.target {
            "*" => check_host(head),
            _ => check(head).map(|_| ()),
        };
        let checked = checked.and_then(|()| reject_body(head));
        match checked.and_then(|()| self.access.check_origin(head)) {
            Ok(()) => Decision::Answer(Box::new(Reply::preflight()), manner),
            Err(refusal) => decline(refusal, manner),
        }
    }

    /// A client that asks about a topic.
    fn decide_describe(
        &self,
        head: &RequestHead<'_>,
        peer: Peer,
        now: Option<WallTime>,
    ) -> Decision {
        let manner = Manner::of(head, Cors::of(head, &self.access));
        let topic = || {
            let target = check_without_body(head)?;
            let topic = self.topic(target.path)?;
            let circumstances = Circumstances::of(now, peer);
            let admission = self.access.admit(head, &topic, circumstances)?;
            admission.to_listen()?;
            Ok(topic)
        };
        match topic() {
            Ok(topic) => Decision::Describe(Box::new(Describe { topic, manner })),
            Err(refusal) => decline(refusal, manner),
        }
    }

    /// The refusal in the words for this port.
    fn worded(&self, refusal: Refusal) -> Refusal {
        if self.speaks_tls && refusal == Refusal::NOT_UPGRADE {
            Refusal::NOT_UPGRADE_TLS
        } else {
            refusal
        }
    }

    /// Whether a request is a health check. Neither its version nor an `Upgrade` counts: balancers send HTTP/1.0, and some
    /// proxies ask for an upgrade whatever they pass on. If it breaks a rule of HTTP, the handshake refuses it.
    pub(super) fn is_probe(&self, head: &RequestHead<'_>) -> bool {
        self.is_health_path(head)
            && is_read(head.method)
            && head.has_valid_host()
            && !head.has_body()
    }

    /// Whether a request publishes.
    pub(super) fn is_post(&self, head: &RequestHead<'_>) -> bool {
        head.method == "POST" && !self.is_health_path(head)
    }

    fn is_health_path(&self, head: &RequestHead<'_>) -> bool {
        let (Some(health_path), Some(uri)) = (&self.health_path, head.target_uri()) else {
            return false;
        };
        // Like a topic, the path may be spelled in several ways.
        percent::decode(uri.path, health_path.len())
            .is_ok_and(|path| path == health_path.as_bytes())
    }

    /// The target of a request that is answered with the page.
    fn page_target<'a>(&self, head: &RequestHead<'a>, peer: Peer) -> Option<TargetUri<'a>> {
        let is_shown = match self.page {
            Page::On => true,
            Page::Loopback => peer.is_loopback && page::is_local(head),
            Page::Off => false,
        };
        let target = head.target_uri()?;
        (is_shown && page::is_asked_for(head)).then_some(target)
    }

    /// The topic that a path names.
    pub(super) fn topic(&self, path: &str) -> Result<TopicName, Refusal> {
        topic_name(self.topics, path).map_err(TopicError::refusal)
    }

    /// Selects the first name of the relay's list that the client offers (RFC 6455, section 4.2.2). The relay's own names come
    /// first. A client that hears nothing, or whose topic keeps nothing, has no use for the relay's words.
    fn select(&self, offer: &Offer<'_>, permission: Permission) -> Subprotocols {
        let raw = self.select_with(false, offer);
        let with_words = (permission != Permission::PublishOnly && offer.has(words::PROTOCOL))
            .then(|| self.select_with(true, offer));
        Subprotocols::new(raw, with_words)
    }

    fn select_with(&self, has_words: bool, offer: &Offer<'_>) -> Selection {
        if offer.len() == 0 {
            return Selection::NotOffered;
        }
        let own = [words::PROTOCOL, words::RAW];
        let mut own = own.into_iter().skip(usize::from(!has_words));
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

/// A request that asks for a topic.
enum Asked<'a> {
    /// To speak WebSocket.
    Upgrade(Upgrade<'a>),
    /// To read an event stream.
    Events(TargetUri<'a>),
}

impl<'a> Asked<'a> {
    fn of(head: &RequestHead<'a>) -> Result<Self, Refusal> {
        if events::is_asked(head) {
            return check_without_body(head).map(Asked::Events);
        }
        handshake::upgrade(head).map(Asked::Upgrade)
    }

    fn target(&self) -> TargetUri<'a> {
        match self {
            Asked::Upgrade(upgrade) => upgrade.target,
            Asked::Events(target) => *target,
        }
    }
}

impl Circumstances {
    /// Those of a request that is no upgrade.
    pub(super) fn of(now: Option<WallTime>, peer: Peer) -> Circumstances {
        Circumstances {
            now,
            is_from_proxy: peer.is_proxy,
            is_upgrade: false,
        }
    }
}

/// Whether a GET asks for the description of its topic, and not for an upgrade.
fn asks_for_description(head: &RequestHead<'_>) -> bool {
    !handshake::is_wanted(head)
        && !events::is_asked(head)
        && accept::names(head, "application/json")
}

/// Checks the rules that HTTP has for every request, and returns its target.
pub(super) fn check<'a>(head: &RequestHead<'a>) -> Result<TargetUri<'a>, Refusal> {
    check_host(head)?;
    head.target_uri().ok_or(Refusal::TARGET)
}

/// The same for a request that may have no body.
pub(super) fn check_without_body<'a>(head: &RequestHead<'a>) -> Result<TargetUri<'a>, Refusal> {
    let target = check(head)?;
    reject_body(head)?;
    Ok(target)
}

fn check_host(head: &RequestHead<'_>) -> Result<(), Refusal> {
    if head.has_valid_host() {
        Ok(())
    } else {
        Err(Refusal::HOST)
    }
}

fn reject_body(head: &RequestHead<'_>) -> Result<(), Refusal> {
    if head.has_body() {
        Err(Refusal::BODY)
    } else {
        Ok(())
    }
}

fn decline(refusal: Refusal, manner: Manner) -> Decision {
    Decision::Decline(Decline {
        fault: refusal.into(),
        kind: Some(refusal.kind),
        manner: manner.closing(),
    })
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
mod rule_tests;
#[cfg(test)]
mod tests;
