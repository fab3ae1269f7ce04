//! The real relay, in this process.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fanwire::config::Config;
use fanwire::server::{Relay, RelayHandle};

/// A relay that ends with the test.
pub(crate) struct World(Option<RelayHandle>);

impl World {
    pub(crate) fn start(adjust: impl FnOnce(&mut Config)) -> World {
        let mut config = Config::default();
        config.server.host = "127.0.0.1".into();
        config.server.port = 0;
        config.server.workers = 2;
        // Even a few clients are on both workers.
        config.server.fill_workers_to = 0;
        config.metrics.port = 0;
        adjust(&mut config);
        World(Some(Relay::start(&config).expect("the relay starts")))
    }

    pub(crate) fn relay(&self) -> &RelayHandle {
        self.0.as_ref().expect("it runs until the end")
    }

    /// The options that name it.
    pub(crate) fn here(&self) -> String {
        format!("--url ws://{}/topic", self.relay().address())
    }

    /// Waits until the metrics have this line.
    pub(crate) fn await_metric(&self, line: &str) {
        let address = self.relay().metrics_address().expect("metrics are on");
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let mut stream = TcpStream::connect(address).expect("the metrics port listens");
            let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers");
            if answer.lines().any(|other| other == line) {
                return;
            }
            assert!(Instant::now() < until, "never came true: {line}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn metrics(&self) -> String {
        let address = self.relay().metrics_address().expect("metrics are on");
        format!("--metrics-url http://{address}/metrics")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(relay) = self.0.take() {
            relay.shutdown();
            let ended = relay.join();
            if !std::thread::panicking() {
                ended.expect("the relay ends well");
            }
        }
    }
}
