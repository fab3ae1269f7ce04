//! The relay's own counters: read over HTTP in Prometheus' text form before a run and after it, and compared with ours.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use prometheus_parse::{Scrape, Value};
use tungstenite::http::Uri;

use crate::report::{Check, Counters};
use crate::scenario::target::port;
use crate::secrets;

/// Time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer.
const MAX_BYTES: u64 = 16 << 20;

/// Counters by name and labels.
pub(crate) type Readings = BTreeMap<String, f64>;

/// The address of the counters.
#[derive(Clone, Debug)]
pub(crate) struct Exporter {
    /// Without its secrets, since it is shown.
    url: String,
    host: String,
    port: u16,
    path: String,
}

/// The generator's own counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) published: u64,
    pub(crate) received: u64,
    pub(crate) opened: u64,
    /// Whether messages were published by POST, and not in frames.
    pub(crate) has_posts: bool,
    /// Whether nobody left before the end, so that every delivery of the relay was received.
    pub(crate) is_complete: bool,
}

impl Exporter {
    /// Takes a URL apart. The error is a sentence.
    pub(crate) fn parse(url: &str) -> Result<Exporter, String> {
        let parsed = url.parse();
        let url = secrets::hide_in(url);
        let uri: Uri = parsed.map_err(|error| format!("--metrics-url {url}: {error}"))?;
        let host = uri.host().unwrap_or_default();
        if uri.scheme_str() != Some("http") || host.is_empty() {
            return Err(format!(
                "--metrics-url {url}: it must be http://host:port/path"
            ));
        }
        let port = port(&uri).map_err(|why| format!("--metrics-url {url}: {why}"))?;
        Ok(Exporter {
            url,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(80),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }

    /// Reads all counters.
    pub(crate) fn read(&self) -> Result<Readings, String> {
        let wrong = |what: String| format!("--metrics-url {}: {what}", self.url);
        let answer = self.ask().map_err(|error| wrong(error.to_string()))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| wrong("the answer is not HTTP".to_owned()))?;
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err(wrong(format!("the answer was {status}")));
        }
        let lines = body.lines().map(|line| Ok(line.to_owned()));
        let scrape = Scrape::parse(lines).map_err(|error| wrong(error.to_string()))?;
        Ok(readings(&scrape))
    }

    /// Sends one request. With HTTP/1.0 the answer comes in one piece.
    fn ask(&self) -> std::io::Result<String> {
        let mut stream = Err(std::io::Error::other("the host has no address"));
        // A name may have addresses of both kinds, and only one of them may answer.
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&address, PATIENCE);
            if stream.is_ok() {
                break;
            }
        }
        let mut stream = stream?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (path, host, port) = (&self.path, &self.host, self.port);
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.take(MAX_BYTES).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// The values that only grow: counters, and the counts of histograms.
fn readings(scrape: &Scrape) -> Readings {
    let mut readings = Readings::new();
    for sample in &scrape.samples {
        let (suffix, value) = match &sample.value {
            Value::Counter(value) | Value::Untyped(value) => ("", *value),
            Value::Histogram(buckets) => ("_count", buckets.last().map_or(0.0, |last| last.count)),
            Value::Gauge(_) | Value::Summary(_) => continue,
        };
        let mut labels: Vec<_> = sample.labels.iter().collect();
        labels.sort();
        let labels = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""));
        let labels = labels.collect::<Vec<_>>().join(",");
        let name = format!("{}{suffix}", sample.metric);
        let name = if labels.is_empty() {
            name
        } else {
            format!("{name}{{{labels}}}")
        };
        readings.insert(name, value);
    }
    readings
}

/// The changes of counters, and whether they agree with our own counts.
pub(crate) fn compare(before: &Readings, after: &Readings, counted: &Counted) -> Counters {
    let grown = |name: &str| {
        after
            .get(name)
            .map(|value| value - before.get(name).unwrap_or(&0.0))
    };
    let mut counters = Counters::default();
    for name in after.keys() {
        let change = grown(name).unwrap_or_default();
        if change != 0.0 {
            counters.changes.insert(name.clone(), change);
        }
    }
    // Only in our own relay these names mean this.
    let deliveries = "fanwire_deliveries_total";
    if !after.contains_key(deliveries) {
        return counters;
    }
    for (name, generator, is_exact) in [
        (deliveries, counted.received, counted.is_complete),
        ("websocket_messages_total", counted.published, true),
        ("websocket_connections_total", counted.opened, true),
    ] {
        if counted.has_posts && name == "websocket_messages_total" {
            continue;
        }
        if let Some(server) = grown(name) {
            let generator = generator as f64;
            counters.checks.push(Check {
                name: name.to_owned(),
                server,
                generator,
                agrees: if is_exact {
                    (server - generator).abs() < 0.5
                } else {
                    server >= generator - 0.5
                },
            });
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Readings {
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        readings(&Scrape::parse(lines).unwrap())
    }

    #[test]
    fn counters_that_differ_from_our_own_count_are_found() {
        let text = "# TYPE fanwire_deliveries_total counter\nfanwire_deliveries_total 10\n\
                    # TYPE a_total counter\na_total{z=\"1\",b=\"2\"} 3\n";
        let after = parsed(text);
        let counted = |received, is_complete| Counted {
            published: 0,
            received,
            opened: 0,
            has_posts: false,
            is_complete,
        };
        let agrees = |received, is_complete| {
            let counters = compare(&Readings::new(), &after, &counted(received, is_complete));
            let change = counters.changes["a_total{b=\"2\",z=\"1\"}"];
            assert!((change - 3.0).abs() < 1e-9);
            counters.checks[0].agrees
        };
        assert!(agrees(10, true));
        assert!(!agrees(9, true));
        assert!(agrees(9, false));
        assert!(!agrees(11, false));
    }

    #[test]
    fn urls_that_cannot_be_read_are_refused() {
        assert!(Exporter::parse("https://localhost/metrics").is_err());
        assert!(Exporter::parse("localhost:1").is_err());
    }
}
