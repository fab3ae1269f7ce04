//! The limits of this machine: descriptors, ports, memory. A run checks them before it starts, so that it does not fail
//! halfway.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::options::Options;
use super::plan::{Plan, window_slots};

/// Descriptors for anything but connections: the polls, timers and wakers of a thread, and the rest.
const DESCRIPTORS_PER_THREAD: u64 = 4;
const OTHER_DESCRIPTORS: u64 = 32;

/// Ports to connect from, if the system does not say how many it has.
const USUAL_PORTS: u64 = 28_232;

/// Pairs of a publisher and a member of its topic: 8 bytes each, 2 GiB.
const MAX_NUMBERS: u64 = 1 << 28;

/// Counts of messages in flight, of all publishers and threads together: four bytes each, 1 GiB.
const MAX_COUNTS: usize = 1 << 28;

/// Bytes of messages that publishers have ready.
const MAX_FRAME_BYTES: u64 = 4 << 30;

/// Raises the limit on descriptors as far as it goes, and checks the least that the options need. The plan, which names
/// each connection, is made after that.
pub(crate) fn check_descriptors(options: &Options) -> Result<(), String> {
    let connections = options.subscribers.saturating_add(options.publishers);
    check_for(connections as u64, options.threads as u64)
}

/// Checks the memory, descriptors and ports that the plan needs.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    check_memory(plan)?;
    let connections = plan.most_connections() as u64;
    check_for(connections, plan.threads as u64)?;
    let most_ports = plan.most_ports(!plan.target.is_local());
    check_ports(most_ports, plan.sources.len() as u64, ports())
}

/// Checks the memory that the generator would take for its publishers.
fn check_memory(plan: &Plan) -> Result<(), String> {
    let mut numbers = 0;
    for wanted in plan.wanted.iter().flatten() {
        numbers += plan.publishers_by_topic[wanted.topic as usize].len() as u64;
    }
    if numbers > MAX_NUMBERS {
        return Err(format!(
            "{numbers} pairs of a publisher and a member of its topic: checking them takes {} GiB, and {MAX_NUMBERS} pairs \
             are allowed; ask for fewer, or spread them over more --topics",
            numbers.div_ceil(1 << 27)
        ));
    }
    let (publishers, threads) = (plan.places.len(), plan.threads);
    let in_flight = plan.window().unwrap_or(0);
    let counts = window_slots(in_flight)
        .and_then(|slots| slots.checked_mul(publishers))
        .and_then(|counts| counts.checked_mul(threads));
    if counts.is_none_or(|counts| counts > MAX_COUNTS) {
        return Err(format!(
            "{in_flight} messages in flight of each of {publishers} publishers, counted on {threads} threads: that takes more \
             than {} GiB; ask for fewer",
            MAX_COUNTS >> 28
        ));
    }
    let size = plan.format.size();
    if (publishers as u64).saturating_mul(size as u64) > MAX_FRAME_BYTES {
        return Err(format!(
            "{publishers} publishers with messages of {size} bytes: each keeps one ready, and together they may take {} MiB",
            MAX_FRAME_BYTES >> 20
        ));
    }
    Ok(())
}

/// Checks that `sources` addresses, each with `ports` ports, can open `connections`. Without an address, the system
/// chooses one.
fn check_ports(connections: u64, sources: u64, ports: u64) -> Result<(), String> {
    if connections <= ports.saturating_mul(sources.max(1)) {
        return Ok(());
    }
    let needed = connections.div_ceil(ports.max(1));
    Err(format!(
        "{connections} connections: one address can have {ports} to the same server; \
         name {needed} addresses with --source-ips, such as 127.0.0.1-127.0.0.{needed}"
    ))
}

fn check_for(connections: u64, threads: u64) -> Result<(), String> {
    let (had, available) = (open_descriptors(), raise_descriptors());
    let others = threads
        .saturating_mul(DESCRIPTORS_PER_THREAD)
        .saturating_add(OTHER_DESCRIPTORS + had);
    let needed = connections.saturating_add(others);
    if needed <= available {
        return Ok(());
    }
    Err(format!(
        "{connections} connections need {needed} open files, and this process may have {available}: \
         raise the hard limit (ulimit -Hn), or ask for fewer connections or threads"
    ))
}

/// Raises the soft limit to the hard one. Returns the limit.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    allowed.unwrap_or(u64::MAX)
}

fn open_descriptors() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// The number of connections that one address can have to one server at once.
fn ports() -> u64 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let bounds: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
    match bounds[..] {
        [first, last] if last >= first => last - first + 1,
        _ => USUAL_PORTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses a command line that needs too much memory.
    fn refusal(line: &str) -> Result<(), String> {
        let plan = Plan::new(&Options::of_line(line), 1)?;
        check_memory(&plan)
    }

    #[test]
    fn a_plan_that_needs_too_much_memory_is_refused_before_the_memory_is_taken() {
        for (line, what) in [
            ("--window 18446744073709551615", "in flight"),
            (
                "--window 200000000 --threads 2",
                "counted on 2 threads: that takes more than 1 GiB; ask for fewer",
            ),
            // A publisher has room for the next power of two, here half as many again.
            ("--window 700000 --publishers 300 --threads 1", "than 1 GiB"),
            ("burst --burst 1000000000000", "in flight"),
            ("--publishers 10000 --size 64MiB", "67108864 bytes"),
            ("--threads 1025", "at most 1024"),
        ] {
            let error = refusal(line).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
        assert!(refusal("--window 200000000 --threads 1").is_ok());
        assert!(refusal("--window 700000 --publishers 256 --threads 1").is_ok());
    }

    #[test]
    fn more_connections_than_ports_need_more_addresses() {
        assert_eq!(check_ports(28_000, 0, 28_000), Ok(()));
        assert_eq!(check_ports(56_000, 2, 28_000), Ok(()));
        let error = check_ports(56_001, 2, 28_000).unwrap_err();
        assert!(
            error.contains("name 3 addresses with --source-ips"),
            "{error}"
        );
    }

    #[test]
    fn more_connections_than_descriptors_are_refused_with_both_figures() {
        assert_eq!(check_for(1, 1), Ok(()));
        assert!(check_for(1, u64::MAX).is_err());
        let error = check_for(u64::from(u32::MAX), 1).unwrap_err();
        assert!(
            error.contains("4294967295 connections") && error.contains("ulimit"),
            "{error}"
        );
    }
}
