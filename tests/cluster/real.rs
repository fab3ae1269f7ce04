//! The model of the engine beside a real server: the same commands to both, and the answers compared.
//!
//! The scripts are Lua there and Rust here. Random sequences of them, of deletions and of lost scripts must give the same
//! answers, the same keys and the same messages. The test starts a server of its own on a Unix socket. It is skipped where there
//! is none.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanwire::internals::Timestamp;
use fanwire::internals::cluster::{
    Command, Epoch, Head, NodeId, Replies, Reply, SCRIPTS, TopicNames, VERSION, pack,
};
use libtest_mimic::{Failed, Trial};

use crate::client::frames;
use crate::rng::Rng;
use crate::server::{Connection, Keys, Planted, Server, World};
use crate::truth::Truth;

/// The commands of a sequence, and how many sequences there are.
const COMMANDS: usize = 400;
const SEQUENCES: u64 = 25;

/// The longest reply that the tests expect.
const MAX_REPLY_BYTES: usize = 1 << 20;

pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let name = "the_model_answers_like_a_real_server";
    std::iter::once(Trial::test(name, compare))
}

/// A server that ends with the test.
struct Real {
    process: Child,
    /// The folder of its socket.
    _folder: tempfile::TempDir,
    commands: Peer,
    subscriber: Peer,
}

impl Drop for Real {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Real {
    /// Starts a server; `None` if there is none on this machine.
    fn start() -> Option<Real> {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("engine.sock");
        let mut process = Process::new("redis-server");
        process.args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--unixsocket",
        ]);
        process.arg(&socket).arg("--dir").arg(folder.path());
        let process = process
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let commands = Peer::connect(&socket);
        let subscriber = Peer::connect(&socket);
        Some(Real {
            process,
            _folder: folder,
            commands,
            subscriber,
        })
    }
}

/// A connection to the server, through the relay's own packer and parser.
struct Peer {
    stream: UnixStream,
    replies: Replies,
}

impl Peer {
    /// Connects as soon as the server listens.
    fn connect(socket: &Path) -> Peer {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => {
                    let limit = Some(Duration::from_secs(10));
                    stream.set_read_timeout(limit).expect("a timeout");
                    let replies = Replies::new(MAX_REPLY_BYTES);
                    return Peer { stream, replies };
                }
                Err(error) => assert!(Instant::now() < until, "no server: {error}"),
            }
            std::thread::yield_now();
        }
    }

    fn send(&mut self, command: &Command) {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.stream.write_all(&bytes).expect("the server reads");
    }

    fn read(&mut self) -> Reply {
        let mut bytes = [0; 4096];
        loop {
            if let Some(reply) = self.replies.take().expect("RESP2") {
                return reply;
            }
            let count = self.stream.read(&mut bytes).expect("the server answers");
            assert!(count > 0, "the server has closed the connection");
            self.replies.push(&bytes[..count]);
        }
    }

    fn ask(&mut self, command: &Command) -> Reply {
        self.send(command);
        self.read()
    }
}

/// The model, with one connection for commands and one for subscriptions.
struct Model {
    server: Server,
    truth: Truth,
}

const COMMANDS_ID: u64 = 1;
const SUBSCRIBER_ID: u64 = 2;

impl Model {
    fn new() -> Self {
        let mut server = Server::new("model", Keys::default());
        for id in [COMMANDS_ID, SUBSCRIBER_ID] {
            server.connections.insert(id, Connection::default());
        }
        let truth = Truth::default();
        Model { server, truth }
    }

    fn send(&mut self, id: u64, command: &Command) {
        let connection = self.server.connections.get_mut(&id).expect("a connection");
        connection.inbound.push_back(command.clone());
        let mut world = World {
            truth: &mut self.truth,
            now: Timestamp(1_000_000_000_000),
            planted: Planted::Nothing,
            published: Vec::new(),
        };
        self.server.serve(id, &mut world);
    }

    fn read(&mut self, id: u64) -> Reply {
        let connection = self.server.connections.get_mut(&id).expect("a connection");
        connection.outbound.pop_front().expect("an answer")
    }

    fn ask(&mut self, command: &Command) -> Reply {
        self.send(COMMANDS_ID, command);
        self.read(COMMANDS_ID)
    }
}

fn compare() -> Result<(), Failed> {
    let Some(mut real) = Real::start() else {
        eprintln!("skipped: no redis-server is installed");
        return Ok(());
    };
    for seed in 0..SEQUENCES {
        let mut rng = Rng::new(seed);
        let mut sequence = Sequence::new(&mut real, seed);
        for step in 0..COMMANDS {
            sequence
                .step(&mut rng)
                .map_err(|what| format!("sequence {seed}, step {step}: {what}"))?;
        }
    }
    Ok(())
}

/// One sequence of commands, to both.
struct Sequence<'a> {
    real: &'a mut Real,
    model: Model,
    names: TopicNames,
    /// The digests there and here.
    digests: Vec<[Bytes; 2]>,
    /// The last batch number of each node, as a relay would count.
    seqs: [u64; 3],
    epoch: u64,
    last_id: u64,
}

impl<'a> Sequence<'a> {
    fn new(real: &'a mut Real, seed: u64) -> Self {
        let names = TopicNames::new("t", &format!("/{seed}"));
        let mut sequence = Sequence {
            real,
            model: Model::new(),
            names,
            digests: Vec::new(),
            seqs: [0; 3],
            epoch: 0,
            last_id: 0,
        };
        sequence.load();
        let subscribe = Command::new("SUBSCRIBE").arg(sequence.names.channel.clone());
        sequence.real.subscriber.send(&subscribe);
        sequence.real.subscriber.read();
        sequence.model.send(SUBSCRIBER_ID, &subscribe);
        sequence.model.read(SUBSCRIBER_ID);
        sequence
    }

    fn load(&mut self) {
        self.digests.clear();
        for script in SCRIPTS {
            let command = Command::new("SCRIPT").arg("LOAD").arg(script.text());
            let answers = [self.real.commands.ask(&command), self.model.ask(&command)];
            let digest = |reply: Reply| reply.bytes().expect("a digest").clone();
            self.digests.push(answers.map(digest));
        }
    }

    /// Sends one command to both, and compares.
    fn step(&mut self, rng: &mut Rng) -> Result<(), String> {
        match rng.below(100) {
            0..30 => self.sync(rng),
            30..78 => self.publish(rng),
            78..80 => self.probe(),
            80..85 => self.range(rng),
            85..90 => self.audit(),
            90..92 => {
                let key = rng.pick(&[&self.names.hash, &self.names.stream]).clone();
                self.both(&Command::new("DEL").arg(key), false)
            }
            92 => self.age(rng),
            93 => self.grow(),
            94 => {
                let node = NodeId(rng.below(3) as u64);
                let command = Command::new("HDEL").arg(self.names.hash.clone());
                self.both(&command.arg(format!("d{node}")), false)
            }
            95..97 => {
                self.real.commands.ask(&Command::new("SCRIPT").arg("FLUSH"));
                self.model.server.flush_scripts();
                Ok(())
            }
            _ => {
                self.load();
                Ok(())
            }
        }
    }

    fn both(&mut self, command: &Command, is_compared: bool) -> Result<(), String> {
        let real = self.real.commands.ask(command);
        let model = self.model.ask(command);
        agree(command, is_compared, &real, &model)
    }

    fn call(&mut self, script: usize, rest: &[Bytes]) -> Result<Reply, String> {
        let keys = [self.names.hash.clone(), self.names.stream.clone()];
        let call = |digest: &Bytes| {
            let command = Command::new("EVALSHA").arg(digest.clone()).number(2);
            let args = keys.iter().chain(rest);
            args.fold(command, |command, arg| command.arg(arg.clone()))
        };
        let [there, here] = self.digests[script].clone().map(|digest| call(&digest));
        let (real, model) = (self.real.commands.ask(&there), self.model.ask(&here));
        agree(&there, true, &real, &model)?;
        Ok(model)
    }

    fn sync(&mut self, rng: &mut Rng) -> Result<(), String> {
        let node = rng.below(3);
        let base = if rng.percent(80) {
            self.seqs[node] + 1
        } else {
            0
        };
        let large = rng.percent(50);
        let fresh = 1 + rng.next() % if large { 1 << 53 } else { 1_000 };
        let args = [
            rng.pick(&["server:one", "server:one", "server:two"])
                .to_string(),
            fresh.to_string(),
            NodeId(node as u64).to_string(),
            base.to_string(),
            "60".into(),
            rng.below(9).to_string(),
            rng.below(2).to_string(),
        ];
        let reply = self.call(0, &args.map(Bytes::from))?;
        if let Some([Reply::Integer(epoch), ..]) = reply.items() {
            self.epoch = epoch.cast_unsigned();
        }
        Ok(())
    }

    fn publish(&mut self, rng: &mut Rng) -> Result<(), String> {
        let node = rng.below(3);
        self.seqs[node] += u64::from(rng.percent(85)) + u64::from(rng.percent(5));
        let epoch = Epoch(if rng.percent(90) {
            self.epoch.max(1)
        } else {
            7
        });
        let count = rng.within(1..=3) as u64;
        let ids: Vec<u64> = (self.last_id + 1..=self.last_id + count).collect();
        self.last_id += count;
        let head = Head {
            version: VERSION,
            count: count as u32,
            node: NodeId(node as u64),
            seq: self.seqs[node],
            epoch,
        };
        let frames = frames(&ids, rng.below(60));
        let args = [
            epoch.0.to_string().into(),
            head.node.to_string().into(),
            head.seq.to_string().into(),
            count.to_string().into(),
            pack(&head, std::iter::once(&frames[..])),
            self.names.channel.clone(),
            // So many that nothing is trimmed: the server trims by its own measure.
            rng.pick(&["0", "10000", "10000"]).into(),
            "60".into(),
        ];
        let reply = self.call(1, &args)?;
        if matches!(reply, Reply::Integer(first) if first > 0) {
            let real = self.real.subscriber.read();
            let model = self.model.read(SUBSCRIBER_ID);
            if !same(&real, &model) {
                return Err(format!(
                    "{real:?} from the server, {model:?} from the model"
                ));
            }
        }
        Ok(())
    }

    fn range(&mut self, rng: &mut Rng) -> Result<(), String> {
        let stream = self.names.stream.clone();
        let (from, to) = (rng.below(40) as u64, rng.below(400) as u64);
        let range = Command::new("XRANGE").arg(stream.clone());
        self.both(&range.number(from).number(to), true)?;
        let last = Command::new("XREVRANGE").arg(stream).number(to).arg("-");
        self.both(&last.arg("COUNT").number(1), true)
    }

    /// A token must come back on the channel.
    fn probe(&mut self) -> Result<(), String> {
        let channel = self.names.channel.clone();
        let call = |digest: &Bytes| {
            let command = Command::new("EVALSHA").arg(digest.clone()).number(1);
            command.arg("own").arg(channel.clone()).arg("17")
        };
        let [there, here] = self.digests[2].clone().map(|digest| call(&digest));
        let (real, model) = (self.real.commands.ask(&there), self.model.ask(&here));
        agree(&there, true, &real, &model)?;
        self.hear(model == Reply::Integer(1))
    }

    /// Compares what the subscriptions bring, if they bring something.
    fn hear(&mut self, is_due: bool) -> Result<(), String> {
        if !is_due {
            return Ok(());
        }
        let real = self.real.subscriber.read();
        let model = self.model.read(SUBSCRIBER_ID);
        if same(&real, &model) {
            return Ok(());
        }
        Err(format!(
            "{real:?} from the server, {model:?} from the model"
        ))
    }

    /// Numbers that Lua would write with an exponent. They never repeat.
    fn grow(&mut self) -> Result<(), String> {
        let last = 100_000_000_000_000 + self.last_id * 1_000;
        let command = Command::new("HSET").arg(self.names.hash.clone()).arg("n");
        self.both(&command.number(last), false)
    }

    /// A node that was silent since long ago: the next sweep removes it.
    fn age(&mut self, rng: &mut Rng) -> Result<(), String> {
        let node = NodeId(rng.below(3) as u64);
        let command = Command::new("HSET").arg(self.names.hash.clone());
        self.both(&command.arg(format!("m{node}")).arg("1 17"), false)
    }

    fn audit(&mut self) -> Result<(), String> {
        let fields = ["e", "n", "pe", "pn", "g", "d0000000000000001"];
        let command = Command::new("HMGET").arg(self.names.hash.clone());
        let command = fields
            .iter()
            .fold(command, |command, field| command.arg(*field));
        self.both(&command, true)
    }
}

fn agree(command: &Command, is_compared: bool, real: &Reply, model: &Reply) -> Result<(), String> {
    if !is_compared || same(real, model) {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {real:?} of the server, {model:?} of the model"
    ))
}

/// Whether two answers are the same. Errors are, if their codes are. Batches are, but for the time in them.
fn same(real: &Reply, model: &Reply) -> bool {
    /// The stamp's time.
    const TIME: std::ops::Range<usize> = 8..16;
    match (real, model) {
        (Reply::Error(real), Reply::Error(model)) => {
            let code = |text: &str| text.split(' ').next().map(str::to_owned);
            code(real) == code(model)
        }
        (Reply::Array(real), Reply::Array(model)) => {
            real.len() == model.len()
                && real
                    .iter()
                    .zip(model)
                    .all(|(real, model)| same(real, model))
        }
        (Reply::Bulk(real), Reply::Bulk(model)) if real.len() > 52 && real.len() == model.len() => {
            real[..TIME.start] == model[..TIME.start] && real[TIME.end..] == model[TIME.end..]
        }
        (real, model) => real == model,
    }
}
