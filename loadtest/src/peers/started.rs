//! A server under way: whether it is ready, how it ended, and that nothing of it is left behind.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

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

/// A server under way; ends with this value.
#[derive(Debug)]
pub struct Started {
    pub(super) child: Child,
    /// How it ended, if that was found out.
    pub(super) ended: Option<String>,
    /// Where it accepts connections.
    pub address: SocketAddr,
    /// Its configuration, if it has one.
    pub config: Option<PathBuf>,
    /// The certificate that it shows, if it speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Its counters, if it has some.
    pub metrics_url: Option<String>,
    /// Removed when the process has ended.
    pub(super) scratch: Scratch,
}

/// A temporary folder that goes with this value.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    /// For a server on this port, which no other has.
    pub(super) fn create(port: u16) -> io::Result<Scratch> {
        let folder = std::env::temp_dir().join(format!("loadtest-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-overs in a temporary folder are no failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Started {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns when it accepts connections; an error if it has ended, or is too slow.
    pub(super) fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            if let Some(how) = self.end() {
                let how = how.to_owned();
                return Err(format!(
                    "has ended before it was ready, {how}{}",
                    self.last_words()
                ));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "accepts no connection after {START:?}{}",
                    self.last_words()
                ));
            }
            thread::sleep(NAP);
        }
        Ok(())
    }

    /// How it ended, if it has although nobody told it to.
    pub fn has_ended(&mut self) -> Option<String> {
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
        let text = fs::read(self.scratch.join("errors")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
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
        let mut started = Started {
            child,
            ended: None,
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            config: None,
            certificate: None,
            metrics_url: None,
            scratch: Scratch::create(1).unwrap(),
        };
        assert_eq!(started.has_ended(), None);
        kill_process(started.id(), Signal::KILL).unwrap();
        waitpid(Some(started.id()), WaitOptions::empty()).unwrap();
        assert_eq!(
            started.has_ended().unwrap(),
            format!("has ended, {UNKNOWN}")
        );
    }
}
