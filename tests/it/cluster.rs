//! Several relays over a real `redis-server`, and what goes wrong with it.
//!
//! Each test starts an engine of its own. Without an installed one, the tests say so and pass; in CI, they fail. The modules
//! below have the tests, [`engine`] starts and torments the server, and [`session`] has clients that compare what they hear.

mod chaos;
mod engine;
mod failover;
mod faults;
mod order;
mod outage;
mod session;
mod strangers;

use std::thread;
use std::time::Duration;

use fanwire::config::Config;
use fanwire::server::Stat;

use self::engine::Engine;
use self::session::Listener;
use super::support::{PATIENCE, World, audit, config, eventually};

/// Relays that are one.
struct Nodes {
    worlds: Vec<World>,
}

/// The section `cluster` with one engine and `more` keys.
fn section(url: &str, more: &str) -> String {
    format!("cluster:\n  engines: [{{name: main, url: '{url}'}}]\n{more}\n")
}

impl Nodes {
    /// So many relays over one engine.
    fn start(count: usize, engine: &Engine) -> Nodes {
        Nodes::with(count, &section(&engine.url(), ""))
    }

    /// The same, with a section of its own, and a history.
    fn with(count: usize, section: &str) -> Nodes {
        let cluster = Config::from_yaml(section, "test")
            .expect("a section")
            .cluster;
        let start = |_| {
            let mut config = config(2);
            config.cluster = cluster.clone();
            config.history.max_age = Duration::from_mins(1);
            World::with(&config)
        };
        let nodes = Nodes {
            worlds: (0..count).map(start).collect(),
        };
        nodes.await_up(cluster.engines.len());
        nodes
    }

    /// A listener on each relay.
    fn listen(&self, path: &str) -> Vec<Listener> {
        let worlds = self.worlds.iter();
        worlds.map(|world| Listener::join(world, path)).collect()
    }

    /// Waits until each relay has all its engines.
    fn await_up(&self, engines: usize) {
        for world in &self.worlds {
            eventually("the engine is connected", || {
                metric(world, "fanwire_cluster_up") == engines as u64
            });
        }
    }

    /// Ends all relays after their clients have gone, and audits their counters.
    fn end(self) {
        for world in &self.worlds {
            world.await_total(Stat::ConnectedClients, 0);
        }
        for world in &self.worlds {
            world.relay.shutdown();
        }
        for world in self.worlds {
            let stats = world.relay.join().expect("the relay ends well");
            audit(&stats);
            assert_eq!(stats.value(Stat::AccountingErrors), 0);
        }
    }
}

/// The sum over the series of a metric, which is a whole number.
fn metric(world: &World, name: &str) -> u64 {
    let sum = super::metrics::sum(&super::metrics::scrape(world), name);
    u64::try_from(sum.round() as i64).expect("counters are not negative")
}

/// Lets time pass, for faults that have a length.
fn for_a_while(time: Duration) {
    assert!(
        time < PATIENCE,
        "a fault is shorter than the patience of a test"
    );
    thread::sleep(time);
}
