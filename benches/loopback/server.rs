//! The servers under measurement. The benchmark starts itself again as a server, the relay or the floor, and asks it for its
//! counters.
//!
//! A server prints its address on the first line of its standard output. It answers each line of its standard input with its
//! counters. It ends when its standard input ends, so no server outlives the benchmark.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};

use fanwire::config::Config;
use fanwire::server::{Relay, Stat};

use crate::floor::{self, Sends};
use crate::transport::key_file;
use crate::wire::Traffic;

/// The server's CPU. The load generator has the next one.
pub(crate) const SERVER_CPU: usize = 0;

/// The longest time between the last send of a turn and its end, when the relay publishes its counters.
const SETTLE: Duration = Duration::from_millis(2);

/// The totals of a server since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// CPU time of its threads, user and system.
    pub(crate) cpu_ns: u64,
    /// Write calls, successful or not.
    pub(crate) writes: u64,
}

/// A server in a process of its own.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `exe`, a build of this benchmark, as a server.
    pub(crate) fn spawn(exe: &Path, args: &[String]) -> io::Result<Server> {
        let mut child = Command::new(exe)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut stdout = BufReader::new(stdout);
        let address = read_line(&mut stdout)?;
        let address = address.parse().map_err(io::Error::other)?;
        Ok(Server {
            child,
            stdout,
            address,
        })
    }

    /// Its counters, after the current turn.
    pub(crate) fn counters(&mut self) -> io::Result<Counters> {
        std::thread::sleep(SETTLE);
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(b"\n")?;
        let line = read_line(&mut self.stdout)?;
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(cpu_ns)), Some(Ok(writes))) => Ok(Counters { cpu_ns, writes }),
            _ => Err(io::Error::other(format!("no counters: {line:?}"))),
        }
    }

    /// Its resident memory in bytes. This figure is exact; the cheaper ones in `/proc` may be a megabyte off.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path)?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| io::Error::other("smaps_rollup without Rss"))? << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `wait` closes its standard input first. Its exit status does not change the measurement.
        let _ = self.child.wait();
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::Error::other("the server ended"));
    }
    Ok(line.trim_end().to_owned())
}

/// Runs the relay until standard input ends.
pub(crate) fn serve_relay(
    workers: usize,
    tcp_notsent_lowat: Option<usize>,
    coalesce: Option<Duration>,
    tls: bool,
    history: bool,
) -> io::Result<()> {
    let mut config = Config::default();
    config.server.host = "127.0.0.1".into();
    config.server.port = 0;
    config.server.workers = workers;
    config.metrics.enabled = false;
    // The load generator does not understand pings, which long runs would bring.
    config.keepalive.ping_interval = Duration::ZERO;
    if let Some(bytes) = tcp_notsent_lowat {
        config.server.tcp_notsent_lowat = bytes;
    }
    config.relay.coalesce = coalesce.unwrap_or(config.relay.coalesce);
    if history {
        config.history.max_age = Duration::from_mins(2);
    }
    config.server.tls.enabled = tls;
    if config.server.tls.enabled {
        config.server.tls.cert_file = Some(key_file("ec_cert.pem"));
        config.server.tls.key_file = Some(key_file("ec_sec1.pem"));
    }
    let relay = Relay::start(&config).map_err(io::Error::other)?;
    let writes = [
        Stat::WritesFull,
        Stat::WritesPartial,
        Stat::WritesBlocked,
        Stat::WritesFailed,
    ];
    serve(relay.address(), || {
        writes.iter().map(|&stat| relay.total(stat)).sum()
    })
}

/// Runs the floor until standard input ends.
pub(crate) fn serve_floor(traffic: Traffic, sends: Sends) -> io::Result<()> {
    let floor = floor::start(traffic, sends)?;
    serve(floor.address, || floor.writes())
}

fn serve(address: SocketAddr, writes: impl Fn() -> u64) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{address}")?;
    for line in io::stdin().lines() {
        line?;
        writeln!(out, "{} {}", cpu_ns(), writes())?;
    }
    Ok(())
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).map_or(0, |time| time.as_nanos() as u64)
}

/// Binds this process, and the threads that it will start, to these CPUs.
pub(crate) fn pin(cpus: impl IntoIterator<Item = usize>) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(cpu);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
