//! A model of one server process: keys, scripts, channels, and a queue in each direction for each connection.
//!
//! It executes one command at a time, and speaks no bytes: commands come as the relay packs them, and replies go as it reads
//! them. It knows the commands that the relay uses, and no others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use fanwire::internals::Timestamp;
use fanwire::internals::cluster::{Command, Epoch, Place, Reply, SCRIPTS};

use crate::scripts;
use crate::truth::Truth;

/// A fault that is planted in the engine or in the nodes, to see it caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// None.
    Nothing,
    /// PUB executes a batch as often as it comes.
    NoDedupe,
    /// SYNC keeps the epoch, whichever process has it.
    EpochsOutlive,
    /// INFO always has the same `master_replid`, as if nobody looked at it.
    RoleIgnored,
    /// Tokens overtake what was published before them.
    NoFence,
    /// A node delivers locally while the engine is away.
    LocalDelivery,
    /// A client that cannot be told hears what lies behind a break.
    HearsBehindBreak,
    /// A node keeps its history over a break.
    HistoryWithHole,
}

/// The things outside its server that a command may touch.
pub(crate) struct World<'a> {
    pub(crate) truth: &'a mut Truth,
    pub(crate) now: Timestamp,
    pub(crate) planted: Planted,
    /// Published messages, for the replicas.
    pub(crate) published: Vec<(Bytes, Bytes)>,
}

impl World<'_> {
    pub(crate) fn now_ms(&self) -> u64 {
        self.now.0 / 1_000
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.now.0 / 1_000_000
    }
}

/// A connection, by its number in the world.
pub(crate) type ConnectionId = u64;

/// The server's side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// Commands that are not executed.
    pub(crate) inbound: VecDeque<Command>,
    /// Replies and messages that the client has not got.
    pub(crate) outbound: VecDeque<Reply>,
    channels: BTreeSet<Bytes>,
    /// The client has closed it, or lost it. Its commands may still be executed.
    pub(crate) is_left: bool,
    /// The server has closed it. The client may still read.
    pub(crate) is_closed: bool,
    /// Nothing moves until then.
    pub(crate) stalled_until: Timestamp,
}

#[derive(Clone, Debug)]
enum Value {
    Hash(BTreeMap<String, Bytes>),
    /// Entries by number, and the highest number ever.
    Stream(BTreeMap<u64, Bytes>, u64),
    Text,
}

/// The data of a server, as replicas get it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    values: BTreeMap<Bytes, Value>,
    expiry: BTreeMap<Bytes, Timestamp>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) run_id: String,
    pub(crate) replid: String,
    /// The server whose replica it is, by its index.
    pub(crate) master: Option<usize>,
    pub(crate) is_alive: bool,
    pub(crate) is_out_of_memory: bool,
    keys: Keys,
    loaded: BTreeSet<usize>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    /// The places of hashes when this process lost them.
    ghosts: BTreeMap<Bytes, Place>,
}

impl Server {
    pub(crate) fn new(name: &str, keys: Keys) -> Self {
        Server {
            run_id: format!("run{name}"),
            replid: format!("repl{name}"),
            master: None,
            is_alive: true,
            is_out_of_memory: false,
            keys,
            loaded: BTreeSet::new(),
            connections: BTreeMap::new(),
            ghosts: BTreeMap::new(),
        }
    }

    /// A copy of the data.
    pub(crate) fn snapshot(&self) -> Keys {
        self.keys.clone()
    }

    /// Takes the data of another server.
    pub(crate) fn replace(&mut self, keys: Keys) {
        self.keys = keys;
        self.ghosts.clear();
    }

    /// Executes the next command of a connection.
    pub(crate) fn serve(&mut self, id: ConnectionId, world: &mut World<'_>) {
        let connection = self.connections.get_mut(&id).expect("a connection");
        let Some(command) = connection.inbound.pop_front() else {
            return;
        };
        let replies = self.execute(id, &command, world);
        let connection = self.connections.get_mut(&id).expect("a connection");
        if !connection.is_left && !connection.is_closed {
            connection.outbound.extend(replies);
        }
    }

    fn execute(
        &mut self,
        id: ConnectionId,
        command: &Command,
        world: &mut World<'_>,
    ) -> Vec<Reply> {
        self.forget_expired(world);
        let name = String::from_utf8_lossy(&command.args[0]).into_owned();
        let args = &command.args[1..];
        if let Some(refused) = self.refusal(&name, args) {
            return vec![refused];
        }
        let reply = match name.as_str() {
            "INFO" => self.info(world),
            "SCRIPT" => self.script(args),
            "EVALSHA" => self.evalsha(args, world),
            "SUBSCRIBE" | "UNSUBSCRIBE" => return self.subscribe(id, &name, args),
            "PUBLISH" => {
                self.publish(&args[0], &args[1], world);
                Reply::Integer(1)
            }
            "HMGET" => {
                let fields = args[1..].iter();
                Reply::Array(fields.map(|field| self.hmget(&args[0], field)).collect())
            }
            "HGETALL" => self.hgetall(&args[0]),
            "HSET" => {
                let name = String::from_utf8_lossy(&args[1]);
                self.write(&args[0], &name, args[2].clone());
                Reply::Integer(1)
            }
            "HDEL" => self.hdel(&args[0], &args[1..]),
            "DEL" => {
                for key in args {
                    self.delete(key);
                }
                Reply::Integer(1)
            }
            "XRANGE" => self.range(&args[0], digits(&args[1]), digits(&args[2])),
            "XREVRANGE" => self.last_up_to(&args[0], digits(&args[1])),
            other => panic!("the model does not know {other}"),
        };
        vec![reply]
    }

    fn refusal(&self, name: &str, args: &[Bytes]) -> Option<Reply> {
        let writes = matches!(name, "EVALSHA" | "HDEL" | "DEL");
        let grows = name == "EVALSHA" && self.script_of(args).is_some();
        if writes && self.master.is_some() {
            let text = "READONLY You can't write against a read only replica.";
            return Some(Reply::Error(text.into()));
        }
        if grows && self.is_out_of_memory {
            let text = "OOM command not allowed when used memory > 'maxmemory'.";
            return Some(Reply::Error(text.into()));
        }
        None
    }

    fn info(&self, world: &World<'_>) -> Reply {
        let role = if self.master.is_some() {
            "slave"
        } else {
            "master"
        };
        let replid = match world.planted {
            Planted::RoleIgnored => "same",
            _ => &self.replid,
        };
        let text = format!(
            "# Server\r\nredis_mode:standalone\r\nrun_id:{}\r\nloading:0\r\nrole:{role}\r\nmaster_replid:{replid}\r\n",
            self.run_id
        );
        Reply::Bulk(text.into())
    }

    fn script(&mut self, args: &[Bytes]) -> Reply {
        let index = SCRIPTS
            .iter()
            .position(|script| script.text().as_bytes() == args[1]);
        let index = index.expect("one of the relay's scripts");
        self.loaded.insert(index);
        Reply::Bulk(format!("digest{index}").into())
    }

    /// Forgets all scripts.
    pub(crate) fn flush_scripts(&mut self) {
        self.loaded.clear();
    }

    fn script_of(&self, args: &[Bytes]) -> Option<usize> {
        let digest = std::str::from_utf8(&args[0]).ok()?;
        let index: usize = digest.strip_prefix("digest")?.parse().ok()?;
        self.loaded.contains(&index).then_some(index)
    }

    fn evalsha(&mut self, args: &[Bytes], world: &mut World<'_>) -> Reply {
        match self.script_of(args) {
            Some(index) => scripts::run(self, SCRIPTS[index], &args[2..], world),
            None => Reply::Error("NOSCRIPT No matching script. Please use EVAL.".into()),
        }
    }

    fn subscribe(&mut self, id: ConnectionId, name: &str, args: &[Bytes]) -> Vec<Reply> {
        let connection = self.connections.get_mut(&id).expect("a connection");
        let kind = name.to_ascii_lowercase();
        let mut replies = Vec::new();
        for channel in args {
            if kind == "subscribe" {
                connection.channels.insert(channel.clone());
            } else {
                connection.channels.remove(channel);
            }
            let count = connection.channels.len().cast_signed() as i64;
            replies.push(Reply::Array(vec![
                Reply::Bulk(kind.clone().into()),
                Reply::Bulk(channel.clone()),
                Reply::Integer(count),
            ]));
        }
        replies
    }

    /// Sends a message to all that subscribe here, and notes it for replicas.
    pub(crate) fn publish(&mut self, channel: &Bytes, payload: &Bytes, world: &mut World<'_>) {
        self.hand_out(channel, payload, world.planted);
        world.published.push((channel.clone(), payload.clone()));
    }

    /// Sends a message to all that subscribe here.
    pub(crate) fn hand_out(&mut self, channel: &Bytes, payload: &Bytes, planted: Planted) {
        let is_token = payload.len() < 20;
        for connection in self.connections.values_mut() {
            if !connection.channels.contains(channel) || connection.is_left || connection.is_closed
            {
                continue;
            }
            let message = Reply::Array(vec![
                Reply::Bulk("message".into()),
                Reply::Bulk(channel.clone()),
                Reply::Bulk(payload.clone()),
            ]);
            if planted == Planted::NoFence && is_token {
                connection.outbound.push_front(message);
            } else {
                connection.outbound.push_back(message);
            }
        }
    }

    /// Channels of the topics that anybody subscribes to.
    pub(crate) fn topic_channels(&self) -> Vec<Bytes> {
        let all = self
            .connections
            .values()
            .flat_map(|connection| &connection.channels);
        let topics = all.filter(|channel| channel.ends_with(b"}:c"));
        topics
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    // Keys, for the scripts.

    pub(crate) fn field(&self, hash: &Bytes, name: &str) -> Option<&Bytes> {
        match self.keys.values.get(hash)? {
            Value::Hash(fields) => fields.get(name),
            Value::Stream(..) | Value::Text => None,
        }
    }

    pub(crate) fn number(&self, hash: &Bytes, name: &str) -> u64 {
        self.field(hash, name).map_or(0, digits)
    }

    pub(crate) fn write(&mut self, hash: &Bytes, name: &str, value: Bytes) {
        let hash = self.keys.values.entry(hash.clone());
        match hash.or_insert_with(|| Value::Hash(BTreeMap::new())) {
            Value::Hash(fields) => drop(fields.insert(name.into(), value)),
            Value::Stream(..) | Value::Text => panic!("not a hash"),
        }
    }

    pub(crate) fn write_number(&mut self, hash: &Bytes, name: &str, value: u64) {
        self.write(hash, name, value.to_string().into());
    }

    pub(crate) fn set(&mut self, key: &Bytes) {
        self.keys.values.insert(key.clone(), Value::Text);
    }

    pub(crate) fn expire(&mut self, key: &Bytes, seconds: u64, world: &World<'_>) {
        let at = world.now + Duration::from_secs(seconds);
        self.keys.expiry.insert(key.clone(), at);
    }

    fn forget_expired(&mut self, world: &World<'_>) {
        let expired: Vec<Bytes> = self
            .keys
            .expiry
            .iter()
            .filter(|(_, at)| **at <= world.now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &expired {
            self.delete(key);
        }
    }

    /// Removes a key. If it is a hash, remembers where it was.
    pub(crate) fn delete(&mut self, key: &Bytes) {
        if self.field(key, "e").is_some() {
            let epoch = Epoch(self.number(key, "e"));
            let last = self.number(key, "n");
            self.ghosts.insert(key.clone(), Place { epoch, last });
        }
        self.keys.values.remove(key);
        self.keys.expiry.remove(key);
    }

    /// The place of a hash that this process has lost.
    pub(crate) fn take_ghost(&mut self, hash: &Bytes) -> Option<Place> {
        self.ghosts.remove(hash)
    }

    /// All keys.
    pub(crate) fn key_names(&self) -> Vec<Bytes> {
        self.keys.values.keys().cloned().collect()
    }

    pub(crate) fn sweep(&mut self, hash: &Bytes, now: u64, ttl: u64) {
        let Some(Value::Hash(fields)) = self.keys.values.get_mut(hash) else {
            return;
        };
        let silent = |(name, value): (&String, &Bytes)| {
            let node = name.strip_prefix('m')?;
            let value = String::from_utf8_lossy(value).into_owned();
            let heard: u64 = value.rsplit(' ').next()?.parse().ok()?;
            (now.saturating_sub(heard) > ttl).then(|| node.to_owned())
        };
        let nodes: Vec<String> = fields.iter().filter_map(silent).collect();
        for node in nodes {
            fields.remove(&format!("m{node}"));
            fields.remove(&format!("d{node}"));
        }
    }

    pub(crate) fn append(
        &mut self,
        stream: &Bytes,
        keep: u64,
        number: u64,
        batch: &Bytes,
        _: &World<'_>,
    ) -> Result<(), Reply> {
        let value = self.keys.values.entry(stream.clone());
        let Value::Stream(entries, last) =
            value.or_insert_with(|| Value::Stream(BTreeMap::new(), 0))
        else {
            panic!("not a stream");
        };
        if number <= *last {
            let text =
                "ERR The ID specified in XADD is equal or smaller than the target stream top item";
            return Err(Reply::Error(text.into()));
        }
        *last = number;
        entries.insert(number, batch.clone());
        while entries.len() as u64 > keep {
            entries.pop_first();
        }
        Ok(())
    }

    fn hgetall(&self, hash: &Bytes) -> Reply {
        let Some(Value::Hash(fields)) = self.keys.values.get(hash) else {
            return Reply::Array(Vec::new());
        };
        let pairs = fields.iter().flat_map(|(name, value)| {
            [Reply::Bulk(name.clone().into()), Reply::Bulk(value.clone())]
        });
        Reply::Array(pairs.collect())
    }

    fn hmget(&self, hash: &Bytes, field: &Bytes) -> Reply {
        let name = String::from_utf8_lossy(field);
        let value = self.field(hash, &name);
        value.map_or(Reply::Nil, |value| Reply::Bulk(value.clone()))
    }

    fn hdel(&mut self, hash: &Bytes, names: &[Bytes]) -> Reply {
        if let Some(Value::Hash(fields)) = self.keys.values.get_mut(hash) {
            for name in names {
                fields.remove(&*String::from_utf8_lossy(name));
            }
        }
        Reply::Integer(1)
    }

    fn range(&self, stream: &Bytes, from: u64, to: u64) -> Reply {
        let Some(Value::Stream(entries, _)) = self.keys.values.get(stream) else {
            return Reply::Array(Vec::new());
        };
        if from > to {
            return Reply::Array(Vec::new());
        }
        let found = entries.range(from..=to);
        Reply::Array(found.map(|(number, batch)| entry(*number, batch)).collect())
    }

    fn last_up_to(&self, stream: &Bytes, number: u64) -> Reply {
        let Some(Value::Stream(entries, _)) = self.keys.values.get(stream) else {
            return Reply::Array(Vec::new());
        };
        let found = entries.range(..=number).next_back();
        Reply::Array(
            found
                .map(|(number, batch)| entry(*number, batch))
                .into_iter()
                .collect(),
        )
    }
}

fn entry(number: u64, batch: &Bytes) -> Reply {
    let fields = vec![Reply::Bulk("b".into()), Reply::Bulk(batch.clone())];
    let id = Reply::Bulk(format!("{number}-0").into());
    Reply::Array(vec![id, Reply::Array(fields)])
}

fn digits(bytes: &Bytes) -> u64 {
    let text = std::str::from_utf8(bytes).expect("digits");
    text.parse().expect("a number")
}
