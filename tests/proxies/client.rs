//! A client of rustls and tungstenite, for the story. It trusts only the test's own two certificates.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use crate::files::Files;
use crate::support::{HOST, PATIENCE};

pub(crate) struct Client {
    socket: WebSocket<StreamOwned<ClientConnection, TcpStream>>,
}

fn dial(
    files: &Files,
    port: u16,
    source: Ipv4Addr,
) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket
        .connect(&proxy.into())
        .map_err(|error| error.to_string())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let name = HOST.try_into().unwrap();
    let session = ClientConnection::new(files.client_config(), name).unwrap();
    Ok(StreamOwned::new(session, stream))
}

/// The whole answer to a GET for this media type.
pub(crate) fn get(files: &Files, port: u16, path: &str, accept: &str) -> String {
    let mut stream = dial(files, port, Ipv4Addr::LOCALHOST).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // Some proxies end without the alert that TLS has for it.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// The whole answer to a POST of a text.
pub(crate) fn post(files: &Files, port: u16, path: &str, text: &str) -> String {
    let mut stream = dial(files, port, Ipv4Addr::LOCALHOST).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // As above.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// A reader of server-sent events.
pub(crate) struct Reader {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// Everything so far. A proxy may send it in chunks.
    received: Vec<u8>,
}

impl Reader {
    pub(crate) fn open(files: &Files, port: u16, path: &str) -> Reader {
        let mut stream = dial(files, port, Ipv4Addr::LOCALHOST).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let received = Vec::new();
        Reader { stream, received }
    }

    /// Reads on until the stream has this text in it.
    pub(crate) fn expect(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !String::from_utf8_lossy(&self.received).contains(text) {
            let read = self.stream.read(&mut bytes);
            let read = read.unwrap_or_else(|error| panic!("{text:?} does not come: {error}"));
            assert!(read > 0, "{}", String::from_utf8_lossy(&self.received));
            self.received.extend_from_slice(&bytes[..read]);
        }
    }
}

impl Client {
    pub(crate) fn connect(files: &Files, port: u16, path: &str) -> Result<Client, String> {
        Client::connect_from(files, port, path, Ipv4Addr::LOCALHOST, &[])
    }

    /// Connects from another address of this machine, with more header fields in the request.
    pub(crate) fn connect_from(
        files: &Files,
        port: u16,
        path: &str,
        source: Ipv4Addr,
        fields: &[(&'static str, &'static str)],
    ) -> Result<Client, String> {
        let stream = dial(files, port, source)?;
        let url = format!("wss://{HOST}:{port}{path}");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(*name, value);
        }
        let (socket, _) =
            tungstenite::client(request, stream).map_err(|error| error.to_string())?;
        Ok(Client { socket })
    }

    /// True if the proxy has shown the certificate of [`Files::renew_certificate`].
    pub(crate) fn saw_renewed_certificate(&self, files: &Files) -> bool {
        let chain = self.socket.get_ref().conn.peer_certificates().unwrap();
        chain[0] == *files.renewed_certificate()
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    pub(crate) fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).unwrap();
    }

    /// The next message, which must be text.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) => {}
                other => panic!("text was expected, and {other:?} came"),
            }
        }
    }

    /// The next message, which must be binary.
    pub(crate) fn hear_bytes(&mut self) -> Vec<u8> {
        loop {
            match self.socket.read().unwrap() {
                Message::Binary(bytes) => return bytes.to_vec(),
                Message::Ping(_) => {}
                other => panic!("binary was expected, and {other:?} came"),
            }
        }
    }

    /// Waits for a Close with one of these codes, and answers it.
    pub(crate) fn expect_close(mut self, codes: &[u16]) {
        loop {
            match self.socket.read() {
                Ok(Message::Ping(_)) => {}
                Ok(Message::Close(Some(frame))) => {
                    assert!(codes.contains(&frame.code.into()), "{frame:?}");
                    break;
                }
                other => panic!("a Close was expected, and {other:?} came"),
            }
        }
        // The connection may already be gone.
        let _ = self.socket.flush();
    }
}
