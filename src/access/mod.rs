//! The right to connect and the right to publish, as the configuration gives them.
//!
//! [`crate::port`] asks [`Access::admit`] once for each request. [`crate::http`] knows the syntax of origins and tokens.
//! This module knows their consequences, and refuses what the configuration does not allow.

use crate::config::{Config, Publish};
use crate::http::bearer::{self, Credentials, Token};
use crate::http::origin::{self, OriginPattern};
use crate::http::request::RequestHead;
use crate::ws::handshake::Refusal;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// If empty, every origin is let in.
    allowed_origins: Vec<OriginPattern>,
    publish: Publish,
    tokens: Vec<Token>,
}

/// The rights of a client that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// It may listen.
    Listen,
    /// It may listen and send messages.
    Publish,
}

/// The reason why a client may not publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// It may not even listen.
    Refused(Refusal),
    /// It has no token.
    NeedsToken,
    /// Nobody may publish.
    Forbidden,
}

impl Access {
    /// The rules of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        Access {
            allowed_origins: config.server.allowed_origins.clone(),
            publish: config.relay.publish,
            tokens: config.relay.publish_tokens.clone(),
        }
    }

    /// Lets a request in, or refuses it.
    pub(crate) fn admit(&self, head: &RequestHead<'_>) -> Result<Permission, Refusal> {
        self.check_origin(head)?;
        match self.publish {
            Publish::Everyone => Ok(Permission::Publish),
            Publish::Nobody => Ok(Permission::Listen),
            Publish::Token => match bearer::judge(head, &self.tokens) {
                Credentials::Absent => Ok(Permission::Listen),
                Credentials::Valid => Ok(Permission::Publish),
                Credentials::Invalid => Err(Refusal::UNAUTHORIZED),
            },
        }
    }

    /// Lets a request in that publishes, or refuses it.
    pub(crate) fn admit_publisher(&self, head: &RequestHead<'_>) -> Result<(), Barred> {
        match self.admit(head).map_err(Barred::Refused)? {
            Permission::Publish => Ok(()),
            Permission::Listen => Err(match self.publish {
                Publish::Everyone | Publish::Token => Barred::NeedsToken,
                Publish::Nobody => Barred::Forbidden,
            }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::handshake::RefusalKind;

    const TOKEN: &str = "0123456789abcdef";
    const LISTEN: Result<Permission, RefusalKind> = Ok(Permission::Listen);
    const PUBLISH: Result<Permission, RefusalKind> = Ok(Permission::Publish);

    fn access(change: impl FnOnce(&mut Config)) -> Access {
        let mut config = Config::default();
        change(&mut config);
        Access::new(&config)
    }

    fn publish(publish: Publish) -> Access {
        access(|config| {
            config.relay.publish = publish;
            config.relay.publish_tokens = vec![Token::new(TOKEN).unwrap()];
        })
    }

    /// The answer to a request to `target` with `fields`, each with the end of its line.
    fn admit(access: &Access, target: &str, fields: &str) -> Result<Permission, RefusalKind> {
        let request = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
        let head = RequestHead::parse(request.as_bytes()).unwrap();
        access.admit(&head).map_err(|refusal| refusal.kind)
    }

    #[test]
    fn by_default_any_page_may_connect_and_publish() {
        let access = access(|_| {});
        for fields in [
            "",
            "Origin: https://a.example\r\n",
            "Origin: null\r\n",
            "Origin: ?\r\n",
        ] {
            assert_eq!(admit(&access, "/", fields), PUBLISH, "{fields}");
        }
    }

    #[test]
    fn with_a_list_of_origins_others_are_refused_but_not_clients_without_one() {
        let access = access(|config| {
            config.server.allowed_origins = vec!["a.example".parse().unwrap()];
        });
        let refused = Err(RefusalKind::Origin);
        assert_eq!(admit(&access, "/", ""), PUBLISH);
        for (fields, expected) in [
            ("Origin: https://a.example\r\n", PUBLISH),
            ("Origin: https://b.example\r\n", refused),
            ("Origin: null\r\n", refused),
            ("Origin:\r\n", refused),
        ] {
            assert_eq!(admit(&access, "/", fields), expected, "{fields}");
        }
    }

    #[test]
    fn with_same_origin_the_host_of_the_request_decides() {
        let access = access(|config| {
            config.server.allowed_origins = vec!["same-origin".parse().unwrap()];
        });
        let fields = "Host: relay.example:8443\r\nOrigin: https://relay.example:8443\r\n";
        assert_eq!(admit(&access, "/", fields), PUBLISH);
        // The host of the target counts instead (RFC 9112, section 3.2.2).
        let target = "http://other.example/";
        assert_eq!(admit(&access, target, fields), Err(RefusalKind::Origin));
        let foreign = "Host: relay.example:8443\r\nOrigin: https://other.example\r\n";
        assert_eq!(admit(&access, "/", foreign), Err(RefusalKind::Origin));
    }

    #[test]
    fn two_origins_are_a_bad_request_whatever_is_listed() {
        let twice = "Origin: https://a.example\r\n".repeat(2);
        assert_eq!(
            admit(&access(|_| {}), "/", &twice),
            Err(RefusalKind::BadRequest)
        );
    }

    #[test]
    fn a_token_allows_publishing_and_a_wrong_one_not_even_listening() {
        let access = publish(Publish::Token);
        assert_eq!(admit(&access, "/", ""), LISTEN);
        assert_eq!(admit(&access, &format!("/?token={TOKEN}"), ""), PUBLISH);
        assert_eq!(
            admit(&access, "/?token=wrong", ""),
            Err(RefusalKind::Unauthorized)
        );
        let wrong = "Authorization: Bearer wrong\r\n";
        assert_eq!(admit(&access, "/", wrong), Err(RefusalKind::Unauthorized));
    }

    #[test]
    fn the_password_of_a_proxy_beside_a_token_is_no_reason_to_refuse() {
        let access = publish(Publish::Token);
        let basic = "Authorization: Basic dXNlcjpwYXNz\r\n";
        assert_eq!(admit(&access, "/", basic), LISTEN);
        assert_eq!(admit(&access, &format!("/?token={TOKEN}"), basic), PUBLISH);
    }

    #[test]
    fn a_token_that_the_configuration_does_not_ask_for_is_ignored() {
        for target in ["/", "/?token=wrong", &format!("/?token={TOKEN}")] {
            assert_eq!(admit(&publish(Publish::Everyone), target, ""), PUBLISH);
            assert_eq!(admit(&publish(Publish::Nobody), target, ""), LISTEN);
        }
    }
}
