//! What a run found: the document that `--json` writes, from which the screen and the page are made.
//!
//! Times are nanoseconds, sizes bytes, CPU seconds of user and system time, unless a name says otherwise. The schema is
//! made from these types; [`SCHEMA_VERSION`] is raised when a field changes its meaning or goes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::options::{Opcode, Pace};
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
    /// What was found wrong, or kept the run from judging, a sentence each; empty when `passed`.
    pub failures: Vec<String>,
    /// What a reader should know before trusting the figures, a sentence each.
    pub warnings: Vec<String>,
    /// When the measurement began, in seconds since 1970.
    pub started_unix_seconds: u64,
    /// How long was measured, the warm-up not counted.
    pub measured_seconds: f64,
    /// What the generator was asked to do.
    pub configuration: Configuration,
    /// Where it ran.
    pub machine: Machine,
    /// The relay's process, with `--server-pid`.
    pub server: Option<Server>,
    /// How connecting went.
    pub connections: Connections,
    /// Messages and deliveries.
    pub deliveries: Deliveries,
    /// Latency of deliveries: from when a message was due (open loop) or sent (closed loop) until it was received whole.
    /// Deliveries to subscribers that stall on purpose are left out.
    pub latency: Latency,
    /// Burst: from the first message of a burst until everybody had the last. Reconnect: from the drop until all were back.
    pub rounds: Option<Latency>,
    /// What happened over time, a sample each 100 ms or, in long runs, each so many that there are at most 1,000.
    pub samples: Vec<Sample>,
    /// The generator's own CPU.
    pub generator: Generator,
    /// The relay's own counters, with `--metrics-url`.
    pub counters: Option<Counters>,
}

/// What the generator was asked to do, with defaults filled in.
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
    /// Pace of publishers; none when nothing is sent.
    pub pace: Option<Pace>,
    /// Warm-up.
    pub warmup_seconds: f64,
    /// Threads that load.
    pub threads: usize,
    /// Whether these never slept.
    pub busy_poll: bool,
    /// The command line's options, as given.
    pub arguments: Vec<String>,
}

/// The machine under the generator.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Processor's name.
    pub processor: String,
    /// Processors that the generator may use.
    pub cpus: usize,
    /// Kernel's name and release.
    pub kernel: String,
}

/// The relay's process.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// Name of the program.
    pub name: String,
    /// Its command line; values of options that name a token, secret, password or key are left out.
    pub command: Vec<String>,
    /// The text that `--server-config` named.
    pub configuration: Option<String>,
    /// CPU of its process and of its children (workers of nginx, say), while measured.
    pub cpu_seconds: f64,
    /// The user's part of it.
    pub cpu_user_seconds: f64,
    /// CPU per delivery.
    pub cpu_ns_per_delivery: Option<f64>,
    /// Resident memory before the first connection.
    pub rss_before_bytes: u64,
    /// The most that was seen.
    pub rss_peak_bytes: u64,
    /// When the measurement was over, before connections were closed.
    pub rss_after_bytes: u64,
    /// When connections were closed.
    pub rss_closed_bytes: u64,
    /// Growth from before the first connection until all were connected, per connection.
    pub bytes_per_connection: Option<f64>,
}

/// How connecting went.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// How many there should be at once.
    pub wanted: usize,
    /// Opening handshakes that succeeded.
    pub opened: u64,
    /// Those that failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Connections that the relay ended although we did not ask, by close code (`"1013"`) or `"reset"` or `"eof"`.
    pub ended_by_server: BTreeMap<String, u64>,
    /// How often one of those that are slow on purpose has stopped reading.
    pub stalls: u64,
    /// From connecting until the 101.
    pub handshake: Latency,
}

/// Messages and deliveries.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Deliveries {
    /// Whether senders get their own messages, as the probe found.
    pub echo: bool,
    /// Messages sent while measured.
    pub published: u64,
    /// Deliveries that were owed for all messages sent, warm-up included.
    pub expected: u64,
    /// Deliveries received, warm-up included.
    pub received: u64,
    /// Deliveries received while measured.
    pub received_while_measured: u64,
    /// Bytes of payload received while measured.
    pub payload_bytes_while_measured: u64,
    /// `received` of `expected`, from 0 to 1.
    pub reach: f64,
    /// Owed and never received, though the connection lived.
    pub lost: u64,
    /// Owed and not received by connections that the relay ended, with its word (a close code).
    pub lost_to_closes: u64,
    /// Owed and not waited for: the run was told to end, or deliveries went on coming for a minute after it.
    pub outstanding: u64,
    /// Received more than once.
    pub duplicated: u64,
    /// Received after a later one of the same publisher.
    pub out_of_order: u64,
    /// Subscribers whose order differs from that of the others in their topic.
    pub disagreeing: u64,
    /// Of which the payload or the opcode is not what was sent.
    pub corrupt: u64,
    /// Which were sent to another topic than the one they came to.
    pub misrouted: u64,
    /// Which came back to their sender, although the relay had not sent senders their own in the probe.
    pub echoed: u64,
    /// Messages that this run did not send, received before its own: a relay's greetings, or what it keeps of earlier times.
    pub foreign: u64,
    /// Messages that could be sent only more than 1 ms after they were due, in open loop.
    pub sent_late: u64,
    /// Messages that were due, in open loop, or waited to be sent when their publisher's connection ended, and never were.
    pub unsent: u64,
    /// Reads that brought at least one whole message: `received / reads` says how many come at a time.
    pub reads: u64,
}

/// A distribution, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Values in it.
    pub count: u64,
    /// Smallest.
    pub min: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// 99.99th percentile.
    pub p9999: u64,
    /// Largest.
    pub max: u64,
    /// The distribution: points of its percentile curve, ascending, for the charts.
    pub curve: Vec<Point>,
}

/// A point of a distribution's percentile curve.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// Share of values at or below, from 0 to 1.
    pub quantile: f64,
    /// The value in nanoseconds.
    pub value: u64,
    /// Values between the point before and this one.
    pub count: u64,
}

/// What happened between the sample before and this one.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Seconds since the measurement began; warm-up is negative.
    pub at_seconds: f64,
    /// Length in seconds.
    pub span_seconds: f64,
    /// Messages sent.
    pub published: u64,
    /// Deliveries received.
    pub received: u64,
    /// Deliveries found lost so far, cumulative.
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
    /// The generator's CPUs in use, 1.0 being a whole one.
    pub generator_cpus: f64,
    /// The server's.
    pub server_cpus: Option<f64>,
    /// The server's resident memory at the end.
    pub server_rss_bytes: Option<u64>,
}

/// The generator's own CPU.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Generator {
    /// CPU while measured, all threads.
    pub cpu_seconds: f64,
    /// The busiest thread's share of the measured time, from 0 to 1.
    pub busiest_thread: f64,
    /// The largest share of the measured time, from 0 to 1, for which a thread was ready and had no CPU.
    pub waited_for_cpu: f64,
    /// Whether the generator, not the server, may have been what limited: a thread was busy, or ready and without a
    /// CPU, for over 95 % of the time.
    pub saturated: bool,
}

/// The relay's own counters: how much each grew from before the run until after it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// By name and labels, those that changed.
    pub changes: BTreeMap<String, f64>,
    /// Comparisons of a counter with what the generator counted.
    pub checks: Vec<Check>,
}

/// A counter compared with the generator's own count.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// The counter.
    pub name: String,
    /// How much it grew.
    pub server: f64,
    /// What the generator counted.
    pub generator: f64,
    /// Whether they agree.
    pub agrees: bool,
}

/// Several servers under the same load: the document of `loadtest compare --json`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Whether every server that was there passed every run, and none failed to run.
    pub passed: bool,
    /// How often each server was to run.
    pub repeats: usize,
    /// Processors that servers run on, as far as they were started here.
    pub server_cpus: Vec<usize>,
    /// Processors that the generator runs on.
    pub generator_cpus: Vec<usize>,
    /// The server that the CPU of the others is a multiple of: a floor, when one ran.
    pub floor: Option<String>,
    /// Each server, in the order given.
    pub servers: Vec<Compared>,
}

/// A server of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// What it is, in a sentence.
    pub about: String,
    /// Why it did not run, when it did not: `"not installed"`, with what is missing and how to install it, that it has no
    /// TLS where that is compared, or that the comparison was ended early.
    pub absent: Option<String>,
    /// What kept it from finishing a run, a sentence each: it did not start, it ended, the run could not be made.
    pub errors: Vec<String>,
    /// Its figures over all runs.
    pub summary: Option<Summary>,
    /// Its runs, interleaved with those of the others.
    pub runs: Vec<Report>,
}

/// A server's figures over its runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Runs that passed.
    pub passed_runs: usize,
    /// Server's CPU per delivery, nanoseconds.
    pub cpu_ns_per_delivery: Option<Spread>,
    /// Its median as a multiple of the floor's.
    pub cpu_of_floor: Option<f64>,
    /// Processors that the server used.
    pub server_cpus: Option<Spread>,
    /// Whole messages that came with a read.
    pub messages_per_read: Option<Spread>,
    /// Deliveries a second.
    pub deliveries_per_second: Option<Spread>,
    /// Median latency, nanoseconds.
    pub latency_p50: Option<Spread>,
    /// 99th percentile of latency, nanoseconds.
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
