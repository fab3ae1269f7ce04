//! A row: the clients that the outflow serves one after the other before it serves others.
//!
//! [`outflow`](super::outflow) keeps one for each kind of work. A row only counts.

/// Clients in a row. Their small writes take less than half a millisecond, so a topic with two members does not wait long for
/// one with ten thousand.
const ROW_CLIENTS: u32 = 64;

/// Bytes in a row, before the last write. They take less than half a millisecond too: large writes cost 0.1 to 0.25 ns a byte.
const ROW_BYTES: usize = 2 << 20;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    clients: u32,
    bytes: usize,
}

impl Row {
    /// Counts a client that is served.
    pub(super) fn enter(&mut self) {
        self.clients += 1;
    }

    /// Counts bytes that the last client took.
    pub(super) fn note_taken(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether others are served next.
    pub(super) fn is_over(&self) -> bool {
        self.clients >= ROW_CLIENTS || self.bytes >= ROW_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_over_after_so_many_clients_or_so_many_bytes() {
        let mut row = Row::default();
        for _ in 0..ROW_CLIENTS {
            assert!(!row.is_over());
            row.enter();
            row.note_taken(ROW_BYTES / ROW_CLIENTS as usize - 1);
        }
        assert!(row.is_over());
        let mut row = Row::default();
        row.enter();
        row.note_taken(ROW_BYTES - 1);
        assert!(!row.is_over());
        row.note_taken(1);
        assert!(row.is_over());
    }
}
