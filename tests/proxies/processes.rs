//! The processes of the proxy and the relay. The tests start and end them. If a test is killed, they are told to end.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use socket2::{Domain, Socket, Type};

use crate::client::Client;
use crate::files::{Files, LOG, SOCKET, assert_no_warning};
use crate::page::Block;
use crate::support::{eventually, runs_as_root};

/// The longest wait for a proxy to end; then it is killed.
const FAREWELL: Duration = Duration::from_secs(2);

/// The limit on connections of an address, in the relay's configurations on the page.
const LIMIT: &str = "max_connections_per_ip: 100";

/// A command that gets SIGTERM when the test ends. If root runs the test, `identity` sets the user and the groups.
fn command(program: &str, identity: &[&str]) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("setpriv");
    command
        // Debian puts servers into folders that are not in every user's path.
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(["--pdeathsig", "TERM"]);
    if runs_as_root() {
        command.args(identity);
    }
    command.args(["--", program]).stdin(Stdio::null());
    command
}

/// A program that is installed.
pub(crate) struct Tool {
    name: &'static str,
}

impl Tool {
    /// A program from Debian, which must be installed in CI.
    pub(crate) fn of_debian(name: &'static str) -> Option<Tool> {
        let tool = Tool::of_elsewhere(name);
        assert!(
            tool.is_some() || std::env::var_os("CI").is_none(),
            "{name} is not installed"
        );
        tool
    }

    /// A program that need not be installed.
    pub(crate) fn of_elsewhere(name: &'static str) -> Option<Tool> {
        let status = command(name, &[])
            .arg("-v")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        // With 126 or 127, setpriv says that it found no such program.
        let is_there = !matches!(status.unwrap().code(), Some(126 | 127));
        if !is_there {
            // The output of a macro is shown only if the test fails.
            let _ = writeln!(io::stderr(), "skipped: {name} is not installed");
        }
        is_there.then_some(Tool { name })
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.name, &[]);
        command.args(arguments);
        command
    }

    /// The same, as a user of its own if root runs the test.
    pub(crate) fn command_as(&self, user: &str, arguments: &[&str]) -> Command {
        let identity = ["--reuid", user, "--regid", user, "--init-groups"];
        let mut command = command(self.name, &identity);
        command.args(arguments);
        command
    }
}

/// The relay, with a configuration of the page.
pub(crate) struct Relay {
    child: Child,
    group: &'static str,
}

impl Relay {
    /// Starts it with `config`, and waits until it listens. If root runs the test, the relay's group is `group`, so that the
    /// proxy may write to the socket.
    pub(crate) fn start(files: &Files, config: Block, group: &'static str) -> Relay {
        let config = config.replaced("host: 127.0.0.1", "host: 127.0.0.1\n  port: 0");
        let config = format!("{}metrics: {{port: 0}}\n", config.text());
        fs::write(files.path("config.yaml"), config).unwrap();
        Relay::run(files, group)
    }

    fn run(files: &Files, group: &'static str) -> Relay {
        let program = env!("CARGO_BIN_EXE_fanwire");
        let child = command(program, &["--regid", group, "--clear-groups"])
            .args(["--config-file", &files.path("config.yaml")])
            .stderr(files.log("relay.log"))
            .spawn()
            .unwrap();
        let relay = Relay { child, group };
        eventually("the relay listens", || {
            UnixStream::connect(files.path(SOCKET)).is_ok()
        });
        relay
    }

    pub(crate) fn ask_to_end(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits for its end, which must be a clean one.
    pub(crate) fn await_end(&mut self) {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
    }

    /// Starts it after its end, with `limit` connections for each address.
    pub(crate) fn start_with_limit(&mut self, files: &Files, limit: usize) {
        let config = files.read("config.yaml");
        let limited = config.replace(LIMIT, &format!("max_connections_per_ip: {limit}"));
        assert_ne!(limited, config, "no `{LIMIT}`");
        fs::write(files.path("config.yaml"), limited).unwrap();
        self.start_again(files);
    }

    /// Starts it with the same configuration, after its end.
    pub(crate) fn start_again(&mut self, files: &Files) {
        *self = Relay::run(files, self.group);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // `Child` sends no signal to a process whose end it has seen.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port for a proxy, which cannot choose one itself and tell which.
///
/// The socket is bound and does not listen. As long as it is there, the system gives the port to no other program. The proxy can
/// bind it too, because both set `SO_REUSEADDR`.
pub(crate) struct Port {
    socket: Socket,
}

impl Port {
    pub(crate) fn hold() -> Port {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        Port { socket }
    }

    pub(crate) fn number(&self) -> u16 {
        let address = self.socket.local_addr().unwrap();
        address.as_socket().unwrap().port()
    }
}

/// A proxy that runs, with all its processes.
pub(crate) struct Proxy {
    child: Child,
    port: Port,
}

impl Proxy {
    /// Lets the proxy check its configuration, starts it, and waits until a client comes through. Both commands find the
    /// configuration in `proxy.conf`. A warning fails the test.
    pub(crate) fn start(
        files: &Files,
        port: Port,
        config: &Block,
        check: Command,
        run: Command,
    ) -> Proxy {
        let let_in = |answer: Result<Client, String>| answer.is_ok();
        Proxy::start_until(files, port, config, (check, run), let_in)
    }

    /// The same, until the proxy gives such an answer to a client.
    pub(crate) fn start_until(
        files: &Files,
        port: Port,
        config: &Block,
        (mut check, mut run): (Command, Command),
        is_answer: impl Fn(Result<Client, String>) -> bool,
    ) -> Proxy {
        fs::write(files.path("proxy.conf"), config.text()).unwrap();
        let check = check.current_dir(files.path("")).output().unwrap();
        let said = [check.stdout, check.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(check.status.success(), "{said}");
        assert_no_warning(&said);

        let child = run
            .current_dir(files.path(""))
            .stdout(files.log(LOG))
            .stderr(files.log(LOG))
            .process_group(0)
            .spawn()
            .unwrap();
        let proxy = Proxy { child, port };
        eventually("the proxy answers", || {
            assert!(!proxy.has_ended(), "{}", files.read(LOG));
            is_answer(Client::connect(files, proxy.port(), "/"))
        });
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// True if its first process has ended. It is not reaped here, so its id, which is also the group's, stays its own.
    fn has_ended(&self) -> bool {
        let pid = WaitId::Pid(Pid::from_child(&self.child));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(pid, options).unwrap().is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The id is still its own: only the last line reaps the process. A signal fails only if nobody is left.
        let group = Pid::from_child(&self.child);
        let _ = kill_process(group, Signal::TERM);
        let deadline = Instant::now() + FAREWELL;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}
