//! A server under way: it becomes ready, it may end by itself, and nothing of it is left behind.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use super::listening::{Listener, listener, said};

/// Time that a server may take until it accepts connections.
const START: Duration = Duration::from_secs(20);

/// Time that it may take to end once it was told to.
const END: Duration = Duration::from_secs(5);

/// Time between two looks at it.
const NAP: Duration = Duration::from_millis(10);

/// The end of a server that is not known: somebody else waited for it, or SIGCHLD is ignored.
const UNKNOWN: &str = "for an unknown reason";

/// The most characters of the last words of a server that failed.
const LAST_WORDS: usize = 400;

/// The files in its folder with its output and its errors.
pub(super) const OUTPUT: &str = "output";
pub(super) const ERRORS: &str = "errors";

/// Words of a program whose port another program has.
const IN_USE: &str = "address already in use";

/// A server under way; ends with this value.
#[derive(Debug)]
pub struct Started {
    child: Child,
    /// The way it ended, if it has.
    ended: Option<String>,
    /// The address that it accepts connections on. Until it is ready, the port is 0 if it is to say it.
    pub address: SocketAddr,
    /// Its configuration, if it has one.
    pub(crate) config: Option<PathBuf>,
    /// The certificate that it shows, if it speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Its counters, if it has some.
    pub(crate) metrics_url: Option<String>,
    /// Removed when the process has ended.
    scratch: Scratch,
}

/// The reason why a server is not ready.
#[derive(Debug)]
pub(super) enum NotReady {
    /// Another program has the port that it was given.
    Taken,
    /// It failed, for this reason.
    Failed(String),
}

/// A temporary folder that goes with this value.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    /// A folder that nobody else has.
    pub(super) fn create() -> io::Result<Scratch> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        loop {
            // Relaxed: all that matters is that nobody gets the same twice.
            let number = CREATED.fetch_add(1, Ordering::Relaxed);
            let name = format!("loadtest-{}-{number}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Scratch(folder)),
                // Left behind by a process that had our id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The text of a file in it; empty if it cannot be read.
    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It does not matter if a temporary folder is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Started {
    /// A process that was just started. `port` is the one it was given, or 0 if it is to say it.
    pub(super) fn new(
        child: Child,
        port: u16,
        config: Option<PathBuf>,
        certificate: Option<PathBuf>,
        scratch: Scratch,
    ) -> Started {
        Started {
            child,
            ended: None,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            config,
            certificate,
            metrics_url: None,
            scratch,
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns when it accepts connections.
    pub(super) fn wait_until_ready(&mut self) -> Result<(), NotReady> {
        let deadline = Instant::now() + START;
        while !self.is_ready()? {
            if let Some(how) = self.end() {
                let how = how.to_owned();
                let words = self.last_words();
                if self.address.port() > 0 && words.to_lowercase().contains(IN_USE) {
                    return Err(NotReady::Taken);
                }
                let why = format!("has ended before it was ready, {how}{words}");
                return Err(NotReady::Failed(why));
            }
            if Instant::now() > deadline {
                let words = self.last_words();
                let why = format!("accepts no connection after {START:?}{words}");
                return Err(NotReady::Failed(why));
            }
            thread::sleep(NAP);
        }
        Ok(())
    }

    /// Whether it accepts connections. Notes its address, if it was to say it.
    fn is_ready(&mut self) -> Result<bool, NotReady> {
        let port = self.address.port();
        if port > 0 {
            return match listener(port, self.pid()).map_err(NotReady::Failed)? {
                Listener::Nobody => Ok(false),
                Listener::Itself => Ok(true),
                Listener::Another => Err(NotReady::Taken),
            };
        }
        let mut files = [OUTPUT, ERRORS].into_iter();
        let Some(said) = files.find_map(|file| said(&self.scratch.read(file))) else {
            return Ok(false);
        };
        self.address = said.address;
        self.metrics_url = said.metrics.map(|at| format!("http://{at}/metrics"));
        Ok(true)
    }

    /// A sentence about its end, if it has ended unasked.
    pub(crate) fn has_ended(&mut self) -> Option<String> {
        let how = self.end()?.to_owned();
        Some(format!("has ended, {how}{}", self.last_words()))
    }

    /// The way it ended, if it has. Its children are ended then as well.
    fn end(&mut self) -> Option<&str> {
        if self.ended.is_none() {
            // It is not reaped here, so that its id, which is also that of its group, stays its own.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(self.id()), options) {
                Ok(None) => {}
                Ok(Some(_)) => self.end_all(),
                // The id may belong to another process by now, so no signal is sent.
                Err(_) => self.ended = Some(UNKNOWN.to_owned()),
            }
        }
        self.ended.as_deref()
    }

    /// Kills it and its children, and reaps it.
    fn end_all(&mut self) {
        // It fails if nobody is left.
        let _ = kill_process_group(self.id(), Signal::KILL);
        let status = self.child.wait();
        self.ended = Some(status.map_or_else(|_| UNKNOWN.to_owned(), |status| status.to_string()));
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The end of its errors, for a message.
    fn last_words(&self) -> String {
        let text = self.scratch.read(ERRORS);
        let from = text
            .char_indices()
            .rev()
            .nth(LAST_WORDS)
            .map_or(0, |(at, _)| at);
        let text = text[from..].trim();
        if text.is_empty() {
            String::new()
        } else {
            format!(": {text}")
        }
    }
}

impl Drop for Started {
    /// Tells it to end. If it does not end in time it is killed, with all that it has started.
    fn drop(&mut self) {
        if self.end().is_some() {
            return;
        }
        let _ = kill_process(self.id(), Signal::TERM);
        let deadline = Instant::now() + END;
        while self.end().is_none() {
            if Instant::now() > deadline {
                return self.end_all();
            }
            thread::sleep(NAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::{WaitOptions, waitpid};

    use super::*;

    #[test]
    fn a_server_that_somebody_else_has_waited_for_has_ended() {
        let child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut started = Started::new(child, 0, None, None, Scratch::create().unwrap());
        assert_eq!(started.has_ended(), None);
        kill_process(started.id(), Signal::KILL).unwrap();
        waitpid(Some(started.id()), WaitOptions::empty()).unwrap();
        assert_eq!(
            started.has_ended().unwrap(),
            format!("has ended, {UNKNOWN}")
        );
    }
}
