//! Tells systemd the state of the program (`sd_notify(3)`), if systemd asks for it.
//!
//! The control thread of the program calls it. A relay inside another program tells nothing, because that program has a
//! state of its own.
//!
//! The crates for this block if systemd is stuck, and do not know abstract sockets. Nothing here blocks: a state that cannot
//! be sent is sent at the next look.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

use super::watch::FROZEN_AFTER;

/// The shortest time of a watchdog that can be kept. An idle worker shows life every two seconds, and a busy machine may be
/// late. A watchdog that is shorter also acts before the log says which thread stands still.
const SHORTEST_WATCHDOG: Duration = FROZEN_AFTER;

/// The time between two reports of the number of clients.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The most states that wait to be sent. More are of no use to anybody.
const MOST_UNSENT: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    socket: UnixDatagram,
    address: SocketAddr,
    unsent: Vec<String>,
    has_watchdog: bool,
    /// The turns of each worker when the watchdog was fed.
    fed: Vec<u64>,
    status: String,
    status_at: Option<Instant>,
}

impl Supervisor {
    /// The link that the environment of the process names, if it does.
    pub(super) fn from_environment() -> Supervisor {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Supervisor::default();
        };
        match connect(&name) {
            Ok((socket, address)) => Supervisor {
                link: Some(Link {
                    socket,
                    address,
                    unsent: Vec::new(),
                    has_watchdog: has_watchdog(),
                    fed: Vec::new(),
                    status: String::new(),
                    status_at: None,
                }),
            },
            Err(error) => {
                warn!(%error, socket = ?name, "systemd cannot be told the state: NOTIFY_SOCKET cannot be used");
                Supervisor::default()
            }
        }
    }

    /// The link to the systemd that listens at `path`, and waits for signs of life.
    #[cfg(test)]
    pub(super) fn watched(path: &std::path::Path) -> io::Result<Supervisor> {
        let (socket, address) = connect(path.as_os_str())?;
        Ok(Supervisor {
            link: Some(Link {
                socket,
                address,
                unsent: Vec::new(),
                has_watchdog: true,
                fed: Vec::new(),
                status: String::new(),
                status_at: None,
            }),
        })
    }

    /// The relay takes clients, or has read its files again.
    pub(super) fn ready(&mut self) {
        self.tell("READY=1".into());
    }

    /// The relay reads its files again. [`ready`](Self::ready) has to follow.
    pub(super) fn reloading(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The shutdown has begun.
    pub(super) fn stopping(&mut self) {
        self.tell("STOPPING=1".into());
        self.note_news();
    }

    /// The status has changed so much that the next look tells it.
    pub(super) fn note_news(&mut self) {
        if let Some(link) = &mut self.link {
            link.status_at = None;
        }
    }

    /// Feeds the watchdog, if every worker of `turns` has taken a turn since it was fed last. Tells `status` if it has changed.
    pub(super) fn look(
        &mut self,
        now: Instant,
        turns: impl Iterator<Item = u64>,
        status: impl FnOnce() -> String,
    ) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.send_unsent();
        if link.has_watchdog {
            link.feed(turns.collect());
        }
        let is_time = |told: Instant| now.saturating_duration_since(told) >= STATUS_EVERY;
        if link.status_at.is_none_or(is_time) {
            link.status_at = Some(now);
            link.tell_status(status());
        }
    }

    fn tell(&mut self, state: String) {
        if let Some(link) = &mut self.link {
            if link.unsent.len() < MOST_UNSENT {
                link.unsent.push(state);
            }
            link.send_unsent();
        }
    }
}

impl Link {
    fn feed(&mut self, turns: Vec<u64>) {
        let has_fed = self.fed.len() == turns.len();
        let mut workers = self.fed.iter().zip(&turns);
        if has_fed && workers.any(|(fed, turns)| fed == turns) {
            return;
        }
        if self.send("WATCHDOG=1").is_ok() {
            self.fed = turns;
        }
    }

    fn tell_status(&mut self, status: String) {
        if status != self.status && self.send(&format!("STATUS={status}")).is_ok() {
            self.status = status;
        }
    }

    /// Sends the states that wait, in their order.
    fn send_unsent(&mut self) {
        while let Some(state) = self.unsent.first() {
            match self.send(state) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(()) => {}
                Err(error) => debug!(%error, "systemd cannot be told the state"),
            }
            self.unsent.remove(0);
        }
    }

    fn send(&self, state: &str) -> io::Result<()> {
        let sent = self.socket.send_to_addr(state.as_bytes(), &self.address);
        sent.map(drop)
    }
}

/// A socket, and the address of systemd's: a path, or the name of an abstract socket after `@`.
fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            let problem = "it is neither a path nor an abstract socket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Whether systemd waits for signs of life of this process.
fn has_watchdog() -> bool {
    let number = |key| std::env::var(key).ok()?.parse::<u64>().ok();
    let is_other = |pid| pid != u64::from(std::process::id());
    let Some(micros) = number("WATCHDOG_USEC") else {
        return false;
    };
    if number("WATCHDOG_PID").is_some_and(is_other) {
        return false;
    }
    let watchdog = Duration::from_micros(micros);
    if is_too_short(watchdog) {
        warn!(?watchdog, least = ?SHORTEST_WATCHDOG, "WatchdogSec is too short: systemd may kill a healthy relay");
    }
    true
}

fn is_too_short(watchdog: Duration) -> bool {
    watchdog < SHORTEST_WATCHDOG
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor with a watchdog, and the socket of its systemd.
    fn supervisor() -> (Supervisor, UnixDatagram, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        (Supervisor::watched(&path).unwrap(), systemd, folder)
    }

    fn heard(systemd: &UnixDatagram) -> Vec<String> {
        let mut heard = Vec::new();
        let mut buffer = [0; 256];
        while let Ok(n) = systemd.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
        heard
    }

    #[test]
    fn the_watchdog_is_fed_only_if_every_worker_has_moved() {
        let (mut supervisor, systemd, _folder) = supervisor();
        let now = Instant::now();
        let mut look = |turns: [u64; 2]| {
            supervisor.look(now, turns.into_iter(), String::new);
            heard(&systemd).len()
        };
        assert_eq!(look([0, 0]), 1);
        assert_eq!(look([1, 0]), 0);
        assert_eq!(look([2, 0]), 0);
        assert_eq!(look([2, 1]), 1);
        assert_eq!(look([2, 1]), 0);
    }

    #[test]
    fn a_watchdog_under_the_ten_seconds_of_the_documents_is_warned_of() {
        assert!(is_too_short(Duration::from_millis(9_999)));
        assert!(!is_too_short(Duration::from_secs(10)));
    }

    #[test]
    fn a_status_is_told_when_it_has_changed_and_not_too_often() {
        let (mut supervisor, systemd, _folder) = supervisor();
        supervisor.link.as_mut().unwrap().has_watchdog = false;
        let start = Instant::now();
        let mut look = |seconds, status: &str| {
            let now = start + Duration::from_secs(seconds);
            supervisor.look(now, std::iter::empty(), || status.into());
            heard(&systemd)
        };
        assert_eq!(look(0, "1 client"), ["STATUS=1 client"]);
        assert!(look(1, "2 clients").is_empty());
        assert_eq!(look(5, "2 clients"), ["STATUS=2 clients"]);
        assert!(look(10, "2 clients").is_empty());
    }

    #[test]
    fn a_systemd_that_does_not_read_blocks_nobody_and_hears_the_states_later() {
        let (mut supervisor, systemd, _folder) = supervisor();
        for n in 0..1000 {
            supervisor.look(Instant::now(), [n].into_iter(), String::new);
        }
        supervisor.stopping();
        heard(&systemd);
        supervisor.look(Instant::now(), [0].into_iter(), String::new);
        assert!(heard(&systemd).contains(&"STOPPING=1".into()));
    }

    #[test]
    fn a_socket_of_an_unknown_kind_is_refused() {
        for name in ["vsock:2:1234", "", "relative"] {
            assert!(connect(OsStr::new(name)).is_err(), "{name:?}");
        }
    }
}
