//! A server under way: whether it is ready, how it ended, and that nothing of it is left behind.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
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

/// What is shown of the last words of a server that failed.
const LAST_WORDS: usize = 400;

/// A server under way; ends with this value.
#[derive(Debug)]
pub struct Started {
    pub(super) child: Child,
    /// How it ended, if it has been waited for.
    pub(super) ended: Option<ExitStatus>,
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
            if let Some(status) = self.end() {
                return Err(format!(
                    "has ended before it was ready, {status}{}",
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
        let status = self.end()?;
        Some(format!("has ended, {status}{}", self.last_words()))
    }

    /// How it ended, if it has. What it has started ends then as well.
    fn end(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() && self.has_exited() {
            self.end_all();
        }
        self.ended
    }

    /// Whether it has ended. It is not waited for, so that its id, which is also that of its group, stays its own.
    fn has_exited(&self) -> bool {
        let pid = WaitId::Pid(Pid::from_child(&self.child));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(pid, options), Ok(Some(_)))
    }

    /// Kills it and what it has started, as far as they are left, and waits for it.
    fn end_all(&mut self) {
        // Nobody may be left.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        self.ended = self.child.wait().ok();
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
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + END;
        while !self.has_exited() && Instant::now() < deadline {
            thread::sleep(NAP);
        }
        self.end_all();
    }
}
