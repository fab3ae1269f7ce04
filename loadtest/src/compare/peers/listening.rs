//! The port of a server: the address that it says, and whether a given port is really its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use procfs::net::{TcpNetEntry, TcpState};

use crate::run::processes::Processes;

/// The addresses that a server says it listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// For clients.
    pub(super) address: SocketAddr,
    /// For readers of its counters.
    pub(super) metrics: Option<SocketAddr>,
}

/// The addresses in the output of a server, once it is ready: `ready 127.0.0.1:4711`, or a line of a log with the word
/// `ready`, `address=…` and perhaps `metrics=…`.
pub(super) fn said(output: &str) -> Option<Said> {
    // The last line may be incomplete.
    let (whole, _) = output.rsplit_once('\n')?;
    whole.lines().find_map(|line| {
        let words = || line.split_whitespace();
        if !words().any(|word| word == "ready") {
            return None;
        }
        let address = |word: &str| word.strip_prefix("address=").unwrap_or(word).parse().ok();
        let metrics = |word: &str| word.strip_prefix("metrics=")?.parse().ok();
        Some(Said {
            address: words().find_map(address)?,
            metrics: words().find_map(metrics),
        })
    })
}

/// The listener on a port of 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// Nobody yet.
    Nobody,
    /// The process that was asked about, or one that it has started.
    Itself,
    /// Another program.
    Another,
}

/// Finds the listener on a port: the process, or another program. The error is a sentence.
pub(super) fn listener(port: u16, process: u32) -> Result<Listener, String> {
    let failed = |error: procfs::ProcError| format!("/proc/net/tcp cannot be read: {error}");
    let mut entries = procfs::net::tcp().map_err(failed)?;
    // This table is missing if the system has no IPv6.
    entries.extend(procfs::net::tcp6().unwrap_or_default());
    let sockets: Vec<u64> = entries
        .iter()
        .filter(|entry| listens_on(entry, port))
        .map(|entry| entry.inode)
        .collect();
    if sockets.is_empty() {
        return Ok(Listener::Nobody);
    }
    let own = Processes::of(process).map(|processes| processes.sockets());
    let is_own = own.is_ok_and(|own| sockets.iter().any(|socket| own.contains(socket)));
    Ok(if is_own {
        Listener::Itself
    } else {
        Listener::Another
    })
}

/// Whether a socket takes connections to this port of 127.0.0.1.
fn listens_on(entry: &TcpNetEntry, port: u16) -> bool {
    let ip = entry.local_address.ip();
    let takes_ours = ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || ip.is_unspecified();
    entry.state == TcpState::Listen && entry.local_address.port() == port && takes_ours
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_server_is_understood_in_whole_lines_however_it_says_where_it_listens() {
        let plain = said("starting\nready 127.0.0.1:4711\n");
        let expected = Said {
            address: SocketAddr::from(([127, 0, 0, 1], 4711)),
            metrics: None,
        };
        assert_eq!(plain, Some(expected));
        let log =
            said("T INFO it: ready address=127.0.0.1:4711 metrics=127.0.0.1:4712 tls=false\n");
        let expected = Said {
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 4712))),
            ..expected
        };
        assert_eq!(log, Some(expected));
        for unready in [
            "",
            "ready 127.0.0.1:47",
            "ready\n",
            "listening on 127.0.0.1:4711\n",
        ] {
            assert_eq!(said(unready), None, "{unready:?}");
        }
    }

    #[test]
    fn a_port_is_told_to_be_its_own_another_s_or_nobody_s() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut other = Command::new("sleep").arg("600").spawn().unwrap();
        assert_eq!(listener(port, std::process::id()), Ok(Listener::Itself));
        // The other process does not have our socket any more once it is another program.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while listener(port, other.id()) != Ok(Listener::Another) {
            assert!(std::time::Instant::now() < deadline);
        }
        drop(socket);
        other.kill().unwrap();
        other.wait().unwrap();
        let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let bound = bound.unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        bound.bind(&any.into()).unwrap();
        let port = bound.local_addr().unwrap().as_socket().unwrap().port();
        assert_eq!(listener(port, std::process::id()), Ok(Listener::Nobody));
    }
}
