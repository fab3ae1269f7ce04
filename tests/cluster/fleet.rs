//! Several servers behind one address: the master that clients find, replicas, and what is left of earlier ones.

use fanwire::internals::Timestamp;

use crate::server::{Connection, ConnectionId, Keys, Planted, Server, World};
use crate::truth::Truth;

/// See the module.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) servers: Vec<Server>,
    /// The server that new connections reach.
    pub(crate) address: usize,
    /// New connections are refused.
    pub(crate) is_cut: bool,
    /// The data of a replica that lags.
    pub(crate) replica: Keys,
    last_connection: ConnectionId,
}

/// A connection, and its server by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) server: usize,
    pub(crate) id: ConnectionId,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Fleet {
            servers: vec![Server::new("0", Keys::default())],
            address: 0,
            is_cut: false,
            replica: Keys::default(),
            last_connection: 0,
        }
    }

    /// Opens a connection to the server at the address.
    pub(crate) fn connect(&mut self) -> Option<Link> {
        let server = self.address;
        if self.is_cut || !self.servers[server].is_alive {
            return None;
        }
        self.last_connection += 1;
        let id = self.last_connection;
        let connections = &mut self.servers[server].connections;
        connections.insert(id, Connection::default());
        Some(Link { server, id })
    }

    pub(crate) fn connection(&mut self, link: Link) -> Option<&mut Connection> {
        self.servers[link.server].connections.get_mut(&link.id)
    }

    /// All connections with commands that can be executed now.
    pub(crate) fn to_serve(&self, now: Timestamp) -> Vec<Link> {
        let mut links = Vec::new();
        for (server, state) in self
            .servers
            .iter()
            .enumerate()
            .filter(|(_, state)| state.is_alive)
        {
            for (&id, connection) in &state.connections {
                if !connection.inbound.is_empty() && connection.stalled_until <= now {
                    links.push(Link { server, id });
                }
            }
        }
        links
    }

    /// Executes a command.
    pub(crate) fn serve(
        &mut self,
        link: Link,
        truth: &mut Truth,
        now: Timestamp,
        planted: Planted,
    ) {
        let mut world = World {
            truth,
            now,
            planted,
            published: Vec::new(),
        };
        self.servers[link.server].serve(link.id, &mut world);
        let published = world.published;
        let replicas = self.servers.iter_mut();
        for replica in replicas.filter(|server| server.master == Some(link.server)) {
            for (channel, payload) in &published {
                replica.hand_out(channel, payload, planted);
            }
        }
    }

    /// A server process ends. Its connections break.
    pub(crate) fn kill(&mut self, server: usize) {
        self.servers[server].is_alive = false;
        for connection in self.servers[server].connections.values_mut() {
            connection.is_closed = true;
            connection.inbound.clear();
        }
    }

    /// A new process takes the address, with this data.
    pub(crate) fn replace_master(&mut self, keys: Keys) {
        let name = self.servers.len().to_string();
        self.servers.push(Server::new(&name, keys));
        self.address = self.servers.len() - 1;
    }

    /// Removes connections that nobody uses any more.
    pub(crate) fn tidy(&mut self) {
        for server in &mut self.servers {
            let is_alive = server.is_alive;
            server.connections.retain(|_, connection| {
                let is_zombie = connection.is_left && (!is_alive || connection.inbound.is_empty());
                !is_zombie
            });
        }
    }
}
