//! The configuration: what an operator may set, how a file says it, and what is allowed.
//!
//! `cli` loads a [`Config`] at start; `server` hands each part to whom it concerns; tests build one in code and change
//! fields. Nothing here is read again while the relay runs; what the
//! files of `server.tls` hold is `net::tls`' business. A file is refused as a whole, with one line that says
//! where, what and how to put it right ([`ConfigError`]); no value is ever guessed or silently replaced.
//!
//! `types` holds the fields and their defaults, `units` spells durations and sizes, `lists` reads lists, `proxies` spells
//! who is believed as a proxy, `file` reads and writes YAML, `bounds` and `access` judge ranges and relations. For the
//! errors, `explain` translates the parser's, `locate` finds the line of a key, and `suggest` guesses what a misspelt one
//! was meant to be.

mod access;
mod bounds;
mod error;
mod explain;
mod file;
mod lists;
mod locate;
mod proxies;
mod suggest;
mod types;
mod units;

pub(crate) use bounds::pem_file;
pub use bounds::{
    MAX_HEADER_BYTES, MAX_LAG_BYTES, MAX_MESSAGE_BYTES, MAX_SHUTDOWN, MAX_WAIT, MAX_WORKERS,
    MIN_HEADER_BYTES, MIN_MESSAGE_BYTES, MIN_WAIT,
};
pub use error::ConfigError;
pub use file::MAX_FILE_BYTES;
pub use proxies::ProxySource;
pub use types::{
    Config, Keepalive, Limits, Log, LogFormat, LogLevel, Metrics, ProxyProtocol, Publish, Relay,
    Server, Shutdown, SlowConsumer, SlowConsumerPolicy, Tls, Topics,
};

/// For tests: the refusal of the defaults after one change.
#[cfg(test)]
fn refusal(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    change(&mut config);
    config.validate().unwrap_err().to_string()
}
