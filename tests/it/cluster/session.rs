//! Clients that listen and that talk, and the comparison of all that they heard.
//!
//! A listener counts its place in the stream, as `docs/resume.md` says. If two listeners, on whatever relays, have the same
//! place, they must have heard the same message there. A listener that was told of no loss must have heard all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::support::{PATIENCE, World, eventually};
use crate::wire::{CLOSE, FIN, Wire};

/// The time after which a client looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

type Socket = WebSocket<TcpStream>;

/// Connects, and tries again while the relay says that it cannot take clients now.
fn connect(address: SocketAddr, path: &str, words: bool) -> Socket {
    let mut found = None;
    eventually("a client gets in", || {
        found = try_connect(address, path, words);
        found.is_some()
    });
    found.expect("it got in")
}

fn try_connect(address: SocketAddr, path: &str, words: bool) -> Option<Socket> {
    let stream = TcpStream::connect(address).expect("the relay listens");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    let mut request = format!("ws://{address}{path}")
        .into_client_request()
        .expect("a URL");
    if words {
        let offer = "fanwire.v1".parse().expect("a value");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", offer);
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => {
            socket
                .get_ref()
                .set_read_timeout(Some(LOOK))
                .expect("an option");
            Some(socket)
        }
        Err(HandshakeError::Failure(Error::Http(answer))) if answer.status() == 503 => None,
        Err(error) => panic!("no upgrade: {error}"),
    }
}

/// Something that a listener heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A message, at its place.
    Message {
        epoch: String,
        number: u64,
        text: String,
    },
    /// A note: the stream goes on here, and so many messages are missing, or nobody knows how many.
    Note { at: String, lost: Option<u64> },
}

/// A client of `fanwire.v1` that only listens.
pub(super) struct Listener {
    name: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Joins a topic, and listens until [`Listener::end`]. A listener that is closed comes back with its place.
    pub(super) fn join(world: &World, path: &str) -> Listener {
        let address = world.relay.address();
        let (heard, stop) = (
            Arc::<Mutex<Vec<Heard>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let mut socket = connect(address, path, true);
        let (list, stopped, topic) = (heard.clone(), stop.clone(), path.to_owned());
        // Its place is known once it has the hello.
        let mut place = Place::default();
        while !place.is_known() {
            match socket.read() {
                Ok(message) => place.hear(&message, &list),
                Err(error) if is_quiet(&error) => {}
                Err(error) => panic!("no hello: {error}"),
            }
        }
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match socket.read() {
                    Ok(Message::Close(_)) => {}
                    Ok(message) => place.hear(&message, &list),
                    Err(error) if is_quiet(&error) => {}
                    Err(_) => {
                        let path = format!("{topic}?since={}-{}", place.epoch, place.number);
                        socket = connect(address, &path, true);
                    }
                }
            }
        });
        Listener {
            name: format!("{address}"),
            heard,
            stop,
            thread,
        }
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no panic").clone()
    }

    /// The messages that it heard.
    pub(super) fn texts(&self) -> Vec<String> {
        let heard = self.heard();
        let texts = heard.into_iter().filter_map(|heard| match heard {
            Heard::Message { text, .. } => Some(text),
            Heard::Note { .. } => None,
        });
        texts.collect()
    }

    /// Whether it was told of a loss.
    pub(super) fn was_told(&self) -> bool {
        let is_loss = |heard: &Heard| matches!(heard, Heard::Note { lost, .. } if *lost != Some(0));
        // The first note is the hello.
        self.heard().iter().skip(1).any(is_loss)
    }

    /// The position behind a message that it has heard.
    pub(super) fn place_of(&self, wanted: &str) -> String {
        let heard = self.heard();
        let place = heard.iter().find_map(|heard| match heard {
            Heard::Message {
                epoch,
                number,
                text,
            } if text == wanted => Some(format!("{epoch}-{number}")),
            Heard::Message { .. } | Heard::Note { .. } => None,
        });
        place.expect("it has heard it")
    }

    /// Waits until it has heard a message.
    pub(super) fn await_text(&self, text: &str) {
        eventually(&format!("{} hears {text}", self.name), || {
            self.texts().iter().any(|other| other == text)
        });
    }

    /// Leaves. Returns its name, and all that it heard.
    pub(super) fn end(self) -> (String, Vec<Heard>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a listener does not fail");
        let heard = self.heard.lock().expect("no panic").clone();
        (self.name, heard)
    }
}

fn is_quiet(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// A listener's place.
#[derive(Default)]
struct Place {
    epoch: String,
    number: u64,
}

impl Place {
    fn is_known(&self) -> bool {
        !self.epoch.is_empty()
    }

    fn hear(&mut self, message: &Message, list: &Mutex<Vec<Heard>>) {
        let Message::Text(text) = message else {
            return;
        };
        let heard = if let Some(note) = text.strip_prefix("\0{\"at\":\"") {
            let (at, missing) = note.split_once("\",\"lost\":").expect("a note");
            let (epoch, number) = at.split_once('-').expect("a position");
            (self.epoch, self.number) = (epoch.into(), number.parse().expect("a number"));
            Heard::Note {
                at: at.into(),
                lost: missing.trim_end_matches('}').parse().ok(),
            }
        } else {
            self.number += 1;
            Heard::Message {
                epoch: self.epoch.clone(),
                number: self.number,
                text: text.to_string(),
            }
        };
        list.lock().expect("no panic").push(heard);
    }
}

/// A client that sends numbered messages, each when the one before is back.
pub(super) struct Talker {
    name: String,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Talker {
    /// Sends to a topic until [`Talker::end`]. Its messages begin with `name`. If it is closed, it comes back, and goes on with
    /// the next message.
    pub(super) fn start(world: &World, path: &str, name: &str) -> Talker {
        let address = world.relay.address();
        let (sent, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stopped) = (sent.clone(), stop.clone());
        let (path, own) = (path.to_owned(), name.to_owned());
        let mut socket = connect(address, &path, false);
        let thread = thread::spawn(move || {
            let mut number = 0;
            let mut awaited: Option<String> = None;
            loop {
                let result = match &awaited {
                    None if stopped.load(Ordering::Relaxed) => return,
                    None => {
                        let text = format!("{own}-{number}");
                        number += 1;
                        awaited = Some(text.clone());
                        socket.send(Message::text(text))
                    }
                    Some(text) => match socket.read() {
                        Ok(Message::Text(back)) if back.as_str() == text => {
                            awaited = None;
                            count.fetch_add(1, Ordering::Relaxed);
                            Ok(())
                        }
                        Ok(_) => Ok(()),
                        Err(error) if is_quiet(&error) => Ok(()),
                        Err(error) => Err(error),
                    },
                };
                if result.is_err() {
                    awaited = None;
                    socket = connect(address, &path, false);
                }
            }
        });
        Talker {
            name: name.into(),
            sent,
            stop,
            thread,
        }
    }

    /// Messages that came back to it.
    pub(super) fn count(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more messages are back.
    pub(super) fn await_more(&self, more: usize) {
        let goal = self.count() + more;
        eventually(&format!("{} talks on", self.name), || self.count() >= goal);
    }

    /// Stops it when its last message is back. Returns its name and how many messages came back.
    pub(super) fn end(self) -> (String, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a talker does not fail");
        (self.name, self.sent.load(Ordering::Relaxed))
    }
}

/// Reads frames until a Close, which must have this code.
pub(super) fn await_close(wire: &mut Wire, code: u16) {
    loop {
        let frame = wire.next();
        if frame.first == FIN | CLOSE {
            assert_eq!(frame.payload[..2], code.to_be_bytes());
            return;
        }
    }
}

/// The promise that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Nobody misses anything, and nobody is told of a loss.
    Whole,
    /// A client that was not told has heard all.
    ToldOrWhole,
}

/// Ends all clients, and compares what they heard.
pub(super) fn compare(listeners: Vec<Listener>, talkers: Vec<Talker>, promise: Promise) {
    let spoken: Vec<(String, usize)> = talkers.into_iter().map(Talker::end).collect();
    let has_spoken = spoken.iter().all(|&(_, count)| count > 0);
    assert!(has_spoken, "everybody has spoken: {spoken:?}");
    if promise == Promise::Whole {
        eventually("all have heard all", || {
            let goal: usize = spoken.iter().map(|(_, count)| count).sum();
            listeners
                .iter()
                .all(|listener| listener.texts().len() >= goal)
        });
    } else {
        eventually("all have heard the newest", || {
            let newest = |listener: &Listener| listener.texts().last().cloned();
            let newest: BTreeSet<_> = listeners.iter().map(newest).collect();
            newest.len() <= 1
        });
    }
    let mut by_place: HashMap<(String, u64), (String, String)> = HashMap::new();
    for listener in listeners {
        let was_told = listener.was_told();
        assert!(
            promise == Promise::ToldOrWhole || !was_told,
            "{} was told of a loss: {:?}",
            listener.name,
            notes(&listener.heard())
        );
        let (name, heard) = listener.end();
        let mut seen = BTreeSet::new();
        for heard in &heard {
            let Heard::Message {
                epoch,
                number,
                text,
            } = heard
            else {
                // After a break, a message may come again.
                if is_loss(heard) {
                    seen.clear();
                }
                continue;
            };
            assert!(seen.insert(text.clone()), "{name} hears {text} twice");
            let place = (epoch.clone(), *number);
            let (first, who) = by_place
                .entry(place.clone())
                .or_insert_with(|| (text.clone(), name.clone()));
            assert_eq!(
                first, text,
                "{who} and {name} hear another message at {place:?}"
            );
        }
        if !was_told {
            check_whole(&name, &seen, &spoken, promise);
        }
    }
}

fn is_loss(heard: &Heard) -> bool {
    matches!(heard, Heard::Note { lost, .. } if *lost != Some(0))
}

fn notes(heard: &[Heard]) -> Vec<&Heard> {
    let notes = heard.iter();
    notes
        .filter(|heard| matches!(heard, Heard::Note { .. }))
        .collect()
}

/// A listener that was there all the time has heard all that came back to its sender, in the order of each sender.
fn check_whole(name: &str, seen: &BTreeSet<String>, spoken: &[(String, usize)], promise: Promise) {
    let mut by_talker: BTreeMap<&str, usize> = BTreeMap::new();
    for text in seen {
        let (talker, _) = text.rsplit_once('-').expect("a talker's message");
        *by_talker.entry(talker).or_default() += 1;
    }
    for (talker, count) in spoken {
        let heard = by_talker.get(talker.as_str()).copied().unwrap_or(0);
        match promise {
            Promise::Whole => assert_eq!(heard, *count, "{name} has heard all of {talker}"),
            Promise::ToldOrWhole => {
                assert!(
                    heard >= *count,
                    "{name} has heard {heard} of {count} of {talker}"
                );
            }
        }
    }
}
