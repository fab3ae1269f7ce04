//! The options of a run, as `clap` reads them from the command line.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::payload::Payload;
use super::protocol::Resume;
use super::scenarios::Scenario;

/// Kind of message.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Opcode {
    /// Text frames, printable ASCII.
    Text,
    /// Binary frames.
    #[default]
    Binary,
}

impl Opcode {
    /// `text` or `binary`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Opcode::Text => "text",
            Opcode::Binary => "binary",
        }
    }

    /// Its number in the header of a frame (RFC 6455, 5.2).
    pub(crate) const fn code(self) -> u8 {
        match self {
            Opcode::Text => 1,
            Opcode::Binary => 2,
        }
    }
}

/// The options of a run.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The kind of load.
    #[arg(value_enum, default_value_t)]
    pub scenario: Scenario,
    /// The relay: ws://host:port/path or wss://host:port/path. With several topics, each has this
    /// path and a number: /path/0, /path/1. Repeat it for several relays that are one (cluster.engines of fanwire): clients
    /// are spread over them, and all must hear one order. A client that comes back comes to the next of them.
    #[arg(long, required = true)]
    pub url: Vec<String>,
    /// Connections that listen, over all topics.
    #[arg(long, default_value_t = 100)]
    pub subscribers: usize,
    /// Connections that send, over all topics. If the relay sends them their own messages, these are checked as well.
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// Bytes of a message's payload. By default it is what is usual for --payload: 128B, or 14.7KB for a snapshot.
    #[arg(long)]
    pub size: Option<ByteSize>,
    /// Kind of what messages carry. All but "fixed" differ from message to message.
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub payload: Payload,
    /// Sends text frames, the default for payloads of JSON.
    #[arg(long, conflicts_with = "binary")]
    pub text: bool,
    /// Sends binary frames, the default for others.
    #[arg(long)]
    pub binary: bool,
    /// Open loop: messages a second, over all publishers. Latency counts from when a message was due, so a server that
    /// stalls is not excused for messages that could not be sent meanwhile.
    #[arg(long, conflicts_with = "window")]
    pub rate: Option<f64>,
    /// Closed loop: messages that each publisher has in flight. This is the default, with 64 messages. A message is in
    /// flight until the last subscriber has it.
    #[arg(long)]
    pub window: Option<usize>,
    /// Length of the measurement. The default of a soak is 10m.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Length of the load before the measurement.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// Threads of the generator. 0 means one for each CPU, less one for the server.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Threads never sleep, so that a server on this machine does not pay for waking them. Give each thread a CPU of
    /// its own.
    #[arg(long)]
    pub busy_poll: bool,
    /// Number of topics that connections are spread over.
    #[arg(long, default_value_t = 1)]
    pub topics: usize,
    /// Share of the topics, from 0 to 1, in which anything is sent.
    #[arg(long, default_value_t = 1.0)]
    pub active: f64,
    /// Addresses to connect from, in turns: a list, or a range such as 127.0.0.1-127.0.0.8. One address can have about
    /// 28,000 connections to a server at once.
    #[arg(long, value_delimiter = ',')]
    pub source_ips: Vec<String>,
    /// The process id of the relay on this machine. Its CPU time and memory are read from /proc.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// The relay's own counters, http://host:port/metrics. They are read before and after the run, and compared with
    /// the generator's counts.
    #[arg(long)]
    pub metrics_url: Option<String>,
    /// A file with the relay's configuration. Its text is kept with the report, without its secrets.
    #[arg(long)]
    pub server_config: Option<PathBuf>,
    /// Share of the subscribers that read server-sent events instead of a WebSocket: 0.25, or 25%.
    #[arg(long, default_value = "0", value_name = "SHARE", value_parser = share)]
    pub sse: f64,
    /// Publishers send each message by POST, on connections that stay open. They hear nothing.
    #[arg(long)]
    pub post: bool,
    /// With --post: the most requests in flight on a connection.
    #[arg(long, default_value_t = 1, value_name = "REQUESTS")]
    pub pipeline: usize,
    /// Offers permessage-deflate, and inflates what the relay compresses. The generator's own CPU includes that.
    #[arg(long)]
    pub deflate: bool,
    /// Accepts any certificate.
    #[arg(long)]
    pub insecure: bool,
    /// Trusts the certificate authorities in this PEM file, instead of the machine's.
    #[arg(long, conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Connections that may be opening at the same time.
    #[arg(long, default_value_t = 256)]
    pub connecting: usize,
    /// Time without a delivery after which missing deliveries count as lost.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    pub patience: Duration,
    /// Churn: number of clients that come each second, and soon go.
    #[arg(long, default_value_t = 100.0)]
    pub churn_rate: f64,
    /// Slow: share of the subscribers that stall, from 0 to 1.
    #[arg(long, default_value_t = 0.1)]
    pub slow_share: f64,
    /// Slow: length of a stall.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub stall: Duration,
    /// Burst: number of messages in a burst, over all publishers.
    #[arg(long, default_value_t = 100)]
    pub burst: usize,
    /// Burst and reconnect: time between two rounds.
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    pub every: Duration,
    /// Jitter and reconnect: how a client that comes back goes on. The default of jitter is fanwire, that of reconnect
    /// none. With fanwire, the relay must keep a history. In a comparison, each server of jitter has its own.
    #[arg(long, value_enum)]
    pub resume: Option<Resume>,
    /// Jitter: mean time until a client is cut, at random. 0s means never.
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration)]
    pub cut_every: Duration,
    /// Jitter: time until a client that was cut comes back.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub away: Duration,
    /// Jitter: all clients are cut at once, this long after the measurement began, and come back within a second.
    #[arg(long, value_name = "AT", value_parser = humantime::parse_duration)]
    pub avalanche: Option<Duration>,
    /// Jitter: the same seed cuts the same clients at the same times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Reads a share: a number from 0 to 1, or a percentage.
fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().map(|number| number / whole);
    let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it must be from 0 to 1, or a percentage such as 25%".to_owned())
}

impl Options {
    /// The way in which a client that comes back goes on.
    pub(crate) fn resume(&self) -> Resume {
        let by_default = if self.scenario == Scenario::Jitter {
            Resume::Fanwire
        } else {
            Resume::None
        };
        self.resume.unwrap_or(by_default)
    }

    /// The kind of the run's messages.
    pub(crate) fn opcode(&self) -> Opcode {
        if self.text || self.payload.is_json() && !self.binary {
            Opcode::Text
        } else {
            Opcode::Binary
        }
    }

    /// Bytes of a message's payload.
    pub(crate) fn size(&self) -> u64 {
        let asked = self.size.map(|size| size.as_u64());
        asked.unwrap_or_else(|| self.payload.size())
    }
}

/// The files that a report is written to, and the progress that is shown meanwhile.
#[derive(Clone, Debug, Args)]
pub(crate) struct Outputs {
    /// Writes the report as JSON. - means standard output, in place of the text.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes the report as an HTML page with charts.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Shows no progress.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// The pace at which publishers send.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Open loop: messages a second over all publishers.
    Rate(f64),
    /// Closed loop: messages in flight per publisher.
    Window(usize),
}

#[cfg(test)]
impl Options {
    /// The options of a command line that has a URL already.
    pub(crate) fn of_line(line: &str) -> Options {
        use clap::{Command, FromArgMatches as _};
        let line = format!("loadtest --url ws://127.0.0.1:1/ {line}");
        let command = Options::augment_args(Command::new("loadtest"));
        let matches = command.try_get_matches_from(line.split(' '));
        let matches = matches.expect("a test's line makes sense");
        Options::from_arg_matches(&matches).expect("clap has checked them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        for (text, expected) in [
            ("0", 0.0),
            ("0.25", 0.25),
            ("25%", 0.25),
            ("100%", 1.0),
            ("1", 1.0),
        ] {
            let read = share(text).unwrap();
            assert!((read - expected).abs() < 1e-9, "{text}");
        }
        for text in ["", "2", "101%", "-1", "NaN", "half"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
