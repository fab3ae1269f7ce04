//! The smallest useful client: sends each line of standard input as a text message, and prints what arrives.
//!
//! ```text
//! cargo run --example client [-- URL]        the default URL is ws://127.0.0.1:8443/
//! ```
//!
//! It ends with the relay's Close, whose code and reason it prints, or at the end of the input, with a Close of its
//! own, once the relay has answered that.

use std::io::{self, BufRead, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Error, Message, WebSocket};

const DEFAULT_URL: &str = "ws://127.0.0.1:8443/";

/// How long a read may wait before the input is looked at again.
const READ_PATIENCE: Duration = Duration::from_millis(20);

type Socket = WebSocket<MaybeTlsStream<TcpStream>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| DEFAULT_URL.into());
    let (mut socket, _response) = tungstenite::connect(&url)?;
    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(READ_PATIENCE))?;
    }
    eprintln!("connected to {url}; type a line to send it, Ctrl-D to leave");
    let lines = read_lines();
    loop {
        // One line for each message read at the most: who sends and does not read is not read either.
        if socket.can_write() {
            send_line(&mut socket, &lines)?;
        }
        match socket.read() {
            Ok(message) => print(&message)?,
            Err(Error::Io(error)) if is_timeout(&error) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads standard input on a thread of its own, because a terminal cannot be waited for together with a socket.
fn read_lines() -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Sends the line that has been typed, if one has, and begins to leave when the input has ended.
fn send_line(socket: &mut Socket, lines: &Receiver<String>) -> tungstenite::Result<()> {
    match lines.try_recv() {
        Ok(line) => socket.send(Message::text(line)),
        Err(TryRecvError::Empty) => Ok(()),
        Err(TryRecvError::Disconnected) => socket.close(None),
    }
}

fn print(message: &Message) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match message {
        Message::Text(text) => writeln!(out, "{text}"),
        Message::Binary(bytes) => writeln!(out, "({} bytes of binary)", bytes.len()),
        Message::Close(Some(frame)) => {
            eprintln!("closed by the relay: {} {}", frame.code, frame.reason);
            Ok(())
        }
        // The library answers pings by itself.
        Message::Close(None) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
