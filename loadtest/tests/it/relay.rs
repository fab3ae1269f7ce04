//! A tiny relay that is right unless a fault is planted. One thread goes round its clients and passes each message on
//! to all, in one order.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Bytes, Error, Message, WebSocket};

/// A pause when there is nothing to do.
const NAP: Duration = Duration::from_micros(200);

/// Messages of a client that are taken in before others have their turn.
const TURN: usize = 16;

/// One message on its way to one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    /// The number of the message, from 0, those of the probe included.
    pub(crate) number: u64,
    /// The connection that sent it, from 0, those of the probe included.
    pub(crate) sender: usize,
    /// The connection that is to receive it.
    pub(crate) receiver: usize,
}

/// The fate of a delivery.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It is made.
    Pass,
    /// It is not.
    Lose,
    /// It is made twice.
    Repeat,
    /// It waits, and comes after the next that passes.
    Hold,
    /// This bit of its payload is flipped.
    Flip(usize),
    /// Text becomes binary, and binary becomes text.
    ChangeKind,
    /// These messages come in its place.
    Replace(Vec<Message>),
    /// The connection is closed with this code instead.
    Close(u16),
    /// The connection is cut instead.
    Cut,
}

/// A relay that runs until it is dropped.
pub(crate) struct TinyRelay {
    pub(crate) address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

struct Client {
    id: usize,
    path: String,
    socket: WebSocket<TcpStream>,
    held: Vec<Message>,
    is_gone: bool,
}

impl TinyRelay {
    /// Starts one in which `fate` decides on every delivery.
    pub(crate) fn start(
        fate: impl FnMut(Delivery, &Message) -> Fate + Send + 'static,
    ) -> TinyRelay {
        TinyRelay::greeting(None, fate)
    }

    /// The same, and every client is sent a greeting first.
    pub(crate) fn greeting(
        greeting: Option<Message>,
        mut fate: impl FnMut(Delivery, &Message) -> Fate + Send + 'static,
    ) -> TinyRelay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = is_stopped.clone();
        let faults = Arc::new(AtomicU64::new(0));
        let made = faults.clone();
        let thread = thread::spawn(move || {
            let mut hub = Hub::default();
            while !stopped.load(Ordering::SeqCst) {
                hub.accept(&listener, greeting.as_ref());
                if !hub.turn(&mut fate) {
                    thread::sleep(NAP);
                }
                made.store(hub.faults, Ordering::SeqCst);
            }
        });
        TinyRelay {
            address,
            is_stopped,
            faults,
            thread: Some(thread),
        }
    }

    /// The number of deliveries that were visibly tampered with.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/topic", self.address)
    }
}

impl Drop for TinyRelay {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

#[derive(Default)]
struct Hub {
    clients: Vec<Client>,
    accepted: usize,
    messages: u64,
    faults: u64,
}

impl Hub {
    fn accept(&mut self, listener: &TcpListener, greeting: Option<&Message>) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut path = String::new();
            #[expect(
                clippy::result_large_err,
                reason = "the callback's type is tungstenite's"
            )]
            let callback = |request: &Request, response: Response| {
                request.uri().path().clone_into(&mut path);
                Ok(response)
            };
            let Ok(mut socket) = tungstenite::accept_hdr(stream, callback) else {
                continue;
            };
            if let Some(greeting) = greeting {
                socket.send(greeting.clone()).unwrap();
            }
            socket.get_ref().set_nonblocking(true).unwrap();
            self.clients.push(Client {
                id: self.accepted,
                path,
                socket,
                held: Vec::new(),
                is_gone: false,
            });
            self.accepted += 1;
        }
    }

    /// Whether anything was done.
    fn turn(&mut self, fate: &mut impl FnMut(Delivery, &Message) -> Fate) -> bool {
        let mut was_busy = false;
        for sender in 0..self.clients.len() {
            for _ in 0..TURN {
                let Some(message) = self.clients[sender].read() else {
                    break;
                };
                was_busy = true;
                self.pass_on(sender, &message, fate);
            }
        }
        for client in &mut self.clients {
            client.flush();
        }
        self.clients.retain(|client| !client.is_gone);
        was_busy
    }

    fn pass_on(
        &mut self,
        sender: usize,
        message: &Message,
        fate: &mut impl FnMut(Delivery, &Message) -> Fate,
    ) {
        let number = self.messages;
        self.messages += 1;
        let path = self.clients[sender].path.clone();
        let sender = self.clients[sender].id;
        for client in self.clients.iter_mut().filter(|client| client.path == path) {
            let delivery = Delivery {
                number,
                sender,
                receiver: client.id,
            };
            let fate = fate(delivery, message);
            // A message that is held back is a fault only once another has overtaken it.
            self.faults += u64::from(match fate {
                Fate::Pass => !client.held.is_empty(),
                Fate::Hold => false,
                _ => true,
            });
            client.meet(fate, message);
        }
    }
}

impl Client {
    fn read(&mut self) -> Option<Message> {
        if self.is_gone {
            return None;
        }
        match self.socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => Some(message),
            Ok(_) => None,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => {
                self.is_gone = true;
                None
            }
        }
    }

    fn meet(&mut self, fate: Fate, message: &Message) {
        match fate {
            Fate::Pass => {
                self.write(message.clone());
                for held in std::mem::take(&mut self.held) {
                    self.write(held);
                }
            }
            Fate::Lose => {}
            Fate::Repeat => {
                self.write(message.clone());
                self.write(message.clone());
            }
            Fate::Hold => self.held.push(message.clone()),
            Fate::Flip(bit) => self.write(flipped(message, bit)),
            Fate::ChangeKind => self.write(of_other_kind(message)),
            Fate::Replace(messages) => messages.into_iter().for_each(|message| self.write(message)),
            Fate::Close(code) => {
                let frame = CloseFrame {
                    code: code.into(),
                    reason: "planted".into(),
                };
                // The client may be gone already.
                let _ = self.socket.close(Some(frame));
            }
            Fate::Cut => self.is_gone = true,
        }
    }

    fn write(&mut self, message: Message) {
        match self.socket.write(message) {
            Ok(()) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.is_gone = true,
        }
    }

    fn flush(&mut self) {
        match self.socket.flush() {
            Ok(()) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.is_gone = true,
        }
    }
}

fn flipped(message: &Message, bit: usize) -> Message {
    let mut payload = message.clone().into_data().to_vec();
    payload[bit / 8] ^= 1 << (bit % 8);
    match message {
        Message::Text(_) => Message::text(String::from_utf8(payload).unwrap()),
        _ => Message::binary(payload),
    }
}

fn of_other_kind(message: &Message) -> Message {
    let payload: Bytes = message.clone().into_data();
    match message {
        Message::Text(_) => Message::binary(payload),
        _ => Message::text(String::from_utf8_lossy(&payload).into_owned()),
    }
}
