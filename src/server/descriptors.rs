//! Raises the limit on open files, and derives from it how many connections the relay may have.
//!
//! `Relay::start` calls it once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Warning};

/// Descriptors that belong to no client and to no worker. There are 64 for scrapers, 32 for connections that are being
/// refused, about twelve for listeners, event loops, signals and standard streams, and some to spare.
const RESERVED: u64 = 128;

/// Descriptors of a worker: its event loop, its waker and its alarm, twice over.
const RESERVED_PER_WORKER: u64 = 6;

/// The most connections that are derived. Container runtimes grant a thousand million descriptors, and with that many
/// connections nothing would bound memory. A million idle ones cost the relay about 300 MB, and the kernel more. An
/// operator who has the memory for more configures more.
pub(super) const MOST_DERIVED: usize = 1_000_000;

/// Raises the limit on open files to its hard limit, and returns the most connections that there may be. This is
/// `configured`, unless it is 0. Then it is as many as the limit leaves beside `workers`, at most [`MOST_DERIVED`].
pub(super) fn raise_and_derive(config: &Config, workers: u16) -> usize {
    let own = own(workers, config.cluster.engines.len());
    derive(config.server.max_connections, raise(), own)
}

fn derive(configured: usize, limit: Option<u64>, own: u64) -> usize {
    let available = limit.map_or(usize::MAX, |limit| available(limit, own));
    if configured == 0 {
        return available.min(MOST_DERIVED);
    }
    configured
}

/// The warning about a number of connections that the hard limit on open files does not allow beside `workers`.
pub(super) fn warning(config: &Config, workers: u16) -> Option<Warning> {
    let limit = getrlimit(Resource::Nofile).maximum?;
    let own = own(workers, config.cluster.engines.len());
    warning_at(config.server.max_connections, limit, own)
}

fn warning_at(configured: usize, limit: u64, own: u64) -> Option<Warning> {
    let available = available(limit, own);
    (configured > available).then(|| {
        let problem = format!(
            "{configured} is more than the limit of {limit} open files allows, which is {available} connections; raise the limit \
             (ulimit -Hn), or lower this"
        );
        Warning::about(["server.max_connections"], problem)
    })
}

/// Descriptors that the relay itself needs: each worker has two connections to each engine.
fn own(workers: u16, engines: usize) -> u64 {
    RESERVED + (RESERVED_PER_WORKER + 2 * engines as u64) * u64::from(workers)
}

/// Connections that fit. If the limit is very low, half of it.
fn available(limit: u64, own: u64) -> usize {
    // A pointer has 64 bits.
    (limit - own.min(limit / 2)) as usize
}

/// Raises the limit on open files, and returns it; `None` if there is none.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit on open files stays as it is");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_relay_itself_needs_is_left_out() {
        assert_eq!(available(20_000, own(2, 0)), 20_000 - 140);
        assert_eq!(available(20_000, own(2, 3)), 20_000 - 152);
    }

    #[test]
    fn where_descriptors_are_few_half_of_them_are_clients() {
        assert_eq!(available(64, own(2, 0)), 32);
    }

    #[test]
    fn a_configured_limit_is_kept_whatever_the_limit_on_open_files() {
        for limit in [Some(1024), None] {
            assert_eq!(derive(10, limit, own(1, 0)), 10);
            assert_eq!(derive(5_000_000, limit, own(1, 0)), 5_000_000);
        }
    }

    #[test]
    fn more_connections_than_open_files_allow_are_warned_of() {
        assert_eq!(warning_at(1024 - 134, 1024, own(1, 0)), None);
        assert_eq!(
            warning_at(1024 - 133, 1024, own(1, 0)).unwrap().to_string(),
            "server.max_connections: 891 is more than the limit of 1024 open files allows, which is 890 connections; \
             raise the limit (ulimit -Hn), or lower this"
        );
        assert_eq!(warning_at(0, 1024, own(1, 0)), None);
    }

    #[test]
    fn a_thousand_million_descriptors_are_not_a_thousand_million_connections() {
        for limit in [Some(1_073_741_816), None] {
            assert_eq!(derive(0, limit, own(2, 0)), MOST_DERIVED);
        }
        assert_eq!(derive(0, Some(20_140), own(2, 0)), 20_000);
    }
}
