//! The report of a run: the document that `--json` writes. The screen and the page are made from it.
//!
//! Unless a name says otherwise, times are nanoseconds, sizes are bytes, and CPU is in seconds of user and system time.
//! The schema is made from these types. [`SCHEMA_VERSION`] is raised when a field changes its meaning or goes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::distribution::{Latency, Point};
use super::posts::Posts;
use super::returns::Returns;
use crate::scenario::options::{Opcode, Pace};
use crate::scenario::payload::Payload;
use crate::scenario::scenarios::Scenario;

/// The version of this document's form.
pub const SCHEMA_VERSION: u32 = 1;

/// One run against one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Whether every delivery was right and the relay's own counters agree.
    pub passed: bool,
    /// The faults that were found, a sentence each. Empty when `passed`.
    pub failures: Vec<String>,
    /// Warnings to read before trusting the figures, a sentence each.
    pub warnings: Vec<String>,
    /// When the measurement began, in seconds since 1970.
    pub started_unix_seconds: u64,
    /// Length of the measurement in seconds, without the warm-up.
    pub measured_seconds: f64,
    /// The load that was asked for.
    pub configuration: Configuration,
    /// The machine under the generator.
    pub machine: Machine,
    /// The relay's process, with `--server-pid`.
    pub server: Option<Server>,
    /// Connections: opened, failed, ended.
    pub connections: Connections,
    /// Messages and deliveries.
    pub deliveries: Deliveries,
    /// Latency of deliveries: from the time a message was due (open loop) or sent (closed loop) until it was received
    /// whole. Deliveries to subscribers that stall on purpose are left out, and those of messages that were due before a
    /// client came back.
    pub latency: Latency,
    /// Burst: from the first message of a burst until everybody had the last. Reconnect: from the drop until all were back.
    pub rounds: Option<Latency>,
    /// Clients that were cut and came back: in the scenario jitter, and with `--resume`.
    pub returns: Option<Returns>,
    /// Publishers that send by POST, with `--post`.
    pub posts: Option<Posts>,
    /// Compression, with `--deflate`.
    pub deflate: Option<Deflate>,
    /// Samples over time, one every 100 ms. Long runs have longer samples, and 1,000 at most.
    pub samples: Vec<Sample>,
    /// The generator's own CPU.
    pub generator: Generator,
    /// The relay's own counters, with `--metrics-url`.
    pub counters: Option<Counters>,
}

/// The load that was asked for, with defaults filled in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// Version of the generator.
    pub version: String,
    /// Kind of load.
    pub scenario: Scenario,
    /// The relay.
    pub url: String,
    /// Connections that listen.
    pub subscribers: usize,
    /// Those among them that read server-sent events.
    pub sse_subscribers: usize,
    /// Connections that send.
    pub publishers: usize,
    /// Topics that they are spread over.
    pub topics: usize,
    /// Topics in which anything is sent.
    pub active_topics: usize,
    /// Bytes of payload.
    pub payload_bytes: usize,
    /// Kind of message.
    pub opcode: Opcode,
    /// Kind of what messages carry.
    pub payload: Payload,
    /// Whether connections offer permessage-deflate.
    pub deflate: bool,
    /// Pace of publishers, if they have one.
    pub pace: Option<Pace>,
    /// Length of the warm-up in seconds.
    pub warmup_seconds: f64,
    /// Threads of the generator.
    pub threads: usize,
    /// Whether these threads never slept.
    pub busy_poll: bool,
    /// The options as given on the command line, without secrets.
    pub arguments: Vec<String>,
}

/// The machine under the generator.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// Processors that the generator may use.
    pub cpus: usize,
    /// Name and release of the kernel.
    pub kernel: String,
}

/// The relay's process.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// Name of the program.
    pub name: String,
    /// Its command line, without secrets.
    pub command: Vec<String>,
    /// The text of the file that `--server-config` names, without its secrets.
    pub configuration: Option<String>,
    /// CPU of its process and of its children, such as the workers of nginx, during the measurement.
    pub cpu_seconds: f64,
    /// The part of it in user mode.
    pub cpu_user_seconds: f64,
    /// CPU per delivery.
    pub cpu_ns_per_delivery: Option<f64>,
    /// Resident memory before the first connection.
    pub rss_before_bytes: u64,
    /// The most resident memory that was seen.
    pub rss_peak_bytes: u64,
    /// Resident memory after the measurement, before connections were closed.
    pub rss_after_bytes: u64,
    /// Resident memory after connections were closed.
    pub rss_closed_bytes: u64,
    /// Growth of resident memory per connection, from before the first until all were open.
    pub bytes_per_connection: Option<f64>,
}

/// Connections: opened, failed, ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Connections that should be open at once.
    pub wanted: usize,
    /// Opening handshakes that succeeded.
    pub opened: u64,
    /// Connections that could not be opened, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Connections that the relay ended unasked, by close code such as `"1013"`, or by `"reset"` or `"eof"`.
    pub ended_by_server: BTreeMap<String, u64>,
    /// The number of times that a slow subscriber stopped reading.
    pub stalls: u64,
    /// Time from connecting until the answer to the handshake.
    pub handshake: Latency,
}

/// Messages and deliveries.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Deliveries {
    /// Whether senders get their own messages, as the probe found.
    pub echo: bool,
    /// Messages sent during the measurement.
    pub published: u64,
    /// Deliveries that were owed for all messages sent, warm-up included.
    pub expected: u64,
    /// Deliveries received, warm-up included.
    pub received: u64,
    /// Deliveries received during the measurement.
    pub received_while_measured: u64,
    /// Bytes of payload received during the measurement.
    pub payload_bytes_while_measured: u64,
    /// Bytes that were read during the measurement: frames and events, as they are under TLS. Answers to POSTs are left out.
    pub wire_bytes_while_measured: u64,
    /// Share of `expected` that was received, from 0 to 1.
    pub reach: f64,
    /// Deliveries owed and never received, without a word from the relay.
    pub lost: u64,
    /// Deliveries owed to connections that the relay ended with a close code.
    pub lost_to_closes: u64,
    /// Deliveries owed and not waited for: the run was told to end, or others kept coming for a minute after it.
    pub outstanding: u64,
    /// Deliveries received more than once.
    pub duplicated: u64,
    /// Deliveries received after a later message of the same publisher.
    pub out_of_order: u64,
    /// Connections that saw another order than the others in their topic.
    pub disagreeing: u64,
    /// Deliveries with another payload or opcode than was sent.
    pub corrupt: u64,
    /// Deliveries to another topic than the message was sent to.
    pub misrouted: u64,
    /// Messages that came back to their sender, although the relay did not send senders their own in the probe.
    pub echoed: u64,
    /// Deliveries that were missing, and the relay said so to clients that came back or were skipped.
    pub told: u64,
    /// Positions that the relay said and that were not the counted ones.
    pub misplaced: u64,
    /// Messages from elsewhere that came before this run's own: greetings, or messages that the relay kept from
    /// earlier.
    pub foreign: u64,
    /// Messages sent more than 1 ms after they were due, in an open loop.
    pub sent_late: u64,
    /// Messages that were never sent: they were due in an open loop, or waited when the connection of their publisher
    /// ended.
    pub unsent: u64,
    /// Reads that brought at least one whole message. `received / reads` is the number of messages per read.
    pub reads: u64,
}

/// Compression, with `--deflate`. The generator's CPU includes inflating.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Deflate {
    /// Connections that offered the extension and got it.
    pub agreed: u64,
    /// Connections that offered it and did not get it.
    pub declined: u64,
    /// Messages that came compressed, warm-up and the relay's own words included.
    pub compressed: u64,
    /// Messages that came plain on connections with the extension.
    pub plain: u64,
    /// Bytes on the wire for each delivery.
    pub wire_bytes_per_delivery: Option<f64>,
    /// Bytes on the wire for each byte of payload.
    pub wire_bytes_per_payload_byte: Option<f64>,
}

/// One sample: the time since the sample before.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Its end, in seconds since the measurement began. Negative during the warm-up.
    pub at_seconds: f64,
    /// Length in seconds.
    pub span_seconds: f64,
    /// Messages sent.
    pub published: u64,
    /// Deliveries received.
    pub received: u64,
    /// Deliveries found lost so far, since the beginning.
    pub lost: u64,
    /// Messages sent later than due.
    pub sent_late: u64,
    /// Connections open at the end.
    pub connections: usize,
    /// Median latency of the sample's deliveries.
    pub latency_p50: u64,
    /// 99th percentile of them.
    pub latency_p99: u64,
    /// The largest of them.
    pub latency_max: u64,
    /// CPUs that the generator used; 1.0 is a whole CPU.
    pub generator_cpus: f64,
    /// CPUs that the server used.
    pub server_cpus: Option<f64>,
    /// Resident memory of the server at the end.
    pub server_rss_bytes: Option<u64>,
}

/// The generator's own CPU.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Generator {
    /// CPU of all threads during the measurement.
    pub cpu_seconds: f64,
    /// The busiest thread's share of the measured time, from 0 to 1.
    pub busiest_thread: f64,
    /// The largest share of the measured time, from 0 to 1, for which a thread waited for a CPU.
    pub waited_for_cpu: f64,
    /// Whether the generator may have been the limit, not the server: a thread was busy, or waited for a CPU, for over
    /// 95 % of the time.
    pub saturated: bool,
}

/// The growth of the relay's own counters, from before the run until after it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// Counters that changed, by name and labels.
    pub changes: BTreeMap<String, f64>,
    /// Counters compared with the generator's own counts.
    pub checks: Vec<Check>,
}

/// A counter compared with the generator's own count.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// The counter.
    pub name: String,
    /// Its growth.
    pub server: f64,
    /// The generator's own count.
    pub generator: f64,
    /// Whether they agree.
    pub agrees: bool,
}

/// Several servers under the same load: the document of `loadtest compare --json`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Whether every server that was there passed every run. A server that was named and is absent fails too.
    pub passed: bool,
    /// Number of runs that each server was to make.
    pub repeats: usize,
    /// Processors that servers run on, if they were started here.
    pub server_cpus: Vec<usize>,
    /// Processors that the generator runs on.
    pub generator_cpus: Vec<usize>,
    /// The server that others are compared with by CPU: the floor, if it ran.
    pub floor: Option<String>,
    /// Each server, in the order given.
    pub servers: Vec<Compared>,
}

/// A server of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// A sentence about it.
    pub about: String,
    /// The reason why it did not run, if it did not: it is not installed, it has no TLS, or the comparison was stopped
    /// early.
    pub absent: Option<String>,
    /// Errors that kept it from finishing a run, a sentence each.
    pub errors: Vec<String>,
    /// Its figures over all runs.
    pub summary: Option<Summary>,
    /// Its runs; they alternate with those of the others.
    pub runs: Vec<Report>,
}

/// A server's figures over its runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Runs that passed.
    pub passed_runs: usize,
    /// The server's CPU per delivery, in nanoseconds.
    pub cpu_ns_per_delivery: Option<Spread>,
    /// Its median CPU per delivery as a multiple of the floor's.
    pub cpu_of_floor: Option<f64>,
    /// Processors that the server used.
    pub server_cpus: Option<Spread>,
    /// Whole messages per read.
    pub messages_per_read: Option<Spread>,
    /// Deliveries a second.
    pub deliveries_per_second: Option<Spread>,
    /// Median latency, in nanoseconds.
    pub latency_p50: Option<Spread>,
    /// 99th percentile of latency, in nanoseconds.
    pub latency_p99: Option<Spread>,
    /// The most resident memory that was seen.
    pub rss_peak_bytes: Option<Spread>,
    /// Growth of memory per connection.
    pub bytes_per_connection: Option<Spread>,
}

/// A figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The one in the middle, or between the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}
