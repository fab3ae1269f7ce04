//! The bounds of every value, the relations between values, and the check of both.
//!
//! [`Config::validate`] checks every configuration, whether it comes from a file or from code. It looks at the file
//! system only for the files that TLS needs, and resolves no host name.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::error::ConfigError;
use super::proxies::ProxySource;
use super::range::check_range;
use super::tls_files::validate_tls;
use super::types::{Config, Limits};
use super::units::{Bytes, Octal, Span};
use crate::secrecy::{Kind, quoted};

/// The smallest `limits.max_message_bytes`: the limit must never forbid control frames, which hold up to 125 bytes (RFC
/// 6455, section 5.5).
const MIN_MESSAGE_BYTES: usize = 125;
/// The largest `compression.min_members`. No topic has more members than that on one machine.
const MAX_MIN_MEMBERS: usize = 1_000_000;
/// The largest `limits.max_message_bytes`. The relay is not for transferring files.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The smallest `limits.max_header_bytes`: a browser's upgrade request without cookies.
const MIN_HEADER_BYTES: usize = 1 << 10;
/// The largest `limits.max_header_bytes`. Each connection may hold this much until its handshake times out.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// The largest `slow_consumer.max_lag_bytes`. Each topic may hold this much on each shard.
const MAX_LAG_BYTES: usize = 1 << 30;
/// The largest `limits.max_buffered_bytes`: 1 TiB, more memory than machines have.
const MAX_BUFFERED_BYTES: usize = 1 << 40;
/// A shard's share of `limits.max_buffered_bytes` is at least this many `slow_consumer.max_lag_bytes`. When one topic
/// is at its limit, there is still room for other topics and for incomplete messages.
const LAGS_PER_SHARE: usize = 2;
/// `slow_consumer.max_lag_bytes` must hold this many of the largest messages. While a client receives one, the next
/// must not count as lag.
const MESSAGES_PER_LAG: usize = 2;
/// The smallest `server.tcp_notsent_lowat` other than 0. With less, the kernel would wake the relay every few frames.
const MIN_NOTSENT_LOWAT: usize = 1 << 10;
/// The largest `server.tcp_notsent_lowat`. Beyond it, the option has no effect with the usual kernel settings.
const MAX_NOTSENT_LOWAT: usize = 64 << 20;
/// The largest `server.workers`.
pub(crate) const MAX_WORKERS: usize = 256;
/// The largest `server.max_connections` and `server.max_connections_per_ip`.
const MAX_CONNECTIONS: usize = 10_000_000;
/// The largest `server.fill_workers_to`. Each worker allocates room for this many connections when it starts.
const MAX_FILL: usize = 64 << 10;
/// The shortest timeout. Event loops count in milliseconds.
const MIN_WAIT: Duration = Duration::from_millis(1);
/// The longest timeout. A peer that is silent for longer is gone.
const MAX_WAIT: Duration = Duration::from_hours(1);
/// The shortest `relay.coalesce` other than 0. A single turn takes in the messages of that time anyway.
const MIN_COALESCE: Duration = Duration::from_micros(10);
/// The longest `relay.coalesce`. A client that breaks the protocol gets its earlier messages back before its Close, and
/// it has `slow_consumer.close_timeout` in all.
const MAX_COALESCE: Duration = Duration::from_secs(1);
/// The shortest `slow_consumer.close_timeout`. A violator's own messages must be back in that time, see [`MAX_COALESCE`].
const MIN_CLOSE: Duration = Duration::from_secs(2);
/// The longest `slow_consumer.close_timeout`. Until then, a client that is closed takes up a connection.
const MAX_CLOSE: Duration = Duration::from_mins(10);
/// The longest `shutdown.delay` and `shutdown.timeout`. Service managers kill the process earlier.
const MAX_SHUTDOWN: Duration = Duration::from_mins(10);
/// The most entries of `server.proxy_protocol.from` and `server.trusted_proxies`. The relay searches the lists for every
/// connection.
const MAX_PROXIES: usize = 256;
/// The longest path of a Unix socket in bytes: the address holds 108, and the last one is a NUL (unix(7)).
const MAX_UNIX_PATH_BYTES: usize = 107;
/// The permission bits of a file.
const MAX_MODE: u32 = 0o777;
/// The longest host name (RFC 1035, section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

const _: () = {
    assert!(MIN_MESSAGE_BYTES < MAX_MESSAGE_BYTES && MIN_HEADER_BYTES < MAX_HEADER_BYTES);
    // Every allowed message size leaves an allowed lag.
    assert!(MESSAGES_PER_LAG * MAX_MESSAGE_BYTES <= MAX_LAG_BYTES);
    assert!(LAGS_PER_SHARE * MAX_LAG_BYTES <= MAX_BUFFERED_BYTES);
    assert!(Limits::MOST_DERIVED_BYTES <= MAX_BUFFERED_BYTES);
    // The socket option is a C int.
    assert!(MAX_NOTSENT_LOWAT <= i32::MAX as usize);
    // `ShardId` has 16 bits, and a client's slot 32.
    assert!(MAX_WORKERS <= u16::MAX as usize && MAX_CONNECTIONS <= u32::MAX as usize);
    assert!(MAX_COALESCE.as_micros() < MIN_CLOSE.as_micros());
    assert!(
        MIN_WAIT.as_micros() < MAX_SHUTDOWN.as_micros()
            && MAX_SHUTDOWN.as_micros() < MAX_WAIT.as_micros()
    );
};

impl Config {
    /// Checks the ranges and relations of all values. The error names the first wrong key, its value and the allowed
    /// range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_server()?;
        self.validate_sizes()?;
        self.validate_rate()?;
        self.validate_access()?;
        self.validate_tokens()?;
        self.validate_history()?;
        self.validate_waits()?;
        self.validate_compression()?;
        self.validate_listeners()?;
        self.validate_unix_socket()?;
        self.validate_proxies()?;
        self.validate_cluster()?;
        self.validate_topics()?;
        validate_tls(&self.server.tls)
    }

    /// The checks of values that a rule for topics may replace.
    pub(super) fn validate_of_topic(&self) -> Result<(), ConfigError> {
        self.validate_sizes()?;
        self.validate_history()?;
        self.validate_compression()?;
        self.check_rest_with_engines()?;
        self.validate_waits()
    }

    /// The bytes that each of `shards` shards may hold: its share of `limits.max_buffered_bytes`, but at least two
    /// times the largest `max_lag_bytes`. A relay replaces a limit of 0 before it asks; here 0 counts as the most
    /// that a relay derives.
    pub fn buffered_bytes_per_shard(&self, shards: u16) -> u64 {
        let limit = match self.limits.max_buffered_bytes {
            0 => Limits::MOST_DERIVED_BYTES,
            limit => limit,
        };
        let share = limit / usize::from(shards.max(1));
        share.max(self.least_bytes_per_shard()) as u64
    }

    /// The bytes that a shard may hold at least: two times the largest `max_lag_bytes`, of `slow_consumer` and of all rules.
    pub(crate) fn least_bytes_per_shard(&self) -> usize {
        LAGS_PER_SHARE * self.largest_lag_bytes()
    }

    fn validate_server(&self) -> Result<(), ConfigError> {
        let server = &self.server;
        check_range("server.workers", server.workers, 0..=MAX_WORKERS)?;
        check_range(
            "server.fill_workers_to",
            server.fill_workers_to,
            0..=MAX_FILL,
        )?;
        check_range(
            "server.max_connections",
            server.max_connections,
            0..=MAX_CONNECTIONS,
        )?;
        check_range(
            "server.max_connections_per_ip",
            server.max_connections_per_ip,
            0..=MAX_CONNECTIONS,
        )?;
        if server.tcp_notsent_lowat == 0 {
            return Ok(());
        }
        let allowed = Bytes(MIN_NOTSENT_LOWAT)..=Bytes(MAX_NOTSENT_LOWAT);
        check_range(
            "server.tcp_notsent_lowat",
            Bytes(server.tcp_notsent_lowat),
            allowed,
        )
        .map_err(|error| error.or("0 for the kernel's default"))
    }

    fn validate_sizes(&self) -> Result<(), ConfigError> {
        let message = Bytes(self.limits.max_message_bytes);
        let header = Bytes(self.limits.max_header_bytes);
        let lag = Bytes(self.slow_consumer.max_lag_bytes);
        check_range(
            "limits.max_message_bytes",
            message,
            Bytes(MIN_MESSAGE_BYTES)..=Bytes(MAX_MESSAGE_BYTES),
        )?;
        check_range(
            "limits.max_header_bytes",
            header,
            Bytes(MIN_HEADER_BYTES)..=Bytes(MAX_HEADER_BYTES),
        )?;
        let least = Bytes(MESSAGES_PER_LAG * message.0);
        check_range("slow_consumer.max_lag_bytes", lag, least..=Bytes(MAX_LAG_BYTES)).map_err(|error| {
            error.or(format_args!(
                "lower limits.max_message_bytes (now {message}, and max_lag_bytes must be {MESSAGES_PER_LAG} times that)"
            ))
        })?;
        if self.limits.max_buffered_bytes == 0 {
            return Ok(());
        }
        let least = Bytes(LAGS_PER_SHARE * lag.0);
        check_range(
            "limits.max_buffered_bytes",
            Bytes(self.limits.max_buffered_bytes),
            least..=Bytes(MAX_BUFFERED_BYTES),
        )
        .map_err(|error| {
            error
                .or(format_args!(
                    "lower slow_consumer.max_lag_bytes (now {lag}, and max_buffered_bytes must be {LAGS_PER_SHARE} times that)"
                ))
                .or("0 for half of the memory that the relay may use")
        })
    }

    fn validate_compression(&self) -> Result<(), ConfigError> {
        check_range(
            "compression.min_members",
            self.compression.min_members,
            1..=MAX_MIN_MEMBERS,
        )
    }

    fn validate_waits(&self) -> Result<(), ConfigError> {
        let keepalive = &self.keepalive;
        check_wait("server.handshake_timeout", self.server.handshake_timeout)?;
        check_wait(
            "slow_consumer.stall_timeout",
            self.slow_consumer.stall_timeout,
        )?;
        check_range(
            "slow_consumer.close_timeout",
            Span(self.slow_consumer.close_timeout),
            Span(MIN_CLOSE)..=Span(MAX_CLOSE),
        )?;
        if !keepalive.ping_interval.is_zero() {
            check_wait("keepalive.ping_interval", keepalive.ping_interval)
                .map_err(|error| error.or("0s to send no pings"))?;
        }
        check_wait("keepalive.pong_timeout", keepalive.pong_timeout)?;
        if !self.relay.coalesce.is_zero() {
            check_range(
                "relay.coalesce",
                Span(self.relay.coalesce),
                Span(MIN_COALESCE)..=Span(MAX_COALESCE),
            )
            .map_err(|error| error.or("0s to send every message at once"))?;
        }
        check_range(
            "shutdown.delay",
            Span(self.shutdown.delay),
            Span(Duration::ZERO)..=Span(MAX_SHUTDOWN),
        )?;
        check_range(
            "shutdown.timeout",
            Span(self.shutdown.timeout),
            Span(Duration::ZERO)..=Span(MAX_SHUTDOWN),
        )?;
        self.validate_spread()
    }

    /// Clients that are closed last need time to get their Close, too.
    fn validate_spread(&self) -> Result<(), ConfigError> {
        let (spread, most) = (self.shutdown.spread, self.shutdown.time_for_clients());
        if spread.is_zero() || spread < most {
            return Ok(());
        }
        let problem = format!(
            "{} is too long: with a shutdown.timeout of {}, clients are cut after {}",
            Span(spread),
            Span(self.shutdown.timeout),
            Span(most)
        );
        let fix = "use at most half of the timeout, or 0s to close all clients at once";
        Err(ConfigError::new(problem, fix).of_key("shutdown.spread"))
    }

    fn validate_listeners(&self) -> Result<(), ConfigError> {
        let (server, metrics) = (&self.server, &self.metrics);
        check_host("server.host", &server.host)?;
        check_host("metrics.host", &metrics.host)?;
        let same_port = server.port != 0 && server.port == metrics.port;
        if metrics.enabled && same_port && overlap(&server.host, &metrics.host) {
            let problem = format!("{} is also the value of server.port", metrics.port);
            return Err(ConfigError::new(problem, "use another port").of_key("metrics.port"));
        }
        Ok(())
    }

    fn validate_proxies(&self) -> Result<(), ConfigError> {
        let server = &self.server;
        self.check_proxies("server.trusted_proxies", &server.trusted_proxies)?;
        self.check_proxies("server.proxy_protocol.from", &server.proxy_protocol.from)
    }

    fn check_proxies(&self, key: &str, proxies: &[ProxySource]) -> Result<(), ConfigError> {
        if proxies.len() > MAX_PROXIES {
            let problem = format!("the list has {} entries", proxies.len());
            let fix = format!("use at most {MAX_PROXIES}; one network can replace many addresses");
            return Err(ConfigError::new(problem, fix).of_key(key));
        }
        if proxies.contains(&ProxySource::Unix) && self.server.unix_socket.is_none() {
            let problem = "the list has `unix`, but there is no Unix socket";
            return Err(
                ConfigError::new(problem, "set server.unix_socket, or remove `unix`").of_key(key),
            );
        }
        Ok(())
    }

    fn validate_unix_socket(&self) -> Result<(), ConfigError> {
        check_range(
            "server.unix_socket_mode",
            Octal(self.server.unix_socket_mode),
            Octal(0)..=Octal(MAX_MODE),
        )?;
        let Some(path) = &self.server.unix_socket else {
            return match &self.server.unix_socket_group {
                None => Ok(()),
                Some(_) => Err(ConfigError::new(
                    "it is set, but there is no Unix socket",
                    "set server.unix_socket, or remove it",
                )
                .of_key("server.unix_socket_group")),
            };
        };
        let bytes = path.as_os_str().as_encoded_bytes();
        let problem = match bytes.len() {
            0 => "it is empty".to_owned(),
            length if length > MAX_UNIX_PATH_BYTES => format!("it is {length} bytes long"),
            _ if bytes.contains(&0) => "it contains a NUL".to_owned(),
            _ => return Ok(()),
        };
        let fix = format!("use a path of 1 to {MAX_UNIX_PATH_BYTES} bytes");
        Err(ConfigError::new(problem, fix).of_key("server.unix_socket"))
    }
}

fn check_wait(key: &str, wait: Duration) -> Result<(), ConfigError> {
    check_range(key, Span(wait), Span(MIN_WAIT)..=Span(MAX_WAIT))
}

/// Refuses a text that is neither an address nor a valid host name. Names are resolved later, when the relay listens.
fn check_host(key: &str, host: &str) -> Result<(), ConfigError> {
    const FIX: &str = "use an address such as 127.0.0.1, or 0.0.0.0 or \"::\" for every one, or a host name; \
        it has no brackets and no port";
    let problem = if host.is_empty() {
        "it is empty".to_owned()
    } else if is_address(host) || is_name(host) {
        return Ok(());
    } else {
        let host = quoted(host, Kind::Name);
        format!("{host} is neither an address nor a host name")
    };
    Err(ConfigError::new(problem, FIX).of_key(key))
}

fn is_address(host: &str) -> bool {
    // The zone of a link-local address follows a percent sign (RFC 4007, section 11).
    let scoped = host
        .split_once('%')
        .is_some_and(|(address, zone)| address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty());
    scoped || host.parse::<IpAddr>().is_ok()
}

fn is_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    // Digits and dots alone are a mistyped address.
    host.len() <= MAX_HOST_BYTES
        && host.bytes().all(allowed)
        && host.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Whether two listeners on these hosts cannot share a port.
fn overlap(one: &str, other: &str) -> bool {
    let any = |host: &str| {
        host.parse::<IpAddr>()
            .is_ok_and(|address| address.is_unspecified())
    };
    one == other || any(one) || any(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::refusal;

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_message_must_leave_room_for_control_frames() {
        assert_eq!(
            refusal(|config| config.limits.max_message_bytes = 124),
            "configuration: limits.max_message_bytes: 124 is too small; use 125 to 64MiB"
        );
    }

    #[test]
    fn the_bounds_themselves_are_allowed() {
        let mut config = Config::default();
        config.limits.max_message_bytes = MAX_MESSAGE_BYTES;
        config.limits.max_header_bytes = MAX_HEADER_BYTES;
        config.slow_consumer.max_lag_bytes = 2 * MAX_MESSAGE_BYTES;
        config.limits.max_buffered_bytes = LAGS_PER_SHARE * 2 * MAX_MESSAGE_BYTES;
        config.server.workers = MAX_WORKERS;
        config.server.handshake_timeout = MAX_WAIT;
        config.slow_consumer.stall_timeout = MIN_WAIT;
        config.shutdown.timeout = Duration::ZERO;
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn the_lag_must_hold_two_of_the_largest_messages() {
        let text = refusal(|config| config.slow_consumer.max_lag_bytes = (2 << 20) - 1);
        assert!(
            text.contains("slow_consumer.max_lag_bytes: 2097151 is too small; use 2MiB to 1GiB"),
            "{text}"
        );
        assert!(
            text.contains("or lower limits.max_message_bytes (now 1MiB, and max_lag_bytes must be 2 times that)"),
            "{text}"
        );
    }

    #[test]
    fn the_buffer_must_hold_two_lags() {
        let text = refusal(|config| {
            config.slow_consumer.max_lag_bytes = MAX_LAG_BYTES;
            config.limits.max_buffered_bytes = MAX_LAG_BYTES;
        });
        assert!(
            text.contains("limits.max_buffered_bytes: 1GiB is too small; use 2GiB to 1024GiB"),
            "{text}"
        );
        assert!(
            text.contains("or lower slow_consumer.max_lag_bytes (now 1GiB, and max_buffered_bytes must be 2 times that)"),
            "{text}"
        );
        assert!(text.ends_with("or 0 for half of the memory that the relay may use"));
    }

    #[test]
    fn shards_share_the_buffer_and_each_has_room_for_two_lags() {
        let config = Config::default();
        assert_eq!(config.buffered_bytes_per_shard(1), 1 << 30);
        assert_eq!(config.buffered_bytes_per_shard(16), 64 << 20);
        assert_eq!(config.buffered_bytes_per_shard(256), 8 << 20);
    }

    #[test]
    fn values_just_out_of_range_are_refused_by_their_keys() {
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 18] = [
            ("limits.max_buffered_bytes", |config| {
                config.limits.max_buffered_bytes = MAX_BUFFERED_BYTES + 1;
            }),
            ("limits.max_message_bytes", |config| {
                config.limits.max_message_bytes = MAX_MESSAGE_BYTES + 1;
            }),
            ("limits.max_header_bytes", |config| {
                config.limits.max_header_bytes = MIN_HEADER_BYTES - 1;
            }),
            ("limits.max_header_bytes", |config| {
                config.limits.max_header_bytes = MAX_HEADER_BYTES + 1;
            }),
            ("slow_consumer.max_lag_bytes", |config| {
                config.slow_consumer.max_lag_bytes = MAX_LAG_BYTES + 1;
            }),
            ("slow_consumer.stall_timeout", |config| {
                config.slow_consumer.stall_timeout = Duration::ZERO;
            }),
            ("slow_consumer.close_timeout", |config| {
                config.slow_consumer.close_timeout = MIN_CLOSE / 2;
            }),
            ("slow_consumer.close_timeout", |config| {
                config.slow_consumer.close_timeout = MAX_CLOSE + MIN_WAIT;
            }),
            ("server.workers", |config| {
                config.server.workers = MAX_WORKERS + 1;
            }),
            ("server.fill_workers_to", |config| {
                config.server.fill_workers_to = MAX_FILL + 1;
            }),
            ("server.max_connections_per_ip", |config| {
                config.server.max_connections_per_ip = MAX_CONNECTIONS + 1;
            }),
            ("server.tcp_notsent_lowat", |config| {
                config.server.tcp_notsent_lowat = 1;
            }),
            ("server.handshake_timeout", |config| {
                config.server.handshake_timeout = MAX_WAIT + MIN_WAIT;
            }),
            ("keepalive.pong_timeout", |config| {
                config.keepalive.pong_timeout = Duration::ZERO;
            }),
            ("relay.coalesce", |config| {
                config.relay.coalesce = MAX_COALESCE + MIN_COALESCE;
            }),
            ("relay.coalesce", |config| {
                config.relay.coalesce = MIN_COALESCE / 2;
            }),
            ("shutdown.delay", |config| {
                config.shutdown.delay = MAX_SHUTDOWN + MIN_WAIT;
            }),
            ("shutdown.timeout", |config| {
                config.shutdown.timeout = MAX_SHUTDOWN + MIN_WAIT;
            }),
        ];
        for (key, change) in changes {
            let text = refusal(change);
            assert!(
                text.starts_with(&format!("configuration: {key}: ")),
                "for {key}: {text}"
            );
        }
    }

    #[test]
    fn a_spread_ends_before_clients_are_cut() {
        let with = |spread, timeout| {
            let mut config = Config::default();
            (config.shutdown.spread, config.shutdown.timeout) = (spread, timeout);
            config.validate().map_err(|error| error.to_string())
        };
        let second = Duration::from_secs(1);
        assert_eq!(with(Duration::ZERO, Duration::ZERO), Ok(()));
        assert_eq!(with(second * 7, second * 10), Ok(()));
        assert_eq!(
            with(second * 8, second * 10).unwrap_err(),
            "configuration: shutdown.spread: 8s is too long: with a shutdown.timeout of 10s, clients are cut after 8s; \
             use at most half of the timeout, or 0s to close all clients at once"
        );
        assert!(with(second, Duration::ZERO).is_err());
    }

    #[test]
    fn pings_the_send_threshold_and_coalescing_can_be_switched_off() {
        let mut config = Config::default();
        config.relay.coalesce = Duration::ZERO;
        config.keepalive.ping_interval = Duration::ZERO;
        config.server.tcp_notsent_lowat = 0;
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn addresses_and_names_are_hosts() {
        for host in [
            "0.0.0.0",
            "::",
            "::1",
            "fe80::1%eth0",
            "localhost",
            "relay-1.example.org",
            "a_b",
        ] {
            assert_eq!(check_host("server.host", host), Ok(()), "for {host}");
        }
    }

    #[test]
    fn a_text_that_is_neither_address_nor_name_is_not_a_host() {
        for host in [
            "",
            " ",
            "256.1.1.1",
            "[::1]",
            "localhost:80",
            "http://a",
            "a b",
            "1",
            "%eth0",
            "a\n",
        ] {
            assert!(check_host("server.host", host).is_err(), "for {host:?}");
        }
    }

    #[test]
    fn two_listeners_need_two_ports() {
        let text = refusal(|config| config.server.port = config.metrics.port);
        assert!(
            text.contains("metrics.port: 9090 is also the value of server.port"),
            "{text}"
        );
    }

    #[test]
    fn two_listeners_may_share_a_port_on_different_addresses_or_when_it_is_0() {
        let mut config = Config::default();
        config.server.host = "127.0.0.2".into();
        config.server.port = config.metrics.port;
        assert_eq!(config.validate(), Ok(()));
        (config.server.host, config.server.port, config.metrics.port) = ("::".into(), 0, 0);
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn an_impossible_path_for_a_unix_socket_is_refused() {
        for (path, problem) in [
            (String::new(), "it is empty"),
            ("x".repeat(108), "it is 108 bytes long"),
            ("a\0b".into(), "it contains a NUL"),
        ] {
            assert_eq!(
                refusal(|config| config.server.unix_socket = Some(path.into())),
                format!(
                    "configuration: server.unix_socket: {problem}; use a path of 1 to 107 bytes"
                )
            );
        }
        let mut config = Config::default();
        config.server.unix_socket = Some("x".repeat(107).into());
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn a_group_without_a_unix_socket_is_refused() {
        assert_eq!(
            refusal(|config| config.server.unix_socket_group = Some("www-data".into())),
            "configuration: server.unix_socket_group: it is set, but there is no Unix socket; set server.unix_socket, or remove it"
        );
    }

    #[test]
    fn proxies_are_few_and_unix_needs_a_unix_socket() {
        let text = refusal(|config| {
            config.server.proxy_protocol.from = vec![ProxySource::Unix];
        });
        assert!(
            text.contains("server.proxy_protocol.from: the list has `unix`, but there is no Unix socket; set server.unix_socket"),
            "{text}"
        );
        let text = refusal(|config| {
            config.server.unix_socket = Some("s".into());
            config.server.proxy_protocol.from = vec![ProxySource::Unix; 257];
        });
        assert!(
            text.contains("the list has 257 entries; use at most 256"),
            "{text}"
        );
        let text = refusal(|config| config.server.trusted_proxies = vec![ProxySource::Unix]);
        assert!(
            text.contains(
                "server.trusted_proxies: the list has `unix`, but there is no Unix socket"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_mode_has_only_permission_bits() {
        assert_eq!(
            refusal(|config| config.server.unix_socket_mode = 0o1777),
            "configuration: server.unix_socket_mode: 1777 is too large; use 0000 to 0777"
        );
    }
}
