//! Starts a peer: with a folder, a configuration, an environment and a port.
//!
//! A server binds port 0 and says the port that it got, so that nobody has to guess. A server that has to be given a
//! port gets a free one. If another program takes that first, this is noticed, and the server is started again with
//! another port.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::certificate::{CERTIFICATE, Certificate, KEY};
use super::peer::{NO_TLS, Peer, Places, Port, Tls, is_there};
use super::started::{ERRORS, NotReady, OUTPUT, Scratch, Started};

/// The most ports that are tried for a server that has to be given one.
const ATTEMPTS: usize = 5;

/// The place of a peer's settings in its template.
const SETTINGS: &str = "{settings}";

impl Peer {
    /// Starts it, and waits until it accepts connections. With a certificate it speaks TLS. It inherits this thread's
    /// processors, of which there are `workers`.
    pub fn start(
        &self,
        places: &Places,
        workers: usize,
        certificate: Option<&Certificate>,
    ) -> Result<Started, String> {
        self.start_on(&mut free_port, places, workers, certificate)
    }

    /// The same, with a port from `ports` if it has to be given one.
    fn start_on(
        &self,
        ports: &mut dyn FnMut() -> io::Result<u16>,
        places: &Places,
        workers: usize,
        certificate: Option<&Certificate>,
    ) -> Result<Started, String> {
        if certificate.is_some() && matches!(self.tls, Tls::Never) {
            return Err(format!("{} {NO_TLS}", self.name));
        }
        let failed = |error: io::Error| format!("{} does not start: {error}", self.name);
        for _ in 0..ATTEMPTS {
            let port = match self.port {
                Port::Said => 0,
                Port::Given => ports().map_err(failed)?,
            };
            let launched = self.launch(port, places, workers, certificate);
            let mut started = launched.map_err(failed)?;
            match started.wait_until_ready() {
                Ok(()) => return Ok(started),
                Err(NotReady::Taken) => {}
                Err(NotReady::Failed(why)) => return Err(format!("{} {why}", self.name)),
            }
        }
        Err(format!(
            "{} got no port: another program took it first, {ATTEMPTS} times in a row",
            self.name
        ))
    }

    /// Starts its process. It is not ready yet.
    fn launch(
        &self,
        port: u16,
        places: &Places,
        workers: usize,
        certificate: Option<&Certificate>,
    ) -> io::Result<Started> {
        let scratch = Scratch::create()?;
        let path = |name| scratch.join(name).display().to_string();
        let placeholders = [
            ("{port}", port.to_string()),
            ("{workers}", workers.to_string()),
            ("{config}", path("config")),
            ("{certificate}", path(CERTIFICATE)),
            ("{key}", path(KEY)),
            ("{scratch}", scratch.0.display().to_string()),
        ];
        let fill = |text: &str| {
            let filled = placeholders.iter();
            filled.fold(places.fill(text), |text, (name, value)| {
                text.replace(name, value)
            })
        };
        let config = self.template.map(|_| scratch.join("config"));
        if let (Some(template), Some(config)) = (self.template, &config) {
            let mut text = fs::read_to_string(places.fill(template))?;
            if text.contains(SETTINGS) {
                text = text.replace(SETTINGS, self.settings);
            } else {
                text += self.settings;
            }
            let tls = match self.tls {
                Tls::Template(tls) if certificate.is_some() => tls,
                Tls::Never | Tls::Environment | Tls::Template(_) => "",
            };
            fs::write(config, fill(&text.replace("{tls}", tls)))?;
        }
        let words: Vec<String> = self.command.iter().map(|word| fill(word)).collect();
        let mut command = command(&words);
        tell_tls(&mut command, certificate, &scratch)?;
        let child = command
            .env("PORT", port.to_string())
            .env("WORKERS", workers.to_string())
            .env("GOMAXPROCS", workers.to_string())
            .stdin(Stdio::null())
            .stdout(File::create(scratch.join(OUTPUT))?)
            .stderr(File::create(scratch.join(ERRORS))?)
            .process_group(0)
            .spawn()?;
        let certificate = certificate.map(|_| scratch.join(CERTIFICATE));
        Ok(Started::new(child, port, config, certificate, scratch))
    }
}

/// Puts a certificate and its key where a program finds them. Without a certificate, removes their names from the
/// environment.
fn tell_tls(
    command: &mut Command,
    certificate: Option<&Certificate>,
    scratch: &Scratch,
) -> io::Result<()> {
    for (variable, file) in [("TLS_CERTIFICATE", CERTIFICATE), ("TLS_KEY", KEY)] {
        match certificate {
            Some(_) => command.env(variable, scratch.join(file)),
            None => command.env_remove(variable),
        };
    }
    certificate.map_or(Ok(()), |certificate| certificate.write(&scratch.0))
}

/// The command that starts a server. The server ends with this process, if the system has a tool for that: a second
/// Ctrl-C must leave no server behind.
fn command(words: &[String]) -> Command {
    if is_there("setpriv") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).args(words);
        return command;
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// A port that nobody listens on at the moment.
fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::compare::peers::peer::PLAIN;

    fn places() -> Places {
        Places {
            here: PathBuf::from("/nowhere"),
            peers: PathBuf::from("/nowhere"),
        }
    }

    /// The error of a server that is started so.
    fn failure_of(command: &'static [&'static str]) -> String {
        let peer = Peer {
            name: "liar",
            command,
            ..PLAIN
        };
        peer.start(&places(), 1, None).unwrap_err()
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_last_words() {
        let error = failure_of(&["sh", "-c", "echo ready; echo no such luck >&2; exit 3"]);
        assert!(
            error.contains("no such luck") && error.contains("status: 3"),
            "{error}"
        );
    }

    #[test]
    fn the_children_of_a_server_that_crashed_end_with_it() {
        let error = failure_of(&["sh", "-c", "sleep 600 & echo child $! left >&2; exit 3"]);
        let mut words = error.split(' ').skip_while(|word| !word.ends_with("child"));
        let child: u32 = words.nth(1).unwrap().parse().unwrap();
        let is_there =
            || fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| !line.is_empty());
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_there() {
            assert!(Instant::now() < deadline, "{child} is left");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_port_that_another_program_took_first_is_left_to_it_and_another_is_tried() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        // Bound and not listening: nobody can take it.
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        held.bind(&any.into()).unwrap();
        let free = held.local_addr().unwrap().as_socket().unwrap().port();
        let mut untried = vec![free, taken];
        let mut ports = || Ok(untried.pop().expect("two are enough"));
        let peer = Peer {
            name: "slow",
            command: &["sh", "-c", "echo at {port} >&2; exit 3"],
            port: Port::Given,
            ..PLAIN
        };
        let started = peer.start_on(&mut ports, &places(), 1, None);
        let error = started.unwrap_err();
        assert!(error.contains(&format!("at {free}")), "{error}");
    }

    #[test]
    fn a_server_that_never_gets_a_port_is_given_up() {
        let peer = Peer {
            name: "unlucky",
            command: &["sh", "-c", "echo bind: Address already in use >&2; exit 1"],
            port: Port::Given,
            ..PLAIN
        };
        let error = peer.start(&places(), 1, None).unwrap_err();
        assert!(
            error.starts_with("unlucky got no port") && error.contains(&ATTEMPTS.to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_server_is_found_where_it_says_that_it_listens() {
        let peer = Peer {
            name: "frank",
            command: &[
                "sh",
                "-c",
                "echo ready 127.0.0.1:4711 metrics=127.0.0.1:4712; exec sleep 600",
            ],
            ..PLAIN
        };
        let started = peer.start(&places(), 1, None).unwrap();
        assert_eq!(started.address.port(), 4711);
        let metrics = "http://127.0.0.1:4712/metrics";
        assert_eq!(started.metrics_url.as_deref(), Some(metrics));
    }
}
