//! The cost of a delivery over real sockets, beside a floor, the least that any server needs.
//!
//! ```text
//! cargo bench --bench loopback
//! ```
//!
//! The relay and the floor ([`floor`]) are processes of their own on one CPU. The load generator ([`load`]) runs on another. Each
//! scenario connects to both servers and loads them in turns, so that other work on the machine disturbs both alike.
//!
//! The cost is the server's CPU time, user and system, divided by the deliveries. Every delivery is checked, and a wrong one
//! fails the benchmark. A missed target is printed and fails nothing, because machines vary.

mod floor;
mod load;
mod report;
mod scenarios;
mod server;
mod transport;
mod wire;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use self::floor::Sends;
use self::load::Load;
use self::report::{Row, Target};
use self::scenarios::{
    ONE_SHARD, ONE_SHARD_EVENTS, ONE_SHARD_TLS, SCENARIOS, Scenario, Setup, Side, traffic,
};
use self::server::{SERVER_CPU, Server};
use self::transport::Speech;
use self::wire::{Pace, Traffic};

/// The binary's allocator, so that the relay behaves as in the binary.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections of the idle scenario.
const IDLE: usize = 5000;

/// Connections made before memory is measured first. So memory that a process allocates once is not counted for the others.
const IDLE_BEFORE: usize = 64;

/// The cost of a delivery, beside a floor.
#[derive(Debug, Parser)]
struct Args {
    /// Measurements of each pair.
    #[arg(long, default_value_t = 41)]
    repeats: usize,
    /// The length of each measurement, in milliseconds.
    #[arg(long, default_value_t = 120)]
    slice_ms: u64,
    /// Runs only the scenarios whose name contains this text.
    #[arg(long)]
    only: Option<String>,
    /// Compares with another build of this benchmark, at this path, instead of the floor.
    #[arg(long)]
    against: Option<PathBuf>,
    /// `server.tcp_notsent_lowat` of the relay, if not its default.
    #[arg(long)]
    lowat: Option<usize>,
    /// The same for the build of `--against`.
    #[arg(long)]
    against_lowat: Option<usize>,
    /// `relay.coalesce` of the relay in microseconds, if not its default.
    #[arg(long)]
    coalesce: Option<u64>,
    /// The same for the build of `--against`.
    #[arg(long)]
    against_coalesce: Option<u64>,
    #[command(subcommand)]
    serve: Option<Serve>,
    /// `cargo bench` passes it.
    #[arg(long, hide = true)]
    bench: bool,
    /// `cargo test` passes it.
    #[arg(long, hide = true)]
    test: bool,
}

/// The hidden modes, in which the benchmark is its own server.
#[derive(Debug, clap::Subcommand)]
enum Serve {
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        workers: usize,
        #[arg(long)]
        lowat: Option<usize>,
        #[arg(long)]
        coalesce: Option<u64>,
        #[arg(long)]
        unpinned: bool,
        #[arg(long)]
        tls: bool,
        #[arg(long)]
        history: bool,
    },
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        sends: Sends,
        #[arg(long)]
        publishers: usize,
        #[arg(long)]
        window: usize,
        #[arg(long)]
        payload: usize,
    },
}

/// Nothing is sent: the traffic of the idle scenario is only its connections.
const IDLE_TRAFFIC: Traffic = traffic(1, IDLE, 1, 128);

fn main() -> ExitCode {
    let args = Args::parse();
    if args.test {
        return ExitCode::SUCCESS;
    }
    let result = match &args.serve {
        None => bench(&args),
        Some(serve) => be_server(serve),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loopback: {error}");
            ExitCode::FAILURE
        }
    }
}

fn be_server(serve: &Serve) -> io::Result<()> {
    match *serve {
        Serve::Relay {
            workers,
            lowat,
            coalesce,
            unpinned,
            tls,
            history,
        } => {
            let coalesce = coalesce.map(Duration::from_micros);
            if unpinned {
                server::pin(0..cpus())?;
            } else {
                server::pin([SERVER_CPU])?;
            }
            server::serve_relay(workers, lowat, coalesce, tls, history)
        }
        Serve::Floor {
            sends,
            publishers,
            window,
            payload,
        } => {
            server::pin([SERVER_CPU])?;
            server::serve_floor(traffic(publishers, 0, window, payload), sends)
        }
    }
}

/// The CPUs of the machine.
fn cpus() -> usize {
    let online = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let lines = online.lines().filter(|line| line.starts_with("processor"));
    lines.count().max(1)
}

fn bench(args: &Args) -> io::Result<()> {
    server::pin([(SERVER_CPU + 1) % cpus()])?;
    report::print_head(args.repeats)?;
    let is_wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only));
    for scenario in SCENARIOS.iter().filter(|scenario| is_wanted(scenario.name)) {
        for row in measure(scenario, args)? {
            report::print_row(&row)?;
        }
    }
    let floor = Side::Floor(Sends::PerTurn);
    for (side, reference, name) in [
        (ONE_SHARD, floor, format!("{IDLE} idle connections")),
        (
            ONE_SHARD_TLS,
            floor,
            format!("TLS, {IDLE} idle connections"),
        ),
        (
            ONE_SHARD_EVENTS,
            ONE_SHARD,
            format!("server-sent events, {IDLE} idle connections"),
        ),
    ] {
        if is_wanted(&name) {
            report::print_row(&measure_idle(side, reference, name, args)?)?;
        }
    }
    Ok(())
}

/// The load before each measurement. Right after the other server's turn, a send of either server costs up to a third more, in
/// all functions of the kernel. So the server that is measured more often right after the other one would look worse.
const AWAKE: Duration = Duration::from_millis(200);

/// One of the two servers of a comparison, with its clients and its measurements.
struct Contender {
    server: Server,
    load: Load,
    cpu_us: Vec<f64>,
    gigabytes_per_second: Vec<f64>,
    /// CPU, in percent of a core.
    cpu_percent: Vec<f64>,
    median_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// The time from one message to the next, if one is in flight.
    round_trip_us: Vec<f64>,
    writes: u64,
    deliveries: u64,
}

impl Contender {
    fn new(side: Side, traffic: Traffic, other: Option<&Other>) -> io::Result<Contender> {
        let server = spawn(side, traffic, other)?;
        let mut load = Load::connect(server.address, traffic, side.speech())?;
        // After this, socket buffers have their final size, and memory is in use.
        load.run(Duration::from_millis(300))?;
        Ok(Contender {
            server,
            load,
            cpu_us: Vec::new(),
            gigabytes_per_second: Vec::new(),
            cpu_percent: Vec::new(),
            median_ms: Vec::new(),
            p99_ms: Vec::new(),
            round_trip_us: Vec::new(),
            writes: 0,
            deliveries: 0,
        })
    }

    fn measure(&mut self, span: Duration, traffic: Traffic) -> io::Result<()> {
        let Traffic {
            members,
            payload_bytes,
            ..
        } = traffic;
        self.load.run(AWAKE)?;
        let before = self.server.counters()?;
        let served = self.load.run(span)?;
        let after = self.server.counters()?;
        let deliveries = served.deliveries as f64;
        let cpu_ns = (after.cpu_ns - before.cpu_ns) as f64;
        self.cpu_us.push(cpu_ns / 1e3 / deliveries);
        self.cpu_percent
            .push(cpu_ns / 1e7 / served.elapsed.as_secs_f64());
        self.median_ms.push(served.latency.percentile_ms(50));
        self.p99_ms.push(served.latency.percentile_ms(99));
        let messages = deliveries / members as f64;
        self.round_trip_us
            .push(served.elapsed.as_secs_f64() * 1e6 / messages);
        self.gigabytes_per_second
            .push(deliveries * payload_bytes as f64 / 1e9 / served.elapsed.as_secs_f64());
        self.writes += after.writes - before.writes;
        self.deliveries += served.deliveries;
        Ok(())
    }

    fn writes_per_delivery(&self) -> f64 {
        self.writes as f64 / self.deliveries as f64
    }
}

/// A build of this benchmark that is measured instead of this one, and its settings.
struct Other {
    exe: PathBuf,
    lowat: Option<usize>,
    coalesce: Option<u64>,
}

impl Other {
    fn this(lowat: Option<usize>, coalesce: Option<u64>) -> io::Result<Other> {
        let exe = std::env::current_exe()?;
        Ok(Other {
            exe,
            lowat,
            coalesce,
        })
    }
}

fn spawn(side: Side, traffic: Traffic, relay: Option<&Other>) -> io::Result<Server> {
    let this = Other::this(None, None)?;
    let relay = relay.unwrap_or(&this);
    let mut args: Vec<String> = Vec::new();
    let mut push = |key: &str, value: String| args.extend([key.to_owned(), value]);
    match side {
        Side::Relay(Setup {
            workers,
            unpinned,
            tls,
            history,
            events: _,
        }) => {
            push("relay", format!("--workers={workers}"));
            if let Some(lowat) = relay.lowat {
                push("--lowat", lowat.to_string());
            }
            if let Some(micros) = relay.coalesce {
                push("--coalesce", micros.to_string());
            }
            args.extend(unpinned.then(|| "--unpinned".to_owned()));
            args.extend(tls.then(|| "--tls".to_owned()));
            args.extend(history.then(|| "--history".to_owned()));
            Server::spawn(&relay.exe, &args)
        }
        Side::Floor(sends) => {
            let sends = match sends {
                Sends::PerTurn => "per-turn",
                Sends::PerFrame => "per-frame",
            };
            push("floor", format!("--sends={sends}"));
            push("--publishers", traffic.publishers.to_string());
            push("--window", traffic.window.to_string());
            push("--payload", traffic.payload_bytes.to_string());
            Server::spawn(&this.exe, &args)
        }
    }
}

/// The two servers of a comparison: the subject, and the reference or the other build.
fn pair(scenario: &Scenario, args: &Args) -> io::Result<(Contender, Contender, &'static str)> {
    let traffic = scenario.traffic;
    let this = Other::this(args.lowat, args.coalesce)?;
    let subject = Contender::new(scenario.subject, traffic, Some(&this))?;
    let Some(exe) = args.against.clone() else {
        let reference = Contender::new(scenario.reference, traffic, Some(&this))?;
        return Ok((subject, reference, scenario.reference.name()));
    };
    let other = Other {
        exe,
        lowat: args.against_lowat,
        coalesce: args.against_coalesce,
    };
    let other = Contender::new(scenario.subject, traffic, Some(&other))?;
    Ok((subject, other, "other build"))
}

fn measure(scenario: &Scenario, args: &Args) -> io::Result<Vec<Row>> {
    let (mut subject, mut reference, name) = pair(scenario, args)?;
    let span = Duration::from_millis(args.slice_ms);
    let payload_bytes = scenario.traffic.payload_bytes;
    for repeat in 0..args.repeats {
        // They take turns in coming first, so that it is no advantage.
        let mut order = [&mut subject, &mut reference];
        order.rotate_left(repeat % 2);
        for contender in order {
            contender.measure(span, scenario.traffic)?;
        }
    }
    let writes = (
        subject.writes_per_delivery(),
        reference.writes_per_delivery(),
    );
    let row = |unit, subject_values, reference_values, target| Row {
        scenario: scenario.name.into(),
        reference: name,
        unit,
        subject_values,
        reference_values,
        target,
        writes_per_delivery: Some(writes),
    };
    if let Pace::PerSecond(_) = scenario.traffic.pace {
        return Ok(vec![
            row(
                "CPU, % of a core",
                subject.cpu_percent,
                reference.cpu_percent,
                scenario.target,
            ),
            row(
                "median latency, ms",
                subject.median_ms,
                reference.median_ms,
                Target::None,
            ),
            row(
                "99th percentile, ms",
                subject.p99_ms,
                reference.p99_ms,
                Target::None,
            ),
        ]);
    }
    let mut rows = vec![row(
        "CPU µs per delivery",
        subject.cpu_us,
        reference.cpu_us,
        scenario.target,
    )];
    if scenario.traffic.in_flight() == 1 {
        let (subject, reference) = (subject.round_trip_us, reference.round_trip_us);
        rows.push(row(
            "µs from one to the next",
            subject,
            reference,
            Target::None,
        ));
    }
    if payload_bytes >= 4096 {
        let (subject, reference) = (subject.gigabytes_per_second, reference.gigabytes_per_second);
        rows.push(row("GB/s", subject, reference, Target::None));
    }
    Ok(rows)
}

/// The server's resident memory for each idle connection.
fn measure_idle(subject: Side, reference: Side, name: String, args: &Args) -> io::Result<Row> {
    let this = Other::this(args.lowat, args.coalesce)?;
    let (side, build, reference) = if let Some(exe) = args.against.clone() {
        let other = Other {
            exe,
            lowat: None,
            coalesce: None,
        };
        (subject, other, "other build")
    } else {
        (reference, Other::this(None, None)?, reference.name())
    };
    let bytes = |side: Side, build: &Other| -> io::Result<f64> {
        let mut server = spawn(side, IDLE_TRAFFIC, Some(build))?;
        let few = Traffic {
            members: IDLE_BEFORE,
            ..IDLE_TRAFFIC
        };
        let _few = Load::connect(server.address, few, side.speech())?;
        let before = server.resident_bytes()?;
        let _idle = Load::connect(server.address, IDLE_TRAFFIC, side.speech())?;
        // The floor does not report when it has accepted the last connection. This call waits long enough.
        server.counters()?;
        let after = server.resident_bytes()?;
        Ok(after.saturating_sub(before) as f64 / IDLE as f64)
    };
    let (mut subject_values, mut reference_values) = (Vec::new(), Vec::new());
    for _ in 0..args.repeats.min(3) {
        subject_values.push(bytes(subject, &this)?);
        reference_values.push(bytes(side, &build)?);
    }
    Ok(Row {
        scenario: name,
        reference,
        unit: "resident bytes per connection",
        subject_values,
        reference_values,
        target: match subject.speech() {
            Speech::WebSocket => Target::Value(450.0),
            Speech::Bare | Speech::WebSocketOverTls | Speech::Events => Target::None,
        },
        writes_per_delivery: None,
    })
}
