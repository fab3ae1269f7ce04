//! An address that nobody listens on, for as long as a test needs it.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A socket that has a port and does not listen. Connections are refused, and no other program can take the port.
pub(crate) struct Silent(Socket);

impl Silent {
    /// A socket on a port of its own.
    pub(crate) fn new() -> Silent {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        Silent(socket)
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.0.local_addr().unwrap();
        address.as_socket().expect("it is an address of IP")
    }
}
