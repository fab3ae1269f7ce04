//! Several relays that are one, and several that are not.

use crate::support::{pass, refused};
use crate::world::World;

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
