//! A server under way: whether it is ready, how it ended, and that nothing of it is left behind.

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

/// How long a server may take until it accepts connections.
const START: Duration = Duration::from_secs(20);

/// How long it may take to end by itself, once told to.
const END: Duration = Duration::from_secs(5);

/// Between two looks at whether it has.
const NAP: Duration = Duration::from_millis(10);

/// Said of a server whose end somebody else has waited for, or nobody: the system keeps none where SIGCHLD is ignored.
const UNKNOWN: &str = "and how is not known";

/// What is shown of the last words of a server that failed.
const LAST_WORDS: usize = 400;

/// The files in its folder that hold what it writes.
pub(super) const OUTPUT: &str = "output";
pub(super) const ERRORS: &str = "errors";

/// What programs say of a port that another one has.
const IN_USE: &str = "address already in use";

/// A server under way; ends with this value.
#[derive(Debug)]
pub struct Started {
    child: Child,
    /// How it ended, if that was found out.
    ended: Option<String>,
    /// Where it accepts connections, once it is ready. Until then its port is 0 if it is to say it.
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

/// Why a server is not ready.
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

    /// What a file in it holds; nothing, if it cannot be read.
    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-overs in a temporary folder are no failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Started {
    /// A process that has just been started, on a port that it was given, or on one that it is to say: 0.
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

    /// Whether it accepts connections. Where it does is noted, if it was to say it.
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

    /// How it ended, if it has although nobody told it to.
    pub(crate) fn has_ended(&mut self) -> Option<String> {
        let how = self.end()?.to_owned();
        Some(format!("has ended, {how}{}", self.last_words()))
    }

    /// How it ended, if it has. What it has started ends then as well.
    fn end(&mut self) -> Option<&str> {
        if self.ended.is_none() {
            // It is not waited for, so that its id, which is also that of its group, stays its own.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(self.id()), options) {
                Ok(None) => {}
                Ok(Some(_)) => self.end_all(),
                // The id may be another's already: nobody is to be signalled by it.
                Err(_) => self.ended = Some(UNKNOWN.to_owned()),
            }
        }
        self.ended.as_deref()
    }

    /// Kills it and what it has started, as far as they are left, and waits for it.
    fn end_all(&mut self) {
        // Nobody may be left.
        let _ = kill_process_group(self.id(), Signal::KILL);
        let status = self.child.wait();
        self.ended = Some(status.map_or_else(|_| UNKNOWN.to_owned(), |status| status.to_string()));
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The end of what it wrote about errors.
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
    /// Tells it to end; what has not ended in time is killed, and so is what it has started and left behind.
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
