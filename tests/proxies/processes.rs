//! The processes of the proxy and the relay, and the files that they share. The tests start and end them.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustls::{ClientConfig, RootCertStore};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::SECRET;
use crate::client::Client;
use crate::page::{self, Block};

/// The longest wait; then the test fails. It is far more than a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Attempts to start a proxy. Another program may take the port that was free a moment ago.
const STARTS: usize = 5;

/// The longest wait for a proxy to end; then it is killed.
const FAREWELL: Duration = Duration::from_secs(2);

/// Waits until `condition` holds. Fails with `what` if that takes longer than [`PATIENCE`].
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        thread::sleep(Duration::from_millis(5));
    }
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
        let tool = Tool { name };
        // The answer does not matter, only that the program starts.
        let is_there = tool
            .command(&["-v"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
        if !is_there {
            // The output of a macro is shown only if the test fails.
            let _ = writeln!(io::stderr(), "skipped: {name} is not installed");
        }
        is_there.then_some(tool)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(self.name);
        command
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }
}

/// The folder of a test: certificate, socket, configurations and logs.
pub(crate) struct Files {
    folder: TempDir,
    client: Arc<ClientConfig>,
}

impl Files {
    pub(crate) fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        // A proxy that root starts continues as another user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Files {
            folder,
            client: Arc::new(client),
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.into_os_string().into_string().unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Waits until a log names the path at which clients meet, and asserts that it has no query.
    pub(crate) fn await_path_without_query(&self, log: &str) {
        eventually("clients are logged", || self.read(log).contains("/room"));
        assert!(!self.read(log).contains(SECRET), "{}", self.read(log));
    }

    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }
}

/// The relay, with a configuration of the page.
pub(crate) struct Relay {
    child: Child,
}

impl Relay {
    /// Starts it with the configuration behind the heading `section`, and waits until it listens.
    pub(crate) fn of_section(section: &str, files: &Files) -> Relay {
        let config = page::block(section, "yaml")
            .replaced("host: 127.0.0.1", "host: 127.0.0.1\n  port: 0")
            .replaced("/run/fanwire/relay.sock", &files.path("relay.sock"))
            // The proxy may run as any user.
            .adapted("0660", "0666");
        let config = config.into_text() + "metrics: {port: 0}\n";
        fs::write(files.path("config.yaml"), config).unwrap();
        Relay::start(files)
    }

    /// Starts it with the same configuration again.
    pub(crate) fn start(files: &Files) -> Relay {
        let log = File::create(files.path("relay.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_fanwire"))
            .args(["--config-file", &files.path("config.yaml")])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let relay = Relay { child };
        eventually("the relay listens", || {
            UnixStream::connect(files.path("relay.sock")).is_ok()
        });
        relay
    }

    pub(crate) fn ask_to_end(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits for its end, which must be a clean one.
    pub(crate) fn ended(mut self) {
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Usually it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy that runs, with all its processes.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) port: u16,
}

impl Proxy {
    /// Starts it on a free port, and waits until it answers there. These proxies cannot choose a port themselves and tell which. So
    /// the test finds a free port, and tries another one if a program was faster.
    pub(crate) fn start(
        files: &Files,
        configure: impl Fn(&Files, u16) -> Block,
        run: impl Fn(&Files) -> Command,
    ) -> Proxy {
        for _ in 0..STARTS {
            let port = free_port();
            let config = configure(files, port)
                .adapted("/run/fanwire/relay.sock", &files.path("relay.sock"))
                .adapted("/etc/ssl/relay/cert.pem", &files.path("cert.pem"))
                .adapted("/etc/ssl/relay/key.pem", &files.path("key.pem"));
            fs::write(files.path("proxy.conf"), config.into_text()).unwrap();
            let log = File::create(files.path("proxy.log")).unwrap();
            let child = run(files)
                .current_dir(files.path(""))
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .process_group(0)
                .spawn()
                .unwrap();
            let mut proxy = Proxy { child, port };
            if proxy.answers(files) {
                return proxy;
            }
        }
        panic!("the proxy does not start:\n{}", files.read("proxy.log"));
    }

    /// Waits until a client gets through. Returns false if the proxy ends first.
    fn answers(&mut self, files: &Files) -> bool {
        let mut has_ended = false;
        eventually("the proxy answers or has ended", || {
            has_ended = self.child.try_wait().unwrap().is_some();
            has_ended || Client::connect(files, self.port, "/").is_ok()
        });
        !has_ended
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Runs `act`, and waits for a process of the proxy that was not there before.
    pub(crate) fn await_new_process(&self, act: impl FnOnce()) {
        let before = self.processes();
        act();
        eventually("the proxy has a new process", || {
            self.processes().iter().any(|pid| !before.contains(pid))
        });
    }

    /// All processes of the proxy's process group.
    fn processes(&self) -> Vec<u32> {
        let group = self.child.id();
        let is_member = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The fields behind the name in parentheses: state, parent, group.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            fields
                .split_whitespace()
                .nth(2)
                .and_then(|field| field.parse().ok())
                == Some(group)
        };
        let entries = fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(is_member).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A failure does not matter: the processes may have ended already.
        let group = Pid::from_child(&self.child);
        let _ = kill_process(group, Signal::TERM);
        let deadline = Instant::now() + FAREWELL;
        while self.child.try_wait().is_ok_and(|status| status.is_none())
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A port on which no program listens at this moment.
fn free_port() -> u16 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    socket.local_addr().unwrap().as_socket().unwrap().port()
}
