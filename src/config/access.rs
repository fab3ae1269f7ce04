//! Checks of the rate limits, of the access rules, and of what requests may ask for. [`super::bounds`] checks the other keys.

use super::choices::Publish;
use super::error::ConfigError;
use super::range::check_range;
use super::types::{Config, Limits};
use crate::secrecy::{Kind, quoted};
use crate::ws::subprotocol::Subprotocol;

/// The largest `limits.messages_per_second`: more than a shard can take in from all its clients.
const MAX_MESSAGES_PER_SECOND: usize = 1_000_000;
/// The largest `limits.burst`.
const MAX_BURST: usize = 10_000_000;
/// The burst is at least the messages of a second divided by this. All that one turn reads counts as sent at once, and
/// on a busy machine a turn may take a tenth of a second.
const BURSTS_PER_SECOND: usize = 10;
/// The largest `limits.control_frames_per_second`. Its burst must fit, see below.
const MAX_CONTROL_FRAMES_PER_SECOND: usize = 1_000_000;
/// The most entries in a list. The relay searches the list for every client that connects.
const MAX_ENTRIES: usize = 256;
/// The longest `server.health_path`. The relay compares it with the path of every request.
const MAX_PATH_BYTES: usize = 256;

const _: () = {
    // The default burst of any allowed rate is itself allowed.
    assert!(MAX_MESSAGES_PER_SECOND * Limits::DEFAULT_BURST_SECONDS <= MAX_BURST);
    assert!(MAX_CONTROL_FRAMES_PER_SECOND * Limits::CONTROL_BURST_SECONDS <= MAX_BURST);
};

impl Config {
    pub(super) fn validate_rate(&self) -> Result<(), ConfigError> {
        let Limits {
            messages_per_second: rate,
            burst,
            ..
        } = self.limits;
        check_range(
            "limits.messages_per_second",
            rate,
            0..=MAX_MESSAGES_PER_SECOND,
        )?;
        check_range(
            "limits.control_frames_per_second",
            self.limits.control_frames_per_second,
            0..=MAX_CONTROL_FRAMES_PER_SECOND,
        )?;
        if burst == 0 {
            return Ok(());
        }
        if rate == 0 {
            let problem = format!("{burst} has no effect while limits.messages_per_second is 0");
            let fix = "set limits.messages_per_second as well, or set limits.burst to 0";
            return Err(ConfigError::new(problem, fix).of_key("limits.burst"));
        }
        let least = rate.div_ceil(BURSTS_PER_SECOND);
        check_range("limits.burst", burst, least..=MAX_BURST).map_err(|error| {
            let derived = Limits::DEFAULT_BURST_SECONDS;
            error.or(format_args!("0 for the messages of {derived} seconds"))
        })
    }

    pub(super) fn validate_access(&self) -> Result<(), ConfigError> {
        let tokens = &self.relay.publish_tokens;
        check_entries("server.allowed_origins", self.server.allowed_origins.len())?;
        check_entries("relay.publish_tokens", tokens.len())?;
        check_subprotocols(&self.server.subprotocols)?;
        check_health_path(self.server.health_path.as_deref())?;
        let (problem, fix) = match self.relay.publish {
            Publish::Token if tokens.is_empty() => (
                "the list is empty, but relay.publish is token: no client could send",
                "list a token, or set relay.publish to nobody",
            ),
            _ if self.has_rule_with_token() => return Ok(()),
            Publish::Everyone if !tokens.is_empty() => (
                "relay.publish is everyone: these tokens would have no effect",
                "set relay.publish to token, or remove the tokens",
            ),
            Publish::Nobody if !tokens.is_empty() => (
                "relay.publish is nobody: these tokens would have no effect",
                "set relay.publish to token, or remove the tokens",
            ),
            Publish::Everyone | Publish::Token | Publish::Nobody => return Ok(()),
        };
        Err(ConfigError::new(problem, fix).of_key("relay.publish_tokens"))
    }
}

fn check_subprotocols(list: &[Subprotocol]) -> Result<(), ConfigError> {
    const KEY: &str = "server.subprotocols";
    check_entries(KEY, list.len())?;
    let (problem, fix) = if list.len() > 1 && list.contains(&Subprotocol::Any) {
        let problem = "the list has `*` and names: `*` selects whatever the client offers first";
        (problem.into(), "use `[\"*\"]`, or only names")
    } else if let Some(twice) = (1..list.len()).find(|&at| list[..at].contains(&list[at])) {
        let problem = format!("`{}` is there twice", list[twice]);
        (
            problem,
            "remove one; the first that the client offers is selected",
        )
    } else {
        return Ok(());
    };
    Err(ConfigError::new(problem, fix).of_key(KEY))
}

/// Refuses a path that no request names, or that clients need for themselves.
fn check_health_path(path: Option<&str>) -> Result<(), ConfigError> {
    let Some(path) = path else {
        return Ok(());
    };
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%".contains(&byte);
    let problem = if path == "/" {
        "`/` is the path that most clients connect to, and would be no topic any more".into()
    } else if !path.starts_with('/') {
        let path = quoted(path, Kind::Name);
        format!("{path} does not begin with `/`")
    } else if path.len() > MAX_PATH_BYTES {
        format!("it is {} bytes long", path.len())
    } else if !path.bytes().all(is_plain) {
        let path = quoted(path, Kind::Name);
        format!("{path} has characters other than those of a plain path")
    } else {
        return Ok(());
    };
    let fix =
        format!("use a path such as /healthz, of at most {MAX_PATH_BYTES} bytes, or null for none");
    Err(ConfigError::new(problem, fix).of_key("server.health_path"))
}

fn check_entries(key: &str, count: usize) -> Result<(), ConfigError> {
    if count <= MAX_ENTRIES {
        return Ok(());
    }
    let fix = format!("use at most {MAX_ENTRIES}");
    Err(ConfigError::new(format!("the list has {count} entries"), fix).of_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::refusal;
    use crate::http::bearer::Token;

    #[test]
    fn a_burst_needs_a_rate_and_is_at_least_a_tenth_of_it() {
        assert_eq!(
            refusal(|config| config.limits.burst = 7),
            "configuration: limits.burst: 7 has no effect while limits.messages_per_second is 0; \
             set limits.messages_per_second as well, or set limits.burst to 0"
        );
        let rated = |burst| {
            let mut config = Config::default();
            (config.limits.messages_per_second, config.limits.burst) = (101, burst);
            config.validate()
        };
        for burst in [0, 11, MAX_BURST] {
            assert_eq!(rated(burst), Ok(()), "for {burst}");
        }
        assert_eq!(
            rated(10).unwrap_err().to_string(),
            "configuration: limits.burst: 10 is too small; use 11 to 10000000, or 0 for the messages of 5 seconds"
        );
        assert!(rated(MAX_BURST + 1).is_err());
        let text = refusal(|config| config.limits.control_frames_per_second = 1_000_001);
        assert!(
            text.contains("limits.control_frames_per_second: 1000001 is too large"),
            "{text}"
        );
        let text = refusal(|config| config.limits.messages_per_second = 1_000_001);
        assert!(
            text.contains("limits.messages_per_second: 1000001 is too large"),
            "{text}"
        );
    }

    #[test]
    fn tokens_are_listed_if_and_only_if_they_are_required() {
        let with = |publish, tokens: &[&str]| {
            let mut config = Config::default();
            config.relay.publish = publish;
            config.relay.publish_tokens = tokens
                .iter()
                .map(|text| Token::new(text).unwrap())
                .collect();
            config.validate().map_err(|error| error.to_string())
        };
        let one = &["aaaaaaaaaaaaaaaa"][..];
        assert_eq!(with(Publish::Token, one), Ok(()));
        assert_eq!(with(Publish::Nobody, &[]), Ok(()));
        let refused = |publish, tokens| with(publish, tokens).unwrap_err();
        assert_eq!(
            refused(Publish::Token, &[]),
            "configuration: relay.publish_tokens: the list is empty, but relay.publish is token: no client could send; \
             list a token, or set relay.publish to nobody"
        );
        for publish in [Publish::Everyone, Publish::Nobody] {
            let text = refused(publish, one);
            assert!(text.contains("these tokens would have no effect"));
        }
        let many = ["aaaaaaaaaaaaaaaa"; MAX_ENTRIES + 1];
        assert!(
            refused(Publish::Token, &many).contains("the list has 257 entries; use at most 256")
        );
    }

    #[test]
    fn the_path_of_health_checks_is_a_plain_path_and_not_the_root() {
        let with = |path: &str| {
            let mut config = Config::default();
            config.server.health_path = Some(path.into());
            config.validate().map_err(|error| error.to_string())
        };
        let long = format!("/{}", "x".repeat(255));
        for path in ["/healthz", "/a/b.c-d_e~f", &long] {
            assert_eq!(with(path), Ok(()), "{path}");
        }
        assert_eq!(
            with("healthz").unwrap_err(),
            "configuration: server.health_path: `healthz` does not begin with `/`; \
             use a path such as /healthz, of at most 256 bytes, or null for none"
        );
        for (path, problem) in [
            ("", "does not begin with"),
            ("/", "is the path that most clients connect to"),
            ("/a b", "has characters other than"),
            ("/a?b", "has characters other than"),
            ("/a#b", "has characters other than"),
            ("/%41", "has characters other than"),
            ("/ä", "has characters other than"),
            ("http://a/b", "does not begin with"),
            (&format!("{long}x"), "it is 257 bytes long"),
        ] {
            let text = with(path).unwrap_err();
            assert!(text.contains(problem), "{path}: {text}");
        }
    }

    #[test]
    fn subprotocols_are_names_of_which_none_is_there_twice_or_an_asterisk_alone() {
        let with = |list: &[&str]| {
            let mut config = Config::default();
            let entries = list.iter().map(|text| Subprotocol::new(text).unwrap());
            config.server.subprotocols = entries.collect();
            config.validate().map_err(|error| error.to_string())
        };
        for list in [&[][..], &["*"], &["a", "b", "A"]] {
            assert_eq!(with(list), Ok(()), "{list:?}");
        }
        assert_eq!(
            with(&["a", "*"]).unwrap_err(),
            "configuration: server.subprotocols: the list has `*` and names: `*` selects whatever the client offers \
             first; use `[\"*\"]`, or only names"
        );
        let text = with(&["a", "b", "a"]).unwrap_err();
        assert!(
            text.contains("server.subprotocols: `a` is there twice; remove one"),
            "{text}"
        );
        let text = with(&["*", "*"]).unwrap_err();
        assert!(text.contains("use `[\"*\"]`"), "{text}");
    }
}
