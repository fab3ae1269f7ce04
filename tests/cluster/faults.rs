//! Faults, between any two commands.

use std::time::Duration;

use fanwire::internals::Timestamp;

use crate::fleet::{Fleet, Link};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::server::Planted;

/// A master that is demoted stays so for this long at least. Every link notices within it: it probes, which is a write. A server
/// that takes the data of another and is master again between two probes is beyond what the protocol can notice in time.
const DEMOTION: Duration = Duration::from_secs(6);

/// Something that ends later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// The engine has no memory for writes.
    OutOfMemory,
    /// New connections are refused.
    Cut,
    /// The server with this index was demoted, and is promoted again.
    Demoted(usize),
    /// The server with this index is a master that nobody should speak to any more.
    Forsaken(usize),
}

/// Lets something go wrong. Returns what it was, and what ends when.
pub(crate) fn strike(
    fleet: &mut Fleet,
    links: &[Link],
    plan: &Plan,
    rng: &mut Rng,
    now: Timestamp,
) -> (&'static str, Option<(Timestamp, Lasting)>) {
    let soon = |rng: &mut Rng| now + Duration::from_millis(rng.within(1..=4_000) as u64);
    let address = fleet.address;
    let kind = rng.below(100);
    match kind {
        0..25 => (cut_some(fleet, links, rng), None),
        25..40 => (stall(fleet, links, rng, now), None),
        40..45 => {
            fleet.servers[address].flush_scripts();
            ("scripts are flushed", None)
        }
        45..50 => {
            fleet.servers[address].is_out_of_memory = true;
            ("out of memory", Some((soon(rng), Lasting::OutOfMemory)))
        }
        50..55 => {
            fleet.is_cut = true;
            ("connections are refused", Some((soon(rng), Lasting::Cut)))
        }
        55..65 if !plan.is_lossy => (delete(fleet, rng), None),
        65..70 => {
            fleet.replica = fleet.servers[address].snapshot();
            ("the replica catches up", None)
        }
        70..78 => {
            let keys = match rng.below(3) {
                0 => fleet.servers[address].snapshot(),
                1 => fleet.replica.clone(),
                _ => crate::server::Keys::default(),
            };
            fleet.kill(address);
            fleet.replace_master(keys);
            ("the server is restarted", None)
        }
        78..86 => {
            let keys = fleet.replica.clone();
            let old = fleet.address;
            fleet.replace_master(keys);
            let lasting = Lasting::Forsaken(old);
            if rng.percent(50) {
                fleet.kill(old);
                return ("a stale replica takes over", None);
            }
            ("two masters", Some((soon(rng), lasting)))
        }
        86..94 => {
            let keys = if rng.percent(50) {
                fleet.replica.clone()
            } else {
                fleet.servers[address].snapshot()
            };
            let old = address;
            fleet.replace_master(keys);
            let (keys, new) = (fleet.servers[fleet.address].snapshot(), fleet.address);
            fleet.servers[old].master = Some(new);
            fleet.servers[old].replace(keys);
            let lasting = Lasting::Demoted(old);
            ("the master is demoted", Some((now + DEMOTION, lasting)))
        }
        94..97 => (rubbish(fleet, rng), None),
        _ if plan.is_lossy => (lose(fleet, links, rng), None),
        _ => ("nothing", None),
    }
}

/// Ends something.
pub(crate) fn end(fleet: &mut Fleet, lasting: Lasting) {
    match lasting {
        Lasting::OutOfMemory => {
            for server in &mut fleet.servers {
                server.is_out_of_memory = false;
            }
        }
        Lasting::Cut => fleet.is_cut = false,
        Lasting::Demoted(old) => promote(fleet, old),
        Lasting::Forsaken(old) => fleet.kill(old),
    }
}

/// A replica with all data of its master takes over again.
///
/// Nothing is executed then that was sent before the demotion, on a connection that nobody has any more: Sentinel disconnects
/// all clients of a server that it demotes. The protocol needs that. Else a late batch could get a number that another has.
fn promote(fleet: &mut Fleet, old: usize) {
    let Some(master) = fleet.servers[old].master.take() else {
        return;
    };
    if !fleet.servers[old].is_alive || master != fleet.address || !fleet.servers[master].is_alive {
        fleet.kill(old);
        return;
    }
    let keys = fleet.servers[master].snapshot();
    fleet.servers[old].replace(keys);
    let connections = fleet.servers[old].connections.values_mut();
    for left in connections.filter(|connection| connection.is_left) {
        left.inbound.clear();
    }
    let replid = format!("{}+", fleet.servers[master].replid);
    fleet.servers[old].replid = replid;
    fleet.kill(master);
    fleet.address = old;
}

/// Connections break. Commands that were sent may still be executed, and their answers are lost.
fn cut_some(fleet: &mut Fleet, links: &[Link], rng: &mut Rng) -> &'static str {
    let is_all = rng.percent(20);
    for &link in links {
        if !is_all && !rng.percent(40) {
            continue;
        }
        let forgets = rng.percent(50);
        if let Some(connection) = fleet.connection(link) {
            connection.is_closed = true;
            if forgets {
                connection.outbound.clear();
            }
            if rng.percent(30) {
                connection.inbound.clear();
            }
        }
    }
    "connections are cut"
}

/// A connection stands still, and delivers late.
fn stall(fleet: &mut Fleet, links: &[Link], rng: &mut Rng, now: Timestamp) -> &'static str {
    let until = now + Duration::from_millis(rng.pick(&[20, 300, 1_000, 5_000]));
    if !links.is_empty()
        && let Some(connection) = fleet.connection(rng.pick(links))
    {
        connection.stalled_until = until;
    }
    "a connection stalls"
}

/// Keys are deleted, evicted or flushed.
fn delete(fleet: &mut Fleet, rng: &mut Rng) -> &'static str {
    let server = &mut fleet.servers[fleet.address];
    let names = server.key_names();
    let is_flush = rng.percent(25);
    for name in names {
        if is_flush || rng.percent(30) {
            server.delete(&name);
        }
    }
    "keys are deleted"
}

/// Somebody publishes bytes that are no batch.
fn rubbish(fleet: &mut Fleet, rng: &mut Rng) -> &'static str {
    let server = &mut fleet.servers[fleet.address];
    let channels = server.topic_channels();
    if !channels.is_empty() {
        let channel = channels[rng.below(channels.len())].clone();
        server.hand_out(
            &channel,
            &"rubbish on the channel of a topic".into(),
            Planted::Nothing,
        );
    }
    "rubbish on a channel"
}

/// A subscription loses a message without a word.
fn lose(fleet: &mut Fleet, links: &[Link], rng: &mut Rng) -> &'static str {
    if !links.is_empty()
        && let Some(connection) = fleet.connection(rng.pick(links))
    {
        let is_batch = |reply: &fanwire::internals::cluster::Reply| {
            let items = reply.items().unwrap_or_default();
            items
                .get(2)
                .and_then(|payload| payload.bytes())
                .is_some_and(|bytes| bytes.len() > 52)
        };
        if let Some(at) = connection.outbound.iter().position(is_batch) {
            connection.outbound.remove(at);
            return "a message is lost without a word";
        }
    }
    "nothing"
}
