//! Rows: how many are served one after the other before others have their turn.

/// Clients in a row: about half a millisecond of small writes, so that a topic with two members need not wait for one
/// with ten thousand.
const ROW_CLIENTS: u32 = 64;

/// Bytes in a row, before the last write: about as long for large ones, which cost 0.1 to 0.25 ns a byte here.
const ROW_BYTES: usize = 2 << 20;

/// What was served so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    clients: u32,
    bytes: usize,
}

impl Row {
    /// Enters a client that is served.
    pub(crate) fn enter(&mut self) {
        self.clients += 1;
    }

    /// Enters bytes that the last client took.
    pub(crate) fn note_taken(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether it is the turn of others.
    pub(crate) fn is_over(&self) -> bool {
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
