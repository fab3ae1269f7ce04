//! The right to connect, to hear a topic and to publish to it.
//!
//! [`crate::port`] asks [`Access::admit`] once for each request, when the topic is known. [`crate::http`] knows the syntax of
//! origins and of credentials. This module knows their consequences, and refuses what the configuration does not allow.
//!
//! A request may bring grants: in a token ([`token`]), or from a trusted proxy ([`grants`]). They are judged, whether they are
//! needed or not. Nothing here keeps a token, shows one, or passes one on.

mod crypto;
pub(crate) mod grants;
pub(crate) mod keys;
pub(crate) mod rules;
#[cfg(test)]
#[path = "tests/signing.rs"]
pub(crate) mod signing;
#[cfg(test)]
mod tests;
pub(crate) mod token;

use std::borrow::Cow;
use std::sync::Arc;

use self::grants::{Grants, GrantsError, Issuer};
use self::keys::Keys;
use self::rules::TopicRules;
use self::token::{Rules, TokenError};
use crate::config::{Config, Publish, Subscribe};
use crate::http::bearer::{self, Credentials, Token};
use crate::http::cookie;
use crate::http::origin::{self, OriginPattern};
use crate::http::request::RequestHead;
use crate::time::WallTime;
use crate::ws::handshake::Refusal;
use crate::ws::subprotocol;

/// The field in which a trusted proxy says what its client may do.
const GRANTS_FIELD: &str = "fanwire-grants";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// If empty, every origin is let in.
    allowed_origins: Vec<OriginPattern>,
    /// The rights in each topic.
    topics: Arc<TopicRules>,
    publish_tokens: Vec<Token>,
    /// The keys in force; `None` if no token has a meaning here.
    keys: Option<Arc<Keys>>,
    rules: Rules,
    cookie: Option<String>,
    token_in_query: bool,
    grants_header: bool,
}

/// The circumstances of a request that are not in its head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Circumstances {
    /// The time of day. Without it no token is believed, because each has an end.
    pub(crate) now: Option<WallTime>,
    /// The peer of the socket is a trusted proxy, whatever addresses headers claim.
    pub(crate) is_from_proxy: bool,
    /// It asks for a WebSocket, so the names of its subprotocols have a meaning. One of them may be a token.
    pub(crate) is_upgrade: bool,
}

/// The rights of a request in its topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    /// It may hear the topic.
    pub(crate) may_subscribe: bool,
    /// It may send messages to the topic.
    pub(crate) may_publish: bool,
    /// The end of its grants, in seconds since the Unix epoch. They are accepted for [`grants::LEEWAY`] longer.
    pub(crate) expires_at: Option<u64>,
    /// The name of its bearer: `sub` of the token, or of the proxy's grants.
    pub(crate) subject: Option<Box<str>>,
    /// It has brought no grants.
    is_anonymous: bool,
}

/// The rights of a client that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// It may listen.
    Listen,
    /// It may listen and send messages.
    Publish,
    /// It may send messages, and hears nothing.
    PublishOnly,
}

/// The reason why a request may not publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// It has brought no grants, and needs some.
    NeedsToken,
    /// Its grants do not have the topic.
    Topic,
    /// Nobody may publish.
    Everybody,
}

impl Admission {
    /// The rights of a client that opens a connection for both directions.
    pub(crate) fn to_join(&self) -> Result<Permission, Refusal> {
        match (self.may_subscribe, self.may_publish) {
            (true, true) => Ok(Permission::Publish),
            (true, false) => Ok(Permission::Listen),
            (false, true) => Ok(Permission::PublishOnly),
            (false, false) => Err(self.refusal()),
        }
    }

    /// The rights of a client that only listens, and has no way to send anything.
    pub(crate) fn to_listen(&self) -> Result<Permission, Refusal> {
        if self.may_subscribe {
            Ok(Permission::Listen)
        } else if self.is_anonymous {
            Err(Refusal::TOKEN_NEEDED)
        } else {
            Err(Refusal::FORBIDDEN_TO_LISTEN)
        }
    }

    /// The answer to a request for something that it may not do. Grants could help a request without any (RFC 6750, section 3.1).
    pub(crate) fn refusal(&self) -> Refusal {
        if self.is_anonymous {
            Refusal::TOKEN_NEEDED
        } else {
            Refusal::FORBIDDEN
        }
    }
}

/// The bearer of grants, by the name that their issuer gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bearer<'a> {
    /// The issuer. Two of them may give the same name to different bearers.
    pub(crate) issuer: &'a Issuer,
    /// The name.
    pub(crate) name: &'a str,
}

/// The credentials of a request, judged. They say nothing about a topic yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    grants: Option<Grants>,
    /// It has one of `relay.publish_tokens`.
    has_publish_token: bool,
    /// The end of a token that does not count, because a proxy has given other grants.
    other_end: Option<u64>,
}

impl Judged {
    /// The bearer, if its grants name it.
    pub(crate) fn bearer(&self) -> Option<Bearer<'_>> {
        let grants = self.grants.as_ref()?;
        Some(Bearer {
            issuer: &grants.issuer,
            name: grants.subject.as_deref()?,
        })
    }

    /// Memory of the grants, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.grants.as_ref().map_or(0, Grants::memory_bytes)
    }

    fn is_anonymous(&self) -> bool {
        self.grants.is_none() && !self.has_publish_token
    }
}

impl Access {
    /// The rules of a configuration, whose keys are still to come.
    pub(crate) fn new(config: &Config) -> Self {
        let access = &config.access;
        Access {
            allowed_origins: config.server.allowed_origins.clone(),
            topics: Arc::new(TopicRules::new(config)),
            publish_tokens: config.relay.publish_tokens.clone(),
            keys: access.has_keys().then(Arc::default),
            rules: Rules {
                issuer: access.issuer.clone(),
                audience: access.audience.clone(),
            },
            cookie: access.cookie.clone(),
            token_in_query: access.token_in_query,
            grants_header: access.grants_header,
        }
    }

    /// Puts other keys in force, if tokens have a meaning here.
    pub(crate) fn set_keys(&mut self, keys: Arc<Keys>) {
        if let Some(current) = &mut self.keys {
            *current = keys;
        }
    }

    /// Puts other rules for topics in force.
    pub(crate) fn set_topics(&mut self, topics: Arc<TopicRules>) {
        self.topics = topics;
    }

    /// The rules for topics.
    pub(crate) fn topics(&self) -> &TopicRules {
        &self.topics
    }

    /// Whether a browser may send its cookies with a request of another site's page. Then they carry a token, and
    /// `server.allowed_origins` lists the pages that may do so.
    pub(crate) fn takes_cookies(&self) -> bool {
        self.cookie.is_some()
    }

    /// Whether requests may bring tokens whose signatures cost time.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Finds out what a request may do in its topic, or refuses it: because of its origin, or of credentials that are not valid.
    pub(crate) fn admit(
        &self,
        head: &RequestHead<'_>,
        topic: &str,
        circumstances: Circumstances,
    ) -> Result<Admission, Refusal> {
        let judged = self.judge(head, circumstances)?;
        Ok(self.rights(&judged, topic))
    }

    /// The rights in a topic of a request that is judged. A request for several topics asks for each of them.
    pub(crate) fn rights(&self, judged: &Judged, topic: &str) -> Admission {
        let rule = self.topics.of(topic);
        let grants = judged.grants.as_ref();
        let ends = grants.map(|grants| grants.expires_at).into_iter();
        Admission {
            may_subscribe: match rule.subscribe {
                Subscribe::Everyone => true,
                Subscribe::Token => grants.is_some_and(|grants| grants.may_subscribe(topic)),
            },
            may_publish: match rule.publish {
                Publish::Everyone => true,
                Publish::Nobody => false,
                Publish::Token => {
                    judged.has_publish_token
                        || grants.is_some_and(|grants| grants.may_publish(topic))
                }
            },
            expires_at: ends.chain(judged.other_end).min(),
            is_anonymous: judged.is_anonymous(),
            subject: grants.and_then(|grants| grants.subject.clone()),
        }
    }

    /// Whether a request that is judged may publish to a topic; without one, whether it may perhaps publish to some.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn allow_to_publish(
        &self,
        judged: &Judged,
        topic: Option<&str>,
    ) -> Result<(), Barred> {
        let publish = match topic {
            Some(topic) => self.topics.of(topic).publish,
            None => self.topics.most_open(),
        };
        match publish {
            Publish::Everyone => Ok(()),
            Publish::Nobody => Err(Barred::Everybody),
            Publish::Token if judged.is_anonymous() => Err(Barred::NeedsToken),
            Publish::Token => match topic {
                Some(topic) if !self.rights(judged, topic).may_publish => Err(Barred::Topic),
                Some(_) | None => Ok(()),
            },
        }
    }

    /// Judges everything that the request brings, its origin first. Grants of a proxy count instead of those in a token.
    pub(crate) fn judge(
        &self,
        head: &RequestHead<'_>,
        circumstances: Circumstances,
    ) -> Result<Judged, Refusal> {
        self.check_origin(head)?;
        let mut judged = match &self.keys {
            Some(keys) => self.judge_token(head, keys, circumstances)?,
            None => self.judge_publish_token(head)?,
        };
        if self.grants_header
            && circumstances.is_from_proxy
            && let Some(grants) = grants_of_proxy(head, circumstances.now)?
        {
            let token = judged.grants.replace(grants);
            judged.other_end = token.map(|token| token.expires_at);
        }
        Ok(judged)
    }

    /// Judges a request where only `relay.publish_tokens` have a meaning.
    fn judge_publish_token(&self, head: &RequestHead<'_>) -> Result<Judged, Refusal> {
        if !self.topics.has_token_to_publish() || self.publish_tokens.is_empty() {
            return Ok(Judged::default());
        }
        let has_publish_token = match bearer::judge(head, &self.publish_tokens) {
            Credentials::Absent => false,
            Credentials::Valid => true,
            Credentials::Invalid => return Err(Refusal::UNAUTHORIZED),
        };
        Ok(Judged {
            has_publish_token,
            ..Judged::default()
        })
    }

    /// Judges a request where JSON Web Tokens have a meaning, and perhaps `relay.publish_tokens` as well.
    fn judge_token(
        &self,
        head: &RequestHead<'_>,
        keys: &Keys,
        circumstances: Circumstances,
    ) -> Result<Judged, Refusal> {
        let in_query: Vec<_> = if self.looks_at_query() {
            bearer::in_query(head, head.target.len()).collect()
        } else {
            Vec::new()
        };
        let is_known = |token: &[u8]| bearer::is_known(token, &self.publish_tokens);
        if !self.token_in_query && !in_query.iter().flatten().all(|token| is_known(token)) {
            // Here the query is for publish tokens only.
            return Err(Refusal::UNAUTHORIZED);
        }
        let offered = circumstances
            .is_upgrade
            .then(|| subprotocol::bearer_tokens(head));
        let mut explicit = bearer::in_header(head)
            .chain(
                offered
                    .into_iter()
                    .flatten()
                    .map(|token| Some(Cow::Borrowed(token))),
            )
            .chain(in_query);
        let token = match explicit.next() {
            None => match self.cookie(head)? {
                Some(token) => Cow::Borrowed(token),
                None => return Ok(Judged::default()),
            },
            Some(token) => {
                // An `Authorization` without a token, or an escape in the query that is none.
                let token = token.ok_or(Refusal::TOKEN)?;
                if explicit.any(|other| other.as_ref() != Some(&token)) {
                    return Err(Refusal::TOKENS_DIFFER);
                }
                token
            }
        };
        if is_known(&token) {
            return Ok(Judged {
                has_publish_token: true,
                ..Judged::default()
            });
        }
        let now = circumstances.now.ok_or(Refusal::TOKEN_EXPIRED)?;
        let grants = token::verify(&token, keys, &self.rules, now).map_err(refusal)?;
        Ok(Judged {
            grants: Some(grants),
            ..Judged::default()
        })
    }

    /// Whether `?token=` has a meaning.
    fn looks_at_query(&self) -> bool {
        self.token_in_query || !self.publish_tokens.is_empty()
    }

    /// The token in the cookie. It counts only if the request comes from a page that may use it: browsers send cookies for every
    /// page (RFC 6265, section 8.2).
    fn cookie<'a>(&self, head: &RequestHead<'a>) -> Result<Option<&'a [u8]>, Refusal> {
        let Some(name) = &self.cookie else {
            return Ok(None);
        };
        // The origin has been checked, if there is one.
        let is_from_page = head.values("origin").next().is_some()
            || head.only_value("sec-fetch-site") == Some(b"same-origin");
        if !is_from_page {
            return Ok(None);
        }
        let mut values = cookie::values(head, name);
        let value = values.next();
        if values.any(|other| Some(other) != value) {
            return Err(Refusal::TOKENS_DIFFER);
        }
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// Whether pages of every site may connect.
    pub(crate) fn is_open_to_all_origins(&self) -> bool {
        self.allowed_origins.is_empty()
    }

    /// Checks the Origin. A client that sends none is not a browser, and could as well have claimed one that is let in.
    pub(crate) fn check_origin(&self, head: &RequestHead<'_>) -> Result<(), Refusal> {
        let mut values = head.values("origin");
        let claimed = values.next();
        if values.next().is_some() {
            return Err(Refusal::TWO_ORIGINS);
        }
        match claimed {
            Some(_) if self.allowed_origins.is_empty() => Ok(()),
            Some(value) if !origin::is_allowed(&self.allowed_origins, value, head.authority()) => {
                Err(Refusal::ORIGIN)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The grants that a trusted proxy gives; `None` if it says nothing.
fn grants_of_proxy(
    head: &RequestHead<'_>,
    now: Option<WallTime>,
) -> Result<Option<Grants>, Refusal> {
    let mut values = head.values(GRANTS_FIELD);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        // One may be the client's own, which the proxy has passed on.
        return Err(Refusal::GRANTS);
    }
    let now = now.ok_or(Refusal::GRANTS_EXPIRED)?;
    let grants = Grants::from_proxy(value, now).map_err(|error| match error {
        GrantsError::Malformed => Refusal::GRANTS,
        GrantsError::Expired => Refusal::GRANTS_EXPIRED,
    })?;
    Ok(Some(grants))
}

/// The answer to a token that is not valid.
fn refusal(error: TokenError) -> Refusal {
    match error {
        TokenError::Malformed => Refusal::TOKEN,
        TokenError::NoKey => Refusal::TOKEN_KEY,
        TokenError::Signature => Refusal::TOKEN_SIGNATURE,
        TokenError::Claims => Refusal::TOKEN_CLAIMS,
        TokenError::Pattern => Refusal::TOKEN_PATTERN,
        TokenError::Expired => Refusal::TOKEN_EXPIRED,
        TokenError::TooEarly => Refusal::TOKEN_EARLY,
        TokenError::Issuer => Refusal::TOKEN_ISSUER,
        TokenError::Audience => Refusal::TOKEN_AUDIENCE,
    }
}
