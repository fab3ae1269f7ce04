//! A `redis-server` of a test: started, asked, stopped, killed, started again.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};

use fanwire::internals::cluster::{Command, Replies, Reply};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PATIENCE, eventually};

/// See the module. It ends with the test.
pub(super) struct Engine {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(folder: &Path, port: u16, options: &[String]) -> Option<Child> {
    let mut process = Process::new("redis-server");
    if options.iter().any(|option| option == "--sentinel") {
        // Its file says all.
        process.args(options);
    } else {
        process.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--port",
            &port.to_string(),
        ]);
        process.args(options);
    }
    process.current_dir(folder);
    match process.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
        Ok(process) => Some(process),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no redis-server: {error}");
            eprintln!("skipped: no redis-server is installed");
            None
        }
    }
}

impl Engine {
    /// Starts a server that keeps nothing on disk.
    pub(super) fn start() -> Option<Engine> {
        Engine::with(&["--appendonly", "no"])
    }

    /// Starts a server with these options; `None`, with a line, where there is none.
    pub(super) fn with(options: &[&str]) -> Option<Engine> {
        let options = options.iter().map(ToString::to_string).collect();
        Engine::in_folder(tempfile::tempdir().unwrap(), free_port(), options)
    }

    /// Starts a Sentinel that watches the server at `port` as `mymaster`.
    pub(super) fn sentinel(port: u16) -> Option<Engine> {
        let (folder, own) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {own}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n"
        );
        std::fs::write(&file, text).unwrap();
        let options = vec![file.display().to_string(), "--sentinel".into()];
        Engine::in_folder(folder, own, options)
    }

    fn in_folder(folder: tempfile::TempDir, port: u16, options: Vec<String>) -> Option<Engine> {
        let process = spawn(folder.path(), port, &options)?;
        let engine = Engine {
            process,
            folder,
            port,
            options,
        };
        engine.await_start();
        Some(engine)
    }

    fn await_start(&self) {
        eventually("the server answers", || {
            matches!(self.try_ask(&["INFO"]), Some(Reply::Bulk(_)))
        });
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends a command on a connection of its own; `None` if the server does not answer.
    fn try_ask(&self, words: &[&str]) -> Option<Reply> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let args = words.iter().map(|word| word.to_string().into());
        let mut bytes = Vec::new();
        Command {
            args: args.collect(),
        }
        .encode(&mut bytes);
        stream.write_all(&bytes).ok()?;
        let mut replies = Replies::new(1 << 24);
        let mut buffer = [0; 4096];
        loop {
            if let Some(reply) = replies.take().expect("RESP2") {
                return Some(reply);
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => replies.push(&buffer[..count]),
            }
        }
    }

    /// Sends a command, of words between blanks. An error fails the test.
    pub(super) fn ask(&self, command: &str) -> Reply {
        let words: Vec<&str> = command.split(' ').collect();
        self.ask_words(&words)
    }

    /// Sends a command.
    pub(super) fn ask_words(&self, words: &[&str]) -> Reply {
        let reply = self.try_ask(words).expect("the server answers");
        assert!(!matches!(reply, Reply::Error(_)), "{words:?}: {reply:?}");
        reply
    }

    /// A field of `INFO`.
    pub(super) fn info(&self, field: &str) -> Option<String> {
        let reply = self.try_ask(&["INFO"])?;
        let text = String::from_utf8_lossy(reply.bytes()?).into_owned();
        let prefix = format!("{field}:");
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it runs");
    }

    /// Stops the process, as if its machine stood still.
    pub(super) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it.
    pub(super) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it has ended");
    }

    /// Starts it again, with the data that it has on disk.
    pub(super) fn restart(&mut self) {
        self.process =
            spawn(self.folder.path(), self.port, &self.options).expect("it started once");
        self.await_start();
    }
}
