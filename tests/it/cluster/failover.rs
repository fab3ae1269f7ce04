//! A Sentinel that makes a replica the master.

use super::engine::Engine;
use super::session::{Promise, Talker, compare};
use super::{Nodes, metric};
use crate::support::eventually;

/// Two relays behind a Sentinel, with a master and a replica.
#[test]
fn a_failover_is_followed_and_told_if_something_is_missing() {
    let (Some(mut master), Some(replica)) = (Engine::start(), Engine::start()) else {
        return;
    };
    replica.ask(&format!("REPLICAOF 127.0.0.1 {}", master.port()));
    eventually("the replica follows", || {
        replica.info("master_link_status").as_deref() == Some("up")
    });
    let Some(sentinel) = Engine::sentinel(master.port()) else {
        return;
    };
    eventually("the Sentinel knows the replica", || {
        sentinel
            .info("master0")
            .is_some_and(|line| line.contains("slaves=1"))
    });
    let section = format!(
        "cluster:\n  engines: [{{name: main, sentinels: ['redis://127.0.0.1:{}'], master: 'redis://mymaster'}}]\n  \
         io_timeout: 500ms\n  probe_interval: 200ms\n",
        sentinel.port()
    );
    let nodes = Nodes::with(2, &section);
    let listeners = nodes.listen("/room");
    let talker = Talker::start(&nodes.worlds[0], "/room", "a");
    talker.await_more(20);
    master.kill();
    talker.await_more(20);
    assert_eq!(replica.info("role").as_deref(), Some("master"));
    // By hand, while both run: the relays leave the old master at once.
    master.restart();
    eventually("the old master follows the new one", || {
        replica.info("connected_slaves").as_deref() == Some("1")
            && master.info("master_link_status").as_deref() == Some("up")
    });
    sentinel.ask("SENTINEL FAILOVER mymaster");
    eventually("the old one is master again", || {
        master.info("role").as_deref() == Some("master")
    });
    talker.await_more(20);
    compare(listeners, vec![talker], Promise::ToldOrWhole);
    for world in &nodes.worlds {
        assert_eq!(metric(world, "fanwire_cluster_errors_total"), 0);
    }
    nodes.end();
}
