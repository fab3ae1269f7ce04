//! Whether this machine lets a run have the descriptors and ports that it needs: better said before than found halfway.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::Options;
use crate::plan::Plan;

/// Descriptors for anything but connections: the polls, timers and wakers of a thread, and the rest.
const DESCRIPTORS_PER_THREAD: u64 = 4;
const OTHER_DESCRIPTORS: u64 = 32;

/// Ports to connect from, where the system does not say.
const USUAL_PORTS: u64 = 28_232;

/// Raises the limit on descriptors as far as it goes, and checks what the options need at least, before there is a plan
/// that names each connection.
pub(crate) fn check_descriptors(options: &Options) -> Result<(), String> {
    let connections = options.subscribers.saturating_add(options.publishers);
    check_for(connections as u64, options.threads as u64)
}

/// Checks what the plan needs.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    let connections = plan.most_connections() as u64;
    check_for(connections, plan.threads as u64)?;
    check_ports(connections, plan.sources.len() as u64, ports())
}

/// Whether so many addresses, of which each has so many ports, can open so many connections; none stands for the one that
/// the system chooses.
fn check_ports(connections: u64, sources: u64, ports: u64) -> Result<(), String> {
    if connections <= ports.saturating_mul(sources.max(1)) {
        return Ok(());
    }
    let needed = connections.div_ceil(ports.max(1));
    Err(format!(
        "{connections} connections: from one address this system can open {ports} to the same server; \
         name {needed} addresses with --source-ips, as 127.0.0.1-127.0.0.{needed}"
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

/// Raises the soft limit to the hard one; returns what is allowed now.
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

/// How many connections to one server one address can have at once.
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
