//! The configuration: its keys, their spelling in a file, in a variable or in a flag, and their allowed values.
//!
//! `cli` loads a [`Config`] at start and again on SIGHUP, and `server` passes each part to its user. Tests build one in code.
//! `net::tls` reads the files of `server.tls`.
//!
//! A wrong file is refused as a whole, with one line that says where the mistake is, what it is and how to fix it
//! ([`ConfigError`]).
//!
//! `types`, `choices` and `rules` have the keys and their defaults. `units`, `optional`, `lists` and `proxies` read and write
//! values, `file` whole files. `layers` puts variables and flags, each a `setting`, over a file by an `overlay`.
//!
//! `human` writes sizes into the log, and `topic_report` the answer to `--explain`.
//!
//! `bounds`, `range`, `access`, `tokens`, `topics` and `tls_files` check values, and `warnings` doubts some that are allowed.
//!
//! `cluster` has the types of its section, `engines` checks them, and `engine_url` hides passwords.
//! `reload` says of each key when another value is in force while the relay runs.
//!
//! For errors, `explain` translates the parser's texts, `locate` finds the line of a key, `suggest` finds the key that the
//! operator meant, and `syntax` has advice for mistakes in YAML.

mod access;
mod bounds;
mod choices;
mod cluster;
mod engine_url;
mod engines;
mod error;
mod explain;
mod file;
mod history;
mod human;
mod layers;
mod lists;
mod locate;
mod optional;
mod overlay;
mod proxies;
mod range;
mod reload;
mod rules;
mod setting;
mod suggest;
mod syntax;
mod tls_files;
mod tokens;
mod topic_report;
mod topics;
mod types;
mod units;
mod warnings;

pub use crate::http::bearer::Token;
pub use crate::http::origin::OriginPattern;
pub use crate::ws::subprotocol::Subprotocol;
pub(crate) use bounds::MAX_WORKERS;
pub use choices::{Publish, SlowConsumerPolicy, Subscribe};
pub use cluster::{Cluster, Engine};
pub use engine_url::{EngineHost, EngineUrl, Password};
pub use error::ConfigError;
pub(crate) use history::MAX_AGE as MAX_HISTORY_AGE;
pub use human::HumanSize;
pub use layers::{DEFAULT_FILE, Layers};
pub use proxies::ProxySource;
pub use reload::{Change, Verdict, reload_table};
pub use rules::{CompressionRule, HistoryRule, SlowConsumerRule, TopicPattern, TopicRule};
pub use setting::markdown_table;
pub(crate) use tls_files::pem_file;
pub(crate) use topics::TopicSettings;
pub use types::{
    Access, Config, History, Http, Keepalive, Limits, Log, LogFormat, LogLevel, Metrics, Page,
    ProxyProtocol, Relay, Server, Shutdown, SlowConsumer, Tls, TokenAlgorithm, TokenKey, Topics,
};
pub use warnings::Warning;

/// For tests: the error after one change to the defaults.
#[cfg(test)]
fn refusal(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    change(&mut config);
    config.validate().unwrap_err().to_string()
}
