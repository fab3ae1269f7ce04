//! What a delivery costs over real sockets, beside a floor that nothing can be below, in one run.
//!
//! ```text
//! cargo bench --bench loopback
//! ```
//!
//! The relay and the floor ([`floor`]) run as processes of their own on one CPU, the load generator ([`load`]) on
//! another; each scenario connects to both, and then loads them in turns, so that whatever else the machine does falls
//! on both. CPU time is the server's, user and system, over the deliveries received; every delivery is checked, and
//! one that is wrong fails the benchmark. A target that is missed is printed as such and fails nothing: machines vary.

mod floor;
mod load;
mod report;
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
use self::server::{SERVER_CPU, Server};
use self::transport::Speech;
use self::wire::{Pace, Traffic};

/// The binary's allocator, so that the relay here is the relay there.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections of the idle scenario.
const IDLE: usize = 5000;

/// Connections made before memory is looked at first, so that what is there once is not divided among the others.
const IDLE_BEFORE: usize = 64;

/// What a delivery costs, beside a floor.
#[derive(Debug, Parser)]
struct Args {
    /// Times that each pair is measured.
    #[arg(long, default_value_t = 41)]
    repeats: usize,
    /// How long each measurement lasts, in milliseconds.
    #[arg(long, default_value_t = 120)]
    slice_ms: u64,
    /// Runs only the scenarios whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Compares with another build of this benchmark instead of the floor.
    #[arg(long)]
    against: Option<PathBuf>,
    /// `server.tcp_notsent_lowat` of the relay, if not its default.
    #[arg(long)]
    lowat: Option<usize>,
    /// The same of the relay that `--against` names.
    #[arg(long)]
    against_lowat: Option<usize>,
    #[command(subcommand)]
    serve: Option<Serve>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// Given by `cargo test`.
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
        unpinned: bool,
        #[arg(long)]
        tls: bool,
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

/// What is compared in one row.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    traffic: Traffic,
    subject: Side,
    reference: Side,
    target: Target,
}

/// One of the two that are compared.
#[derive(Clone, Copy, Debug)]
enum Side {
    Relay {
        workers: usize,
        unpinned: bool,
        tls: bool,
    },
    Floor(Sends),
}

const ONE_SHARD: Side = Side::Relay {
    workers: 1,
    unpinned: false,
    tls: false,
};

const ONE_SHARD_TLS: Side = Side::Relay {
    workers: 1,
    unpinned: false,
    tls: true,
};

const fn traffic(
    publishers: usize,
    members: usize,
    window: usize,
    payload_bytes: usize,
) -> Traffic {
    Traffic {
        publishers,
        members,
        window,
        payload_bytes,
        pace: Pace::All,
    }
}

const SCENARIOS: [Scenario; 9] = [
    Scenario {
        name: "1 → 1000, 128 B, 64 in flight",
        traffic: traffic(1, 1001, 64, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::Ratio(1.25),
    },
    Scenario {
        name: "1 → 1000, 128 B, 256 in flight",
        traffic: traffic(1, 1001, 256, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::Ratio(1.25),
    },
    Scenario {
        name: "1 → 1000, 128 B, 1 in flight",
        traffic: traffic(1, 1001, 1, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerFrame),
        target: Target::Ratio(1.10),
    },
    Scenario {
        name: "50 that all send, 128 B, 4 each in flight",
        traffic: traffic(50, 50, 4, 128),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::Ratio(1.3),
    },
    Scenario {
        name: "1 → 1000, 128 B, 64 not yet back at the sender",
        traffic: Traffic {
            pace: Pace::Sender,
            ..traffic(1, 1001, 64, 128)
        },
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::None,
    },
    Scenario {
        name: "1 → 200, 16 KiB, 16 in flight",
        traffic: traffic(1, 201, 16, 16 << 10),
        subject: ONE_SHARD,
        reference: Side::Floor(Sends::PerTurn),
        target: Target::None,
    },
    Scenario {
        name: "two shards, 1 → 1000, 64 in flight, all on one CPU",
        traffic: traffic(1, 1001, 64, 128),
        subject: Side::Relay {
            workers: 2,
            unpinned: false,
            tls: false,
        },
        reference: ONE_SHARD,
        target: Target::Ratio(1.15),
    },
    Scenario {
        name: "two shards, 1 → 1000, 64 in flight, unpinned",
        traffic: traffic(1, 1001, 64, 128),
        subject: Side::Relay {
            workers: 2,
            unpinned: true,
            tls: false,
        },
        reference: Side::Relay {
            workers: 1,
            unpinned: true,
            tls: false,
        },
        target: Target::None,
    },
    Scenario {
        name: "TLS, 1 → 500, 128 B, 64 in flight",
        traffic: traffic(1, 501, 64, 128),
        subject: ONE_SHARD_TLS,
        reference: ONE_SHARD,
        target: Target::None,
    },
];

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
            unpinned,
            tls,
        } => {
            if unpinned {
                server::pin(0..cpus())?;
            } else {
                server::pin([SERVER_CPU])?;
            }
            server::serve_relay(workers, lowat, tls)
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

/// CPUs that the load generator was given, before it bound itself to one.
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
    for (side, name) in [
        (ONE_SHARD, format!("{IDLE} idle connections")),
        (ONE_SHARD_TLS, format!("TLS, {IDLE} idle connections")),
    ] {
        if is_wanted(&name) {
            report::print_row(&measure_idle(side, name, args)?)?;
        }
    }
    Ok(())
}

/// One of a pair at work: its server, its clients, and what was measured.
struct Contender {
    server: Server,
    load: Load,
    cpu_us: Vec<f64>,
    gigabytes_per_second: Vec<f64>,
    writes: u64,
    deliveries: u64,
}

impl Contender {
    fn new(side: Side, traffic: Traffic, other: Option<&Other>) -> io::Result<Contender> {
        let server = spawn(side, traffic, other)?;
        let mut load = Load::connect(server.address, traffic, side.speech())?;
        // Socket buffers have found their size after this, and memory is warm.
        load.run(Duration::from_millis(300))?;
        Ok(Contender {
            server,
            load,
            cpu_us: Vec::new(),
            gigabytes_per_second: Vec::new(),
            writes: 0,
            deliveries: 0,
        })
    }

    fn measure(&mut self, span: Duration, payload_bytes: usize) -> io::Result<()> {
        let before = self.server.counters()?;
        let served = self.load.run(span)?;
        let after = self.server.counters()?;
        let deliveries = served.deliveries as f64;
        self.cpu_us
            .push((after.cpu_ns - before.cpu_ns) as f64 / 1e3 / deliveries);
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

impl Side {
    fn speech(self) -> Speech {
        match self {
            Side::Relay { tls: true, .. } => Speech::WebSocketOverTls,
            Side::Relay { tls: false, .. } => Speech::WebSocket,
            Side::Floor(_) => Speech::Bare,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Side::Relay { tls: true, .. } => "one shard, TLS",
            Side::Relay { tls: false, .. } => "one shard",
            Side::Floor(Sends::PerTurn) => "floor, one send per turn",
            Side::Floor(Sends::PerFrame) => "floor, one send per frame",
        }
    }
}

/// A build of this benchmark that stands in for this one, and its setting.
struct Other {
    exe: PathBuf,
    lowat: Option<usize>,
}

impl Other {
    fn this(lowat: Option<usize>) -> io::Result<Other> {
        let exe = std::env::current_exe()?;
        Ok(Other { exe, lowat })
    }
}

fn spawn(side: Side, traffic: Traffic, relay: Option<&Other>) -> io::Result<Server> {
    let this = Other::this(None)?;
    let relay = relay.unwrap_or(&this);
    let mut args: Vec<String> = Vec::new();
    let mut push = |key: &str, value: String| args.extend([key.to_owned(), value]);
    match side {
        Side::Relay {
            workers,
            unpinned,
            tls,
        } => {
            push("relay", format!("--workers={workers}"));
            if let Some(lowat) = relay.lowat {
                push("--lowat", lowat.to_string());
            }
            args.extend(unpinned.then(|| "--unpinned".to_owned()));
            args.extend(tls.then(|| "--tls".to_owned()));
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

/// The two of a pair: the subject, and the reference or the other build that stands in for it.
fn pair(scenario: &Scenario, args: &Args) -> io::Result<(Contender, Contender, &'static str)> {
    let traffic = scenario.traffic;
    let this = Other::this(args.lowat)?;
    let subject = Contender::new(scenario.subject, traffic, Some(&this))?;
    let Some(exe) = args.against.clone() else {
        let reference = Contender::new(scenario.reference, traffic, Some(&this))?;
        return Ok((subject, reference, scenario.reference.name()));
    };
    let lowat = args.against_lowat;
    let other = Contender::new(scenario.subject, traffic, Some(&Other { exe, lowat }))?;
    Ok((subject, other, "other build"))
}

fn measure(scenario: &Scenario, args: &Args) -> io::Result<Vec<Row>> {
    let (mut subject, mut reference, name) = pair(scenario, args)?;
    let span = Duration::from_millis(args.slice_ms);
    let payload_bytes = scenario.traffic.payload_bytes;
    for repeat in 0..args.repeats {
        // Who comes first is no advantage this way.
        let mut order = [&mut subject, &mut reference];
        order.rotate_left(repeat % 2);
        for contender in order {
            contender.measure(span, payload_bytes)?;
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
    let mut rows = vec![row(
        "CPU µs per delivery",
        subject.cpu_us,
        reference.cpu_us,
        scenario.target,
    )];
    if payload_bytes >= 4096 {
        let (subject, reference) = (subject.gigabytes_per_second, reference.gigabytes_per_second);
        rows.push(row("GB/s", subject, reference, Target::None));
    }
    Ok(rows)
}

/// Resident memory of the server per connection that does nothing.
fn measure_idle(subject: Side, name: String, args: &Args) -> io::Result<Row> {
    let this = Other::this(args.lowat)?;
    let floor = Side::Floor(Sends::PerTurn);
    let (side, build, reference) = if let Some(exe) = args.against.clone() {
        (subject, Other { exe, lowat: None }, "other build")
    } else {
        (floor, Other::this(None)?, floor.name())
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
        // The floor does not say when it has taken the last connection in; this waits long enough.
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
        target: if subject.speech() == Speech::WebSocket {
            Target::Value(450.0)
        } else {
            Target::None
        },
        writes_per_delivery: None,
    })
}
