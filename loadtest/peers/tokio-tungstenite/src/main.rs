//! A relay on tokio-tungstenite: each message reaches all on its path, the sender included.
//!
//! A task per connection, each with a queue without a limit, so that nobody is dropped. It takes all that is in its
//! queue and flushes once. With `--each` it flushes after each message, as `send` does. No compression, no log.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, version};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

type Room = Arc<Mutex<HashMap<u64, UnboundedSender<Message>>>>;
type Rooms = Arc<Mutex<HashMap<String, Room>>>;
type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    let port: u16 = variable("PORT").ok_or("PORT is not set")?;
    let workers: u16 = variable("WORKERS").unwrap_or(1);
    let flushes_each = std::env::args().any(|argument| argument == "--each");
    let mut runtime = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(usize::from(workers)).enable_io();
    runtime.build()?.block_on(serve(port, flushes_each))
}

/// The acceptor of TLS, if there is a certificate.
fn acceptor() -> Result<Option<TlsAcceptor>, Error> {
    let Ok(certificate) = std::env::var("TLS_CERTIFICATE") else {
        return Ok(None);
    };
    let key = PrivateKeyDer::from_pem_file(std::env::var("TLS_KEY")?)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_file(certificate)?], key)?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

async fn serve(port: u16, flushes_each: bool) -> Result<(), Error> {
    let acceptor = acceptor()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let listener = socket.listen(4096)?;
    println!("ready {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let rooms = Rooms::default();
    for id in 0.. {
        let (stream, _) = listener.accept().await?;
        let (rooms, acceptor) = (rooms.clone(), acceptor.clone());
        // An error of one client does not concern the others.
        tokio::spawn(async move {
            let accepted = accept(id, stream, acceptor, &rooms, flushes_each);
            accepted.await.ok()
        });
    }
    Ok(())
}

async fn accept(
    id: u64,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    rooms: &Rooms,
    flushes_each: bool,
) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    match acceptor {
        Some(tls) => relay(id, tls.accept(stream).await?, rooms, flushes_each).await,
        None => relay(id, stream, rooms, flushes_each).await,
    }
}

async fn relay<S>(id: u64, stream: S, rooms: &Rooms, flushes_each: bool) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the library's type")]
    let note = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let config = WebSocketConfig::default().max_message_size(Some(16 << 20));
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, note, Some(config));
    let mut socket = accepted.await?;
    let (sender, mut queue) = unbounded_channel();
    let room = lock(rooms).entry(path).or_default().clone();
    lock(&room).insert(id, sender);
    let leaving = Leaving(&room, id);
    loop {
        tokio::select! {
            biased;
            message = socket.next() => match message {
                Some(Ok(message)) if message.is_text() || message.is_binary() => {
                    for member in lock(&room).values() {
                        // A member that is leaving takes no more.
                        let _ = member.send(message.clone());
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
            message = queue.recv() => {
                let Some(message) = message else { break };
                socket.feed(message).await?;
                while !flushes_each && let Ok(message) = queue.try_recv() {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
        }
    }
    drop(leaving);
    Ok(())
}

/// Takes a member out of its room, however it leaves.
struct Leaving<'a>(&'a Room, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        lock(self.0).remove(&self.1);
    }
}

/// Locks a mutex. Nothing panics while it is locked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
