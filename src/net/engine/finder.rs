//! Finds the addresses of engines: asks the system's resolver, and Sentinels.
//!
//! Both may take long, so each engine has a thread for it. Workers ask before they connect. The thread answers by mail. If
//! Sentinels know the engine, it also asks them every few seconds, and tells all workers when they name another server.
//!
//! A thread ends when the workers are gone. Nobody waits for it, because a resolver may hang.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::lane::{auth, public};
use super::target::{Place, Remote, Target};
use crate::cluster::command::Command;
use crate::cluster::reply::{Replies, Reply};
use crate::cluster::sentinel;
use crate::net::tls::outgoing::Outgoing;

/// The time between two questions to Sentinels that nobody asked for.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The addresses of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The engine.
    pub(crate) engine: usize,
    /// Its addresses, the best first, or why there are none.
    pub(crate) addresses: Result<Vec<SocketAddr>, String>,
    /// The host, for the engine's certificate.
    pub(crate) host: String,
    /// Nobody asked: connections to other addresses are to be dropped.
    pub(crate) is_news: bool,
}

/// Asks the thread of an engine. The number is that of the worker who wants the answer.
#[derive(Clone, Debug)]
pub(crate) struct Finder(Sender<usize>);

impl Finder {
    /// Starts the thread that finds an engine. `tell` sends an answer to a worker, and says whether there are workers. The
    /// longest wait for a Sentinel is `timeout`.
    pub(crate) fn start(
        engine: usize,
        target: Target,
        workers: usize,
        timeout: Duration,
        tell: impl Fn(usize, Found) -> bool + Send + 'static,
    ) -> io::Result<Finder> {
        let (sender, receiver) = mpsc::channel();
        let mut search = Search {
            engine,
            target,
            workers,
            timeout,
            last: None,
        };
        thread::Builder::new()
            .name(format!("finder-{engine}"))
            .spawn(move || search.run(&receiver, &tell))?;
        Ok(Finder(sender))
    }

    /// Asks for the engine's addresses, for a worker. The answer comes by mail.
    pub(crate) fn ask(&self, worker: usize) {
        // If the thread is gone, the connection times out, and is tried again.
        if self.0.send(worker).is_err() {
            tracing::debug!("an engine's finder is gone");
        }
    }
}

/// Whether a host needs to be found.
pub(crate) fn literal(remote: &Remote) -> Option<SocketAddr> {
    let address: IpAddr = remote.host.parse().ok()?;
    Some(SocketAddr::new(address, remote.port))
}

/// The state of a thread.
struct Search {
    engine: usize,
    target: Target,
    workers: usize,
    timeout: Duration,
    /// The addresses that the Sentinels named last.
    last: Option<Vec<SocketAddr>>,
}

impl Search {
    fn run(&mut self, asked: &Receiver<usize>, tell: &dyn Fn(usize, Found) -> bool) {
        let has_sentinels = matches!(self.target.place, Place::Sentinels { .. });
        loop {
            let first = if has_sentinels {
                match asked.recv_timeout(ASK_AGAIN) {
                    Ok(worker) => Some(worker),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match asked.recv() {
                    Ok(worker) => Some(worker),
                    Err(_) => return,
                }
            };
            // One search answers all that have asked by now.
            let mut asking: Vec<usize> = first.into_iter().chain(asked.try_iter()).collect();
            asking.sort_unstable();
            asking.dedup();
            let mut found = self.find();
            if self.is_news(&found) {
                found.is_news = true;
                for worker in 0..self.workers {
                    if !tell(worker, found.clone()) {
                        return;
                    }
                }
                found.is_news = false;
            }
            for worker in asking {
                if !tell(worker, found.clone()) {
                    return;
                }
            }
        }
    }

    /// Whether the Sentinels name another server than before.
    fn is_news(&mut self, found: &Found) -> bool {
        let has_sentinels = matches!(self.target.place, Place::Sentinels { .. });
        let Ok(addresses) = &found.addresses else {
            return false;
        };
        let mut sorted = addresses.clone();
        sorted.sort_unstable();
        let before = self.last.replace(sorted.clone());
        has_sentinels && before.is_some_and(|before| before != sorted)
    }

    fn find(&mut self) -> Found {
        let timeout = self.timeout;
        let (host, addresses) = match &mut self.target.place {
            Place::Unix(_) => (String::new(), Ok(Vec::new())),
            Place::Remote(remote) => (remote.host.clone(), resolve(&remote.host, remote.port)),
            Place::Sentinels { sentinels, master } => {
                match ask_in_turn(sentinels, master, timeout) {
                    Ok((host, port)) => {
                        let addresses = resolve(&host, port);
                        (host, addresses)
                    }
                    Err(error) => (String::new(), Err(error)),
                }
            }
        };
        Found {
            engine: self.engine,
            addresses,
            host,
            is_news: false,
        }
    }
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (host, port).to_socket_addrs();
    let found: Vec<SocketAddr> = found
        .map_err(|error| format!("the host {host} cannot be resolved: {error}"))?
        .collect();
    if found.is_empty() {
        return Err(format!("the host {host} has no address"));
    }
    Ok(found)
}

/// Asks one Sentinel after the other. The one that answers is asked first from then on.
fn ask_in_turn(
    sentinels: &mut Vec<Remote>,
    master: &str,
    timeout: Duration,
) -> Result<(String, u16), String> {
    let mut problems = Vec::new();
    for at in 0..sentinels.len() {
        match ask(&sentinels[at], master, timeout) {
            Ok(found) => {
                let answered = sentinels.remove(at);
                sentinels.insert(0, answered);
                return Ok(found);
            }
            Err(problem) => problems.push(format!("{}: {problem}", sentinels[at])),
        }
    }
    Err(format!(
        "no Sentinel names the master ({})",
        problems.join("; ")
    ))
}

fn ask(remote: &Remote, master: &str, timeout: Duration) -> Result<(String, u16), String> {
    let until = Instant::now() + timeout;
    let addresses = resolve(&remote.host, remote.port)?;
    let mut last = "no address".to_owned();
    for address in addresses {
        match Asking::open(remote, address, until).and_then(|mut asking| asking.question(master)) {
            Ok(reply) => return sentinel::master(&reply).map_err(|problem| problem.to_string()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// A connection to a Sentinel, which blocks.
struct Asking {
    stream: TcpStream,
    tls: Option<Outgoing>,
    replies: Replies,
    until: Instant,
    login: Option<Command>,
}

impl Asking {
    fn open(remote: &Remote, address: SocketAddr, until: Instant) -> io::Result<Asking> {
        let stream = TcpStream::connect_timeout(&address, left(until)?)?;
        let tls = remote.tls.as_ref();
        let tls = tls.map(|tls| tls.session(&remote.host)).transpose()?;
        Ok(Asking {
            stream,
            tls,
            replies: Replies::new(sentinel::MAX_REPLY_BYTES),
            until,
            login: remote.login.as_ref().map(auth),
        })
    }

    fn question(&mut self, master: &str) -> io::Result<Reply> {
        if let Some(login) = self.login.take()
            && let Reply::Error(text) = self.ask(&login)?
        {
            return Err(io::Error::other(format!(
                "it refuses the user or the password: {}",
                public(&text)
            )));
        }
        self.ask(&sentinel::question(master))
    }

    fn ask(&mut self, command: &Command) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        match &mut self.tls {
            Some(tls) => {
                tls.write(&mut self.stream, &bytes)?;
            }
            None => self.stream.write_all(&bytes)?,
        }
        let mut buffer = [0; 4096];
        loop {
            if let Some(reply) = self.replies.take().map_err(io::Error::other)? {
                return Ok(reply);
            }
            self.stream.set_read_timeout(Some(left(self.until)?))?;
            let count = match &mut self.tls {
                Some(tls) => tls.read(&mut self.stream, &mut buffer),
                None => self.stream.read(&mut buffer),
            };
            match count {
                Ok(0) => return Err(io::Error::other("it has closed the connection")),
                Ok(count) => self.replies.push(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The time that is left until a moment.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}
