//! How many connections the process may hold: the limit on open files, raised as far as it goes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are no clients' and no worker's: 64 scrapers, 32 connections that are being refused, some dozen of
/// listeners, event loops, signals and standard streams, and some in hand.
const RESERVED: u64 = 128;

/// Descriptors of a worker: its event loop, its waker and its alarm, twice over.
const RESERVED_PER_WORKER: u64 = 6;

/// Where the system sets no limit.
const UNLIMITED: u64 = 1 << 20;

/// Raises the limit on open files to its hard limit, and derives how many connections may be accepted: `configured`,
/// or with 0 whatever the limit leaves beside `workers`.
pub(super) fn raise_and_derive(configured: usize, workers: u16) -> usize {
    let limit = raise();
    let available = available(limit, workers);
    if configured == 0 {
        return available;
    }
    if configured > available {
        tracing::warn!(
            max_connections = configured,
            open_files = limit,
            "server.max_connections is more than the limit on open files allows; raise the limit (ulimit -n)"
        );
    }
    configured
}

/// Connections that fit. Where the limit is very low, half of it.
fn available(limit: u64, workers: u16) -> usize {
    let reserved = RESERVED + RESERVED_PER_WORKER * u64::from(workers);
    // Limits are far below 2⁶³, and a pointer has 64 bits.
    (limit - reserved.min(limit / 2)) as usize
}

fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum.unwrap_or(UNLIMITED),
        Err(error) => {
            tracing::debug!(%error, "the limit on open files stays as it is");
            current.unwrap_or(UNLIMITED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_relay_itself_needs_is_left_out() {
        assert_eq!(available(20_000, 2), 20_000 - 140);
    }

    #[test]
    fn where_descriptors_are_few_half_of_them_are_clients() {
        assert_eq!(available(64, 2), 32);
    }

    #[test]
    fn a_configured_limit_is_kept() {
        assert_eq!(raise_and_derive(10, 1), 10);
    }
}
