//! The program as a separate process: started, signalled, watched through /proc and its metrics, and ended.
//!
//! Tests of signals and resources use it, because the process holds only what the relay holds.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::TempDir;

use crate::support::{Client, PATIENCE, eventually, join_narrowly};
use crate::wire::Wire;

/// The gauges that count clients and topics.
const STANDING: [&str; 3] = [
    "websocket_connected_clients",
    "fanwire_topics",
    "fanwire_owned_topics",
];

/// The gauges that count messages on their way. They return to 0 again and again while only honest clients send.
const PASSING: [&str; 6] = [
    "fanwire_members_lagging",
    "fanwire_log_bytes",
    "fanwire_partial_message_bytes",
    "fanwire_topics_held",
    "fanwire_inbox_envelopes",
    "fanwire_inbox_bytes",
];

/// The time that a thread is watched to see whether it is idle. On an overloaded machine, a spinning thread gets CPU time
/// only now and then.
const LOOK_AT_REST: Duration = Duration::from_millis(250);

/// The CPU time that an idle thread may use in that time: this, plus the elapsed time divided by [`SHARE_AT_REST`] for
/// timers. A spinning thread uses all that it can get.
const AT_REST: Duration = Duration::from_millis(2);
const SHARE_AT_REST: u32 = 50;

/// The running program. It is killed when the value is dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) log: BufReader<PipeReader>,
    /// The log up to the line `ready`.
    pub(crate) beginning: String,
    folder: TempDir,
}

/// The resources of the process at one moment.
#[derive(Debug)]
pub(crate) struct Holdings {
    descriptors: usize,
    resident_bytes: u64,
    standing: [f64; STANDING.len()],
}

impl Holdings {
    /// The resident memory of the process.
    pub(crate) fn resident(&self) -> u64 {
        self.resident_bytes
    }
}

impl Program {
    /// Starts the program with two workers on free ports and waits until it is ready. Even two clients are spread over
    /// the workers. `sections` adds to the configuration; `server` and `metrics` belong to this file.
    pub(crate) fn with(sections: &str) -> Program {
        Program::with_server("", sections)
    }

    /// The same, with more keys of the section `server`, each after a comma.
    pub(crate) fn with_server(server: &str, sections: &str) -> Program {
        let config = format!(
            "server: {{host: 127.0.0.1, port: 0, workers: 2, fill_workers_to: 0{server}}}\n\
             metrics: {{port: 0}}\n{sections}\n"
        );
        Program::spawn(&config, Command::new(env!("CARGO_BIN_EXE_fanwire")))
    }

    /// Runs `command` with this configuration and waits until it is ready.
    pub(crate) fn spawn(config: &str, mut command: Command) -> Program {
        let (reader, writer) = io::pipe().unwrap();
        command.stderr(writer);
        Program::spawn_logging_to(reader, config, command)
    }

    /// The same, with a command whose standard error is the other end of `reader`.
    pub(crate) fn spawn_logging_to(
        reader: PipeReader,
        config: &str,
        mut command: Command,
    ) -> Program {
        let folder = folder_with(config);
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It holds the writing end, so the log would never end.
        drop(command);
        let mut log = BufReader::new(reader);
        let mut beginning = String::new();
        let ready = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "{beginning}");
            beginning.push_str(&line);
            if line.contains(" ready ") {
                break line;
            }
        };
        Program {
            child,
            address: field(&ready, "address"),
            metrics: field(&ready, "metrics"),
            log,
            beginning,
            folder,
        }
    }

    /// Runs the program with this configuration and at most `limit` descriptors.
    pub(crate) fn with_descriptors(limit: u32, config: &str) -> Program {
        Program::spawn(config, limited_to_descriptors(limit))
    }

    /// Replaces the file of the configuration as a whole, and has it read again.
    pub(crate) fn reload(&self, config: &str) {
        let new = self.folder.path().join("new.yaml");
        fs::write(&new, config).unwrap();
        fs::rename(new, self.folder.path().join("config.yaml")).unwrap();
        self.signal(Signal::HUP);
    }

    pub(crate) fn connect(&self, path: &str) -> Client {
        Client::connect(self.address, path)
    }

    /// A raw connection that has sent nothing yet.
    pub(crate) fn dial(&self) -> Wire {
        Wire::over(TcpStream::connect(self.address).unwrap())
    }

    /// A raw connection that has joined the topic of `path`.
    pub(crate) fn join(&self, path: &str) -> Wire {
        let mut wire = self.dial();
        wire.upgrade(path);
        wire
    }

    /// The same, with a small receive buffer, so that it soon looks slow to the relay.
    pub(crate) fn join_narrowly(&self, path: &str) -> Wire {
        join_narrowly(self.address, path)
    }

    /// A raw connection to the metrics port.
    pub(crate) fn dial_metrics(&self) -> Wire {
        Wire::over(TcpStream::connect(self.metrics).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) fn await_log(&mut self, text: &str) -> String {
        await_line(&mut self.log, text)
    }

    /// Waits for the end. Returns the exit code and the rest of the log.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let code = self.await_exit().code();
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (code, log)
    }

    /// Sends SIGTERM and waits for the end, which must have status 0 and no warning in the log.
    pub(crate) fn end_well(self) -> String {
        self.signal(Signal::TERM);
        let (code, log) = self.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("panic") && !log.contains("ERROR"), "{log}");
        log
    }

    /// Waits for the end while nobody reads the log.
    pub(crate) fn await_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    // Resources

    /// The sum over all series of a metric, or one series if `name` has its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        sum(&self.scrape(), name)
    }

    /// Asserts that a metric is `expected`.
    pub(crate) fn assert_metric(&self, name: &str, expected: u64) {
        let value = self.metric(name);
        assert!(
            is_count(value, expected as f64),
            "{name} should be {expected} and is {value}"
        );
    }

    /// Waits until a metric is `expected`.
    pub(crate) fn await_metric(&self, name: &str, expected: u64) {
        await_value(name, expected as f64, || self.metric(name));
    }

    pub(crate) fn scrape(&self) -> String {
        let mut scraper = self.dial_metrics();
        scraper.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = scraper.answer();
        assert_eq!(answer.status, 200);
        answer.body
    }

    /// Waits until no thread uses CPU time without a reason: neither the workers and the control thread during scrapes,
    /// nor the metrics thread while clients are refused. Members must be silent in that time.
    pub(crate) fn await_rest(&self) {
        eventually("no thread spins", || self.is_at_rest());
    }

    /// The same, once there are this many more connections than before. A thread that spins because of them would be idle
    /// without them.
    pub(crate) fn await_rest_beside(&self, before: &Holdings, connections: usize) {
        let do_stand = || self.descriptors() >= before.descriptors + connections;
        eventually("no thread spins while the connections stand", || {
            do_stand() && self.is_at_rest() && do_stand()
        });
    }

    fn is_at_rest(&self) -> bool {
        let scrape = || drop(self.scrape());
        let refuse = || self.refused();
        self.rests_during(scrape, |thread| thread != "metrics")
            && self.rests_during(refuse, |thread| thread == "metrics")
    }

    /// Whether the threads that `idle` selects use no CPU time while others do `work` several times.
    pub(crate) fn rests_during(&self, work: impl Fn(), idle: impl Fn(&str) -> bool) -> bool {
        let (began, before) = (Instant::now(), self.cpu_times());
        while began.elapsed() < LOOK_AT_REST {
            work();
        }
        let after = self.cpu_times();
        let taken = after
            .into_iter()
            .filter(|(name, _)| idle(name))
            .map(|(name, time)| {
                time.saturating_sub(before.get(&name).copied().unwrap_or_default())
            });
        let most = AT_REST + began.elapsed() / SHARE_AT_REST;
        taken.max().is_some_and(|taken| taken < most)
    }

    /// A request that is not an upgrade, and its answer.
    pub(crate) fn refused(&self) {
        let mut client = self.dial();
        client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.answer().status, 426);
    }

    /// The CPU time of each thread, by name.
    fn cpu_times(&self) -> HashMap<String, Duration> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let time_of = |task: PathBuf| {
            let name = fs::read_to_string(task.join("comm")).ok()?;
            let times = fs::read_to_string(task.join("schedstat")).ok()?;
            let nanos = times.split(' ').next()?.parse().ok()?;
            Some((name.trim().to_owned(), Duration::from_nanos(nanos)))
        };
        let tasks = fs::read_dir(tasks).unwrap();
        let times: HashMap<_, _> = tasks
            .filter_map(|task| time_of(task.ok()?.path()))
            .collect();
        assert!(times.contains_key("metrics"), "{times:?}");
        times
    }

    /// The CPU time of one thread so far.
    pub(crate) fn cpu_time(&self, thread: &str) -> Duration {
        self.cpu_times()[thread]
    }

    /// Changes the limit on open descriptors of the process. Returns the old limit.
    pub(crate) fn limit_descriptors(&self, limit: u64) -> u64 {
        let limit = Rlimit {
            current: Some(limit),
            // Inherited from this process.
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        let pid = Some(Pid::from_child(&self.child));
        prlimit(pid, Resource::Nofile, limit)
            .unwrap()
            .current
            .unwrap()
    }

    /// The number of open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).unwrap().count()
    }

    /// The resident memory of the process.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS")
    }

    /// The peak of the resident memory.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM")
    }

    /// The address space of the process.
    pub(crate) fn virtual_bytes(&self) -> u64 {
        self.status_bytes("VmSize")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes << 10
    }

    /// The current resources. Descriptors come first, because a scrape opens one.
    pub(crate) fn holdings(&self) -> Holdings {
        let descriptors = self.descriptors();
        Holdings {
            descriptors,
            resident_bytes: self.resident_bytes(),
            standing: self.standing(),
        }
    }

    /// The gauges that count clients and topics, once they are stable: each shard publishes at the end of a turn.
    fn standing(&self) -> [f64; STANDING.len()] {
        let look = || {
            let scrape = self.scrape();
            STANDING.map(|name| sum(&scrape, name))
        };
        let mut last = look();
        let mut alike = 0;
        eventually("the gauges have come to rest", || {
            let now = look();
            let is_alike = now.iter().zip(last).all(|(&now, last)| is_count(now, last));
            alike = if is_alike { alike + 1 } else { 0 };
            last = now;
            alike == 3
        });
        last
    }

    /// Waits until descriptors and gauges are as `before`. Asserts that memory never grew by more than
    /// `max_growth_bytes`.
    pub(crate) fn await_return(&self, before: &Holdings, max_growth_bytes: u64) {
        for (name, expected) in STANDING.into_iter().zip(before.standing) {
            await_value(name, expected, || self.metric(name));
        }
        for name in PASSING {
            await_value(name, 0.0, || self.metric(name));
        }
        // There may be fewer, if a scrape was still open when they were counted.
        eventually("open descriptors are as few as before", || {
            self.descriptors() <= before.descriptors
        });
        let growth = self.peak_bytes().saturating_sub(before.resident_bytes);
        assert!(
            growth <= max_growth_bytes,
            "memory grew by {growth} bytes, from {}",
            before.resident_bytes
        );
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Usually it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, with at most `limit` descriptors.
pub(crate) fn limited_to_descriptors(limit: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\"")]);
    shell.arg(env!("CARGO_BIN_EXE_fanwire"));
    shell
}

/// The exit code and the log of `command` with this configuration. It must end by itself.
pub(crate) fn failed_start(config: &str, mut command: Command) -> (Option<i32>, String) {
    let folder = folder_with(config);
    let mut child = command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A folder whose `config.yaml` is `text`.
pub(crate) fn folder_with(text: impl AsRef<[u8]>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.yaml"), text).unwrap();
    folder
}

/// Waits for a line that contains `text`.
pub(crate) fn await_line(log: &mut impl BufRead, text: &str) -> String {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(
            log.read_line(&mut line).unwrap() > 0,
            "no {text:?} was logged"
        );
    }
    line
}

/// An address from the `ready` line.
fn field(ready: &str, name: &str) -> SocketAddr {
    let field = ready
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    field
        .unwrap_or_else(|| panic!("no {name} in {ready:?}"))
        .parse()
        .unwrap()
}

/// The sum over all series of a metric.
fn sum(scrape: &str, name: &str) -> f64 {
    let series: Vec<f64> = scrape
        .lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        })
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(!series.is_empty(), "there is no {name}");
    series.iter().sum()
}

/// Compares counts that came as floats.
fn is_count(actual: f64, expected: f64) -> bool {
    (actual - expected).abs() < 0.5
}

/// Waits until a count, which comes as a float, is `expected`.
fn await_value(what: &str, expected: f64, actual: impl Fn() -> f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = actual();
        if is_count(value, expected) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what} should be {expected} and is {value}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}
