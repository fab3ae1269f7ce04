//! Several relays that are one, and several that are not.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use fanwire::config::Config;

use crate::support::{pass, refused};
use crate::world::World;

/// A server that ends with the test.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two relays over one engine; `None`, with a line, where no server is installed.
fn two_nodes() -> Option<(Engine, World, World)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let mut process = Command::new("redis-server");
    process.args(["--bind", "127.0.0.1", "--save", "", "--port", &port]);
    let process = match process.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
        Ok(process) => process,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "no redis-server: {error}");
            eprintln!("skipped: no redis-server is installed");
            return None;
        }
    };
    let text = format!("cluster: {{engines: [{{name: a, url: 'redis://127.0.0.1:{port}'}}]}}");
    let start = || {
        World::start(|config| {
            config.cluster = Config::from_yaml(&text, "test").unwrap().cluster;
            config.history.max_age = std::time::Duration::from_mins(1);
        })
    };
    let nodes = (Engine(process), start(), start());
    for world in [&nodes.1, &nodes.2] {
        world.await_metric("fanwire_cluster_up{engine=\"a\"} 1");
    }
    Some(nodes)
}

#[test]
fn clients_of_two_relays_get_one_order_and_come_back_at_the_other() {
    let Some((_engine, one, other)) = two_nodes() else {
        return;
    };
    let both = format!("{} {}", one.here(), other.here());
    pass(&format!(
        "fanout --subscribers 10 --publishers 4 --rate 200 {both}"
    ));
    let report = pass(&format!(
        "jitter --subscribers 12 --topics 2 --publishers 2 --cut-every 500ms --away 100ms --duration 3s --patience 5s {both}"
    ));
    assert!(report.returns.is_some_and(|returns| returns.returned > 0));
}

#[test]
fn clients_are_spread_over_all_urls() {
    let world = World::start(|_| {});
    let port = world.relay().address().port();
    let both = format!("--url ws://127.0.0.1:{port}/topic --url ws://localhost:{port}/topic");
    let report = pass(&format!("fanout --subscribers 10 --publishers 2 {both}"));
    let url = &report.configuration.url;
    assert!(
        url.contains("127.0.0.1") && url.contains("localhost"),
        "{url}"
    );
    pass(&format!("fanout --subscribers 6 --sse 50% {both}"));
}

#[test]
fn relays_that_are_not_one_are_found_before_the_load() {
    let (one, other) = (World::start(|_| {}), World::start(|_| {}));
    let error = refused(&format!("fanout {} {}", one.here(), other.here()));
    assert!(
        error.to_string().contains("did not reach another"),
        "{error}"
    );
}

#[test]
fn urls_that_cannot_be_one_relay_are_refused() {
    let world = World::start(|_| {});
    let here = world.here();
    let error = refused(&format!("fanout {here} --url ws://127.0.0.1:1/other"));
    assert!(
        error
            .to_string()
            .contains("the same scheme, path and query"),
        "{error}"
    );
    let error = refused(&format!("fanout {here} {here} {}", world.metrics()));
    assert!(error.to_string().contains("look at one relay"), "{error}");
}
