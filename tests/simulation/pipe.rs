//! A connection like the kernel's: two bounded buffers, and edges that come once.
//!
//! A read that returns less than asked for has emptied the pipe. After a write that is not fully accepted, there is one
//! writable edge, once there is room. A shard that misses an edge waits for ever, which is the point.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};

use fanwire::internals::relay::{Filled, Readiness};

use crate::plan::Plan;

/// A connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    to_server: VecDeque<u8>,
    /// The size of `to_server`.
    receive_buffer: usize,
    client_fin: bool,
    reset: bool,
    /// Bytes on their way to the client.
    to_client: VecDeque<u8>,
    /// The size of `to_client`.
    send_buffer: usize,
    /// It may exceed `send_buffer` for the rest of one write.
    is_elastic: bool,
    server_fin: bool,
    server_closed: bool,
    /// The last write was not fully accepted, so an edge must follow.
    starved: bool,
    readiness: Readiness,
}

impl Pipe {
    pub(crate) fn new(plan: &Plan) -> Self {
        Pipe {
            to_server: VecDeque::new(),
            receive_buffer: plan.receive_buffer_bytes,
            client_fin: false,
            reset: false,
            to_client: VecDeque::new(),
            send_buffer: plan.send_buffer_bytes,
            is_elastic: plan.is_elastic,
            server_fin: false,
            server_closed: false,
            starved: false,
            // Registration reports everything that is already there.
            readiness: Readiness {
                is_writable: true,
                ..Readiness::default()
            },
        }
    }

    // The client's end

    /// The number of bytes that the client can write now.
    pub(crate) fn room_to_server(&self) -> usize {
        if self.reset || self.server_closed || self.client_fin {
            return 0;
        }
        self.receive_buffer.saturating_sub(self.to_server.len())
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.to_server.extend(bytes);
        self.readiness.is_readable = true;
        // An edge of either kind reports the whole state.
        self.readiness.is_writable |= self.room_to_client() > 0;
    }

    pub(crate) fn shut_by_client(&mut self) {
        self.client_fin = true;
        self.readiness.is_readable = true;
        self.readiness.is_read_closed = true;
    }

    pub(crate) fn reset_by_client(&mut self) {
        self.reset = true;
        self.to_server.clear();
        self.to_client.clear();
        self.readiness = Readiness {
            is_readable: true,
            is_writable: true,
            is_read_closed: true,
            is_error: true,
        };
    }

    /// The number of bytes that the client can read now.
    pub(crate) fn waiting_for_client(&self) -> usize {
        self.to_client.len()
    }

    /// Takes `count` of the bytes that the client can read.
    pub(crate) fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.to_client
            .read_exact(&mut bytes)
            .expect("as many were counted");
        self.announce_room();
        bytes
    }

    /// Whether the client has read everything that it will ever get.
    pub(crate) fn is_at_servers_end(&self) -> bool {
        self.server_fin && self.to_client.is_empty()
    }

    pub(crate) fn is_shut_by_client(&self) -> bool {
        self.client_fin
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset
    }

    pub(crate) fn is_over(&self) -> bool {
        self.reset || self.server_closed
    }

    /// Whether the shard has read everything that the client wrote.
    pub(crate) fn is_drained_by_server(&self) -> bool {
        self.to_server.is_empty()
    }

    // The server's end

    pub(crate) fn take_readiness(&mut self) -> Readiness {
        std::mem::take(&mut self.readiness)
    }

    /// Another event loop watches it from now on, which gets a report of everything.
    pub(crate) fn register_anew(&mut self) {
        let is_closed = self.client_fin || self.reset;
        self.readiness = Readiness {
            is_readable: is_closed || !self.to_server.is_empty(),
            is_writable: self.reset || self.room_to_client() > 0,
            is_read_closed: is_closed,
            is_error: self.reset,
        };
    }

    pub(crate) fn has_news(&self) -> bool {
        self.readiness != Readiness::default()
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Filled {
        if self.reset {
            return Filled::Failed;
        }
        let count = self.to_server.len().min(buffer.len());
        if count == 0 {
            return if self.client_fin {
                Filled::Eof
            } else {
                Filled::Empty
            };
        }
        self.to_server
            .read_exact(&mut buffer[..count])
            .expect("as many were counted");
        if count < buffer.len() {
            Filled::Last(count)
        } else {
            Filled::More(count)
        }
    }

    /// Accepts at most `most` bytes of `slices`, which have `offered` bytes in all. Returns their number. After an
    /// error the connection is dead.
    pub(crate) fn write(
        &mut self,
        slices: &[IoSlice<'_>],
        offered: usize,
        most: usize,
    ) -> io::Result<usize> {
        if self.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        assert!(!self.server_fin, "written behind the end of the stream");
        let room = match self.room_to_client() {
            0 => 0,
            _ if self.is_elastic => usize::MAX,
            room => room,
        };
        let taken = offered.min(most).min(room);
        let mut left = taken;
        for slice in slices {
            let part = &slice[..slice.len().min(left)];
            self.to_client.extend(part);
            left -= part.len();
        }
        self.starved |= taken < offered;
        self.announce_room();
        Ok(taken)
    }

    pub(crate) fn shut_by_server(&mut self) {
        self.server_fin = true;
    }

    pub(crate) fn close_by_server(&mut self) {
        self.server_closed = true;
    }

    fn room_to_client(&self) -> usize {
        self.send_buffer.saturating_sub(self.to_client.len())
    }

    fn announce_room(&mut self) {
        if self.starved && self.room_to_client() > 0 {
            self.starved = false;
            self.readiness.is_writable = true;
        }
    }
}
