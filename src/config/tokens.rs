//! Checks of the section `access`: whether its keys make sense together. `server` reads the files that it names.

use std::path::Path;

use super::choices::{Publish, Subscribe};
use super::error::ConfigError;
use super::types::{Access, Config};
use crate::http::origin::OriginPattern;
use crate::http::token::is_token;
use crate::secrecy::{Kind, may_be_secret, quoted};

/// The most entries of `access.keys`. A JSON Web Key Set may have more keys.
const MAX_KEYS: usize = 256;
/// The longest `kid`, `issuer`, `audience` or name of a cookie in bytes.
const MAX_TEXT_BYTES: usize = 256;

impl Access {
    /// Whether tokens have a meaning.
    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks_file.is_some()
    }
}

impl Config {
    /// The clients that may send messages. `relay.publish` and `access.publish` say it, and at most one of them differs from
    /// `everyone`.
    pub fn publish(&self) -> Publish {
        match self.relay.publish {
            Publish::Everyone => self.access.publish,
            Publish::Token | Publish::Nobody => self.relay.publish,
        }
    }

    pub(super) fn validate_tokens(&self) -> Result<(), ConfigError> {
        let access = &self.access;
        check_files(access)?;
        check_texts(access)?;
        if access.publish != Publish::Everyone && self.relay.publish != Publish::Everyone {
            return Err(wrong(
                "access.publish",
                "relay.publish says it, too",
                "set only one of the two, and leave the other at everyone",
            ));
        }
        self.check_needs()?;
        self.check_proxies_of_grants()?;
        self.check_cookie()
    }

    /// Refuses a configuration in which nobody could do something, or in which a key has no effect.
    fn check_needs(&self) -> Result<(), ConfigError> {
        const FIX: &str = "name the keys of your tokens in access.keys or access.jwks_file, or set access.grants_header";
        let access = &self.access;
        if !access.has_keys() && !access.grants_header {
            if access.subscribe == Subscribe::Token {
                let problem =
                    "it is token, but there are no keys for tokens: no client could hear anything";
                return Err(wrong("access.subscribe", problem, FIX));
            }
            if access.publish == Publish::Token {
                let problem =
                    "it is token, but there are no keys for tokens: no client could send anything";
                return Err(wrong("access.publish", problem, FIX));
            }
        }
        if access.has_keys() {
            return Ok(());
        }
        for (key, is_set) in [
            ("access.issuer", access.issuer.is_some()),
            ("access.audience", access.audience.is_some()),
            ("access.cookie", access.cookie.is_some()),
            ("access.token_in_query", access.token_in_query),
        ] {
            if is_set {
                let problem = "it has no effect without keys for tokens";
                let fix = "name keys in access.keys or access.jwks_file, or remove it";
                return Err(wrong(key, problem, fix));
            }
        }
        Ok(())
    }

    fn check_proxies_of_grants(&self) -> Result<(), ConfigError> {
        if self.access.grants_header && self.server.trusted_proxies.is_empty() {
            return Err(wrong(
                "access.grants_header",
                "it has no effect while server.trusted_proxies is empty",
                "list the proxies that send Fanwire-Grants, and have them remove the client's own",
            ));
        }
        Ok(())
    }

    /// Any page can have a browser send a cookie. Only the origin tells which page it was.
    fn check_cookie(&self) -> Result<(), ConfigError> {
        let Some(name) = &self.access.cookie else {
            return Ok(());
        };
        let origins = &self.server.allowed_origins;
        let (problem, fix) = if !is_token(name) {
            let name = quoted(name, Kind::Value);
            (
                format!("{name} is not the name of a cookie"),
                "use letters, digits and - or _",
            )
        } else if origins.is_empty() {
            (
                "server.allowed_origins is empty: any page that a user visits could connect with the user's cookie".into(),
                "list the origins of your pages",
            )
        } else if origins.iter().any(OriginPattern::is_opaque) {
            (
                "server.allowed_origins has null, which any site can make its origin: it could connect with the user's cookie".into(),
                "remove null from the list, or send the token as a subprotocol",
            )
        } else {
            return Ok(());
        };
        Err(ConfigError::new(problem, fix).of_key("access.cookie"))
    }
}

fn wrong(key: &str, problem: &str, fix: &str) -> ConfigError {
    ConfigError::new(problem, fix).of_key(key)
}

/// Refuses the text of a key in place of the path of its file, before anything else could show it.
fn check_files(access: &Access) -> Result<(), ConfigError> {
    if access.keys.len() > MAX_KEYS {
        let problem = format!("the list has {} entries", access.keys.len());
        let fix = format!("use at most {MAX_KEYS}, or access.jwks_file");
        return Err(ConfigError::new(problem, fix).of_key("access.keys"));
    }
    let keys = access.keys.iter().enumerate();
    let files = keys.map(|(at, key)| (format!("access.keys[{at}].file"), key.file.as_path()));
    let set = access.jwks_file.as_deref();
    let set = set.map(|path| ("access.jwks_file".to_owned(), path));
    for (key, path) in files.chain(set) {
        if looks_like_contents(path) {
            let problem = "the text of a key is given in place of the path of its file";
            return Err(wrong(&key, problem, "write it to a file, and name that"));
        }
    }
    Ok(())
}

fn looks_like_contents(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let is_json = text.trim_start().starts_with('{');
    (is_json || may_be_secret(&text, Kind::Name)) && !path.exists()
}

fn check_texts(access: &Access) -> Result<(), ConfigError> {
    let keys = access.keys.iter().enumerate();
    let kids = keys.map(|(at, key)| (format!("access.keys[{at}].kid"), key.kid.as_deref()));
    let others = [
        ("access.issuer", &access.issuer),
        ("access.audience", &access.audience),
        ("access.cookie", &access.cookie),
    ];
    let others = others.map(|(key, text)| (key.to_owned(), text.as_deref()));
    for (key, text) in kids.chain(others) {
        let Some(text) = text else {
            continue;
        };
        if text.is_empty() || text.len() > MAX_TEXT_BYTES {
            let problem = format!("the text has {} bytes", text.len());
            let fix = format!("use 1 to {MAX_TEXT_BYTES} bytes, or null for none");
            return Err(ConfigError::new(problem, fix).of_key(key));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tokens/tests.rs"]
mod tests;
