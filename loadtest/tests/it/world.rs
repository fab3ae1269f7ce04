//! The real relay, in this process.

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
