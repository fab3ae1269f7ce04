//! The scripts as the model of the engine runs them: the same steps as in `src/cluster/scripts`, in Rust.

use bytes::Bytes;
use fanwire::internals::cluster::{Epoch, Place, Reply, Script, read, stamp};

use crate::server::{Planted, Server, World};
use crate::truth::MessageId;

/// Runs a script. `args` begin with the keys.
pub(crate) fn run(
    server: &mut Server,
    script: Script,
    args: &[Bytes],
    world: &mut World<'_>,
) -> Reply {
    match script {
        Script::Sync => sync(server, args, world),
        Script::Publish => publish(server, args, world),
        Script::Probe => {
            server.set(&args[0]);
            server.publish(&args[1], &args[2], world);
            Reply::Integer(1)
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(bytes: &Bytes) -> u64 {
    text(bytes).parse().expect("a number")
}

fn integer(number: u64) -> Reply {
    Reply::Integer(number.cast_signed())
}

fn sync(server: &mut Server, args: &[Bytes], world: &mut World<'_>) -> Reply {
    let [
        hash,
        stream,
        identity,
        fresh,
        node,
        base,
        ttl,
        members,
        sweep,
    ] = args
    else {
        panic!("SYNC has nine arguments: {args:?}");
    };
    let (base, ttl) = (number(base), number(ttl));
    let topic = text(hash);
    let done_field = format!("d{}", text(node));
    let mut n = server.number(hash, "n");
    let mut done = server.number(hash, &done_field);
    let (mut before, mut before_last) = (server.number(hash, "pe"), server.number(hash, "pn"));
    let mut epoch = server.number(hash, "e");
    if server.field(hash, "e").is_none() {
        (epoch, n, before, before_last) = (number(fresh), 0, 0, 0);
        server.delete(stream);
        server.write(hash, "g", identity.clone());
        for (name, value) in [("e", epoch), ("n", 0), ("pe", 0), ("pn", 0)] {
            server.write_number(hash, name, value);
        }
        if let Some(ghost) = server.take_ghost(hash) {
            let to = place(epoch, 0);
            world.truth.note_epoch(&topic, ghost, to);
        }
    } else if server.field(hash, "g") != Some(identity) && world.planted != Planted::EpochsOutlive {
        (before, before_last, epoch) = (epoch, n, number(fresh));
        server.write(hash, "g", identity.clone());
        for (name, value) in [("e", epoch), ("pe", before), ("pn", before_last)] {
            server.write_number(hash, name, value);
        }
        world
            .truth
            .note_epoch(&topic, place(before, n), place(epoch, n));
    }
    if base > 0 && done < base - 1 {
        done = base - 1;
        server.write_number(hash, &done_field, done);
    }
    let now = world.seconds();
    let count = format!("{} {now}", text(members));
    server.write(hash, &format!("m{}", text(node)), count.into());
    if number(sweep) == 1 {
        server.sweep(hash, now, ttl);
    }
    server.expire(hash, ttl, world);
    let numbers = [epoch, n, before, before_last, done];
    Reply::Array(numbers.map(integer).to_vec())
}

fn place(epoch: u64, last: u64) -> Place {
    let epoch = Epoch(epoch);
    Place { epoch, last }
}

fn publish(server: &mut Server, args: &[Bytes], world: &mut World<'_>) -> Reply {
    let [
        hash,
        stream,
        epoch,
        node,
        seq,
        count,
        rest,
        channel,
        keep,
        history_ttl,
    ] = args
    else {
        panic!("PUB has ten arguments: {args:?}");
    };
    let (seq, count, keep) = (number(seq), number(count), number(keep));
    if server.field(hash, "e") != Some(epoch) {
        return Reply::Integer(-1);
    }
    let done_field = format!("d{}", text(node));
    let (n, done) = (server.number(hash, "n"), server.number(hash, &done_field));
    if seq <= done && world.planted != Planted::NoDedupe {
        return Reply::Integer(0);
    }
    if seq != done + 1 && world.planted != Planted::NoDedupe {
        return Reply::Integer(-2);
    }
    let first = n + 1;
    let batch = stamp(first, world.now_ms(), rest);
    if keep > 0 {
        if let Err(refused) = server.append(stream, keep, first, &batch, world) {
            return refused;
        }
        server.expire(stream, number(history_ttl), world);
    }
    server.write_number(hash, "n", n + count);
    server.write_number(hash, &done_field, seq);
    for (number, id) in (first..).zip(messages(&batch)) {
        let epoch = Epoch(self::number(epoch));
        world.truth.note_message(&text(hash), epoch, number, id);
    }
    server.publish(channel, &batch, world);
    integer(first)
}

/// The messages of a batch.
fn messages(batch: &Bytes) -> Vec<MessageId> {
    let arrival = read(batch.clone()).expect("a node packed it");
    crate::client::messages(&arrival.frames)
}
