//! `fanwire --health`: one health check over HTTP, for images that have no other client.
//!
//! `main` calls [`run`]. It shares no code with the relay. It speaks plain HTTP over TCP or a Unix socket, and never takes
//! longer than [`DEADLINE`].

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use fanwire::config::Config;
use tungstenite::http::Uri;

/// The longest wait for the whole answer. Supervisors often allow five seconds or more.
const DEADLINE: Duration = Duration::from_secs(3);

/// The longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// The page of the metrics port that is asked by default. Supervisors restart what is not healthy, and a restart does not
/// help a relay that is only full.
const PAGE: &str = "/livez";

/// Asks `url`, or what the configuration says. Returns the first line of a good answer, or the reason why there is none.
pub(crate) fn run(
    url: Option<&str>,
    config: impl FnOnce() -> Result<Config, String>,
) -> Result<String, String> {
    let place = match url {
        Some(url) => Place::parse(url)?,
        None => Place::of(&config()?)?,
    };
    let shown = place.to_string();
    let (sender, receiver) = mpsc::channel();
    // On a thread of its own, because the look-up of a name has no limit. It ends with the process.
    thread::spawn(move || {
        // If nobody listens any more, the time is up.
        let _ = sender.send(place.ask());
    });
    let answer = match receiver.recv_timeout(DEADLINE) {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(RecvTimeoutError::Timeout) => Err(format!("no answer within {DEADLINE:?}")),
        Err(RecvTimeoutError::Disconnected) => Err("the check has failed".to_owned()),
    };
    answer
        .and_then(|answer| verdict(&answer))
        .map_err(|why| format!("{shown}: {why}"))
}

/// A page of a server. Displays without a query.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    server: Server,
    path: String,
    query: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Server {
    /// A host without brackets, and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Place {
    fn parse(url: &str) -> Result<Place, String> {
        const USAGE: &str = "the URL must be like http://127.0.0.1:9090/livez or unix:/run/fanwire/relay.sock:/healthz";
        if let Some(rest) = url.strip_prefix("unix:") {
            let (socket, path) = rest.split_once(":/").ok_or(USAGE)?;
            return Ok(Place::new(Server::Unix(socket.into()), format!("/{path}")));
        }
        let uri: Uri = url.parse().map_err(|_| USAGE)?;
        if uri.scheme_str() == Some("https") {
            let text = "--health does not speak TLS; ask the metrics port, or a Unix socket";
            return Err(text.to_owned());
        }
        let is_http = uri.scheme_str() == Some("http");
        let authority = uri.authority().filter(|_| is_http).ok_or(USAGE)?;
        if authority.as_str().contains('@') {
            return Err(USAGE.to_owned());
        }
        let host = authority.host().trim_matches(['[', ']']);
        let server = Server::Tcp(host.to_owned(), authority.port_u16().unwrap_or(80));
        let mut place = Place::new(server, uri.path().to_owned());
        place.query = uri
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        Ok(place)
    }

    /// The page to ask if nobody says which.
    fn of(config: &Config) -> Result<Place, String> {
        let (server, metrics) = (&config.server, &config.metrics);
        let at = |host: &str, port: u16, path: &str| {
            Place::new(Server::Tcp(reachable(host), port), path.to_owned())
        };
        match (&server.health_path, &server.unix_socket) {
            _ if metrics.enabled && metrics.port != 0 => Ok(at(&metrics.host, metrics.port, PAGE)),
            (Some(path), Some(socket)) => {
                Ok(Place::new(Server::Unix(socket.clone()), path.clone()))
            }
            (Some(path), None) if !server.tls.enabled && server.port != 0 => {
                Ok(at(&server.host, server.port, path))
            }
            (Some(_) | None, _) => Err("the configuration has no port to ask without TLS; \
                set metrics.port, or server.health_path and server.unix_socket, or name a URL"
                .to_owned()),
        }
    }

    fn new(server: Server, path: String) -> Place {
        Place {
            server,
            path,
            query: String::new(),
        }
    }

    fn ask(&self) -> io::Result<Vec<u8>> {
        match &self.server {
            Server::Tcp(host, port) => {
                let mut last = io::Error::other("the host has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, DEADLINE) {
                        Ok(stream) => return self.ask_over(stream),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Server::Unix(socket) => self.ask_over(UnixStream::connect(socket)?),
        }
    }

    fn ask_over(&self, mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
        let host = match &self.server {
            Server::Tcp(host, port) => format!("{}:{port}", bracketed(host)),
            Server::Unix(_) => "localhost".to_owned(),
        };
        let Place { path, query, .. } = self;
        write!(
            stream,
            "GET {path}{query} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fanwire-health\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.server {
            Server::Tcp(host, port) => write!(f, "http://{}:{port}{path}", bracketed(host)),
            Server::Unix(socket) => write!(f, "unix:{}:{path}", Path::display(socket)),
        }
    }
}

/// The address at which a listener on `host` is reached from this machine.
fn reachable(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => "::1".to_owned(),
        Ok(_) | Err(_) => host.to_owned(),
    }
}

/// The host as it stands in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The first line of the body if the status is 2xx, or else the status and that line.
fn verdict(answer: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse::<u16>().ok())
        .ok_or("the answer is not HTTP")?;
    let line: String = body
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    if (200..300).contains(&status) {
        Ok(line)
    } else {
        Err(format!("{status} {line}").trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Result<String, String> {
        Place::parse(url).map(|place| place.to_string())
    }

    #[test]
    fn a_url_names_a_host_or_a_unix_socket() {
        for (url, expected) in [
            ("http://127.0.0.1:9090/livez", "http://127.0.0.1:9090/livez"),
            ("http://relay.example", "http://relay.example:80/"),
            ("http://[::1]:9090/a?b=c", "http://[::1]:9090/a"),
            (
                "unix:/run/fanwire/relay.sock:/healthz",
                "unix:/run/fanwire/relay.sock:/healthz",
            ),
        ] {
            assert_eq!(shown(url).as_deref(), Ok(expected));
        }
        for url in [
            "",
            "/livez",
            "127.0.0.1:9090",
            "ws://a/",
            "http://user:secret@a/",
            "http:///a",
            "unix:/run/relay.sock",
        ] {
            let error = shown(url).unwrap_err();
            assert!(error.starts_with("the URL must be like"), "{url}: {error}");
            assert!(!error.contains("secret"));
        }
        assert!(
            shown("https://a/")
                .unwrap_err()
                .contains("does not speak TLS")
        );
    }

    #[test]
    fn the_configuration_says_where_to_ask() {
        let place = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            Place::of(&config).map(|place| place.to_string())
        };
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(place(|_| {}), ok("http://127.0.0.1:9090/livez"));
        assert_eq!(
            place(|config| config.metrics.host = "0.0.0.0".into()),
            ok("http://127.0.0.1:9090/livez")
        );
        assert_eq!(
            place(|config| config.metrics.host = "::".into()),
            ok("http://[::1]:9090/livez")
        );
        assert_eq!(
            place(|config| {
                config.metrics.enabled = false;
                config.server.health_path = Some("/healthz".into());
            }),
            ok("http://127.0.0.1:8443/healthz")
        );
        assert_eq!(
            place(|config| {
                config.metrics.port = 0;
                config.server.tls.enabled = true;
                config.server.health_path = Some("/healthz".into());
                config.server.unix_socket = Some("/run/s".into());
            }),
            ok("unix:/run/s:/healthz")
        );
        let nowhere: [fn(&mut Config); 3] = [
            |config| config.metrics.enabled = false,
            |config| config.metrics.port = 0,
            |config| {
                config.metrics.enabled = false;
                config.server.tls.enabled = true;
                config.server.health_path = Some("/healthz".into());
            },
        ];
        for change in nowhere {
            let error = place(change).unwrap_err();
            assert!(error.contains("no port to ask"), "{error}");
        }
    }

    #[test]
    fn only_a_status_of_success_is_healthy() {
        let ok = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nready\nmore";
        assert_eq!(verdict(ok).as_deref(), Ok("ready"));
        assert_eq!(verdict(b"HTTP/1.0 204 No\r\n\r\n").as_deref(), Ok(""));
        let draining = b"HTTP/1.1 503 Service Unavailable\r\n\r\ndrai\x1bning\n";
        assert_eq!(verdict(draining).unwrap_err(), "503 draining");
        assert_eq!(verdict(b"HTTP/1.1 404 x\r\n\r\n").unwrap_err(), "404");
        for garbage in [
            &b""[..],
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"\x15\x03\x01",
        ] {
            assert_eq!(verdict(garbage).unwrap_err(), "the answer is not HTTP");
        }
    }
}
