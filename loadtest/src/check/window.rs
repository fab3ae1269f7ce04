//! The window of the closed loop: which messages all connections of this thread have received.
//!
//! A message is in flight until the last connection that stays has it. Each thread counts, for each message in flight,
//! how many of its connections have it. The publisher may go on when all threads are done with the message.

use crate::scenario::plan::window_slots;

/// Stands for a publisher whose messages nobody on this thread waits for.
const NOBODY: u64 = u64::MAX;

/// The window of one thread.
#[derive(Debug)]
pub(crate) struct Window {
    /// Connections that have a message, by publisher and by sequence number modulo `len`.
    counts: Vec<u32>,
    /// A power of two: at least as many as the messages that may be in flight.
    len: u64,
    /// By publisher: the first message that somebody has not received.
    heads: Vec<u64>,
    /// By publisher: the number of connections that must receive each message.
    receivers: Vec<u32>,
    /// Publishers whose head may have moved.
    touched: Vec<u32>,
    is_touched: Vec<bool>,
}

impl Window {
    /// A window for `publishers`, each with `in_flight` messages in flight. The limits were checked before, so there is
    /// memory for it.
    pub(crate) fn new(publishers: usize, in_flight: usize) -> Window {
        let len = window_slots(in_flight).expect("the limits were checked");
        Window {
            counts: vec![0; publishers * len],
            len: len as u64,
            heads: vec![NOBODY; publishers],
            receivers: vec![0; publishers],
            touched: Vec::new(),
            is_touched: vec![false; publishers],
        }
    }

    /// Adds a connection that must receive all messages of a publisher from number `sent` on.
    pub(crate) fn add_receiver(&mut self, publisher: usize, sent: u64) {
        if self.receivers[publisher] == 0 {
            self.heads[publisher] = sent;
        }
        self.receivers[publisher] += 1;
    }

    /// Removes a connection that is done with all messages before number `next`.
    pub(crate) fn remove_receiver(&mut self, publisher: usize, next: u64) {
        self.receivers[publisher] -= 1;
        if self.receivers[publisher] == 0 {
            self.heads[publisher] = NOBODY;
            let start = self.slot(publisher, 0) & !(self.len as usize - 1);
            self.counts[start..start + self.len as usize].fill(0);
        } else {
            for sequence in self.heads[publisher]..next {
                let slot = self.slot(publisher, sequence);
                self.counts[slot] = self.counts[slot].saturating_sub(1);
            }
        }
        self.touch(publisher);
    }

    /// Notes that a connection has received a message, or will never receive it.
    #[inline]
    pub(crate) fn on_received(&mut self, publisher: usize, sequence: u64) {
        let head = self.heads[publisher];
        if sequence.wrapping_sub(head) >= self.len {
            return;
        }
        let slot = self.slot(publisher, sequence);
        self.counts[slot] += 1;
        if self.counts[slot] >= self.receivers[publisher] && sequence == head {
            self.touch(publisher);
        }
    }

    /// Moves the heads. Calls `on_moved` with each publisher whose head may have moved, and with its head.
    pub(crate) fn settle(&mut self, mut on_moved: impl FnMut(usize, u64)) {
        while let Some(publisher) = self.touched.pop() {
            let publisher = publisher as usize;
            self.is_touched[publisher] = false;
            if self.heads[publisher] != NOBODY {
                self.advance(publisher);
            }
            on_moved(publisher, self.heads[publisher]);
        }
    }

    /// Gives up the messages before number `sent`: they count as received.
    pub(crate) fn forgive(&mut self, publisher: usize, sent: u64) {
        if self.heads[publisher] == NOBODY {
            return;
        }
        self.heads[publisher] = sent;
        let start = self.slot(publisher, 0) & !(self.len as usize - 1);
        self.counts[start..start + self.len as usize].fill(0);
        self.touch(publisher);
    }

    /// Marks all publishers, so that the next [`Window::settle`] tells of all.
    pub(crate) fn touch_all(&mut self) {
        (0..self.heads.len()).for_each(|publisher| self.touch(publisher));
    }

    /// The first message that somebody on this thread has not received; `u64::MAX` if nobody waits for any.
    pub(crate) fn head(&self, publisher: usize) -> u64 {
        self.heads[publisher]
    }

    fn advance(&mut self, publisher: usize) {
        loop {
            let slot = self.slot(publisher, self.heads[publisher]);
            if self.counts[slot] < self.receivers[publisher] {
                break;
            }
            self.counts[slot] = 0;
            self.heads[publisher] += 1;
        }
    }

    #[inline]
    fn slot(&self, publisher: usize, sequence: u64) -> usize {
        publisher * self.len as usize + (sequence & (self.len - 1)) as usize
    }

    fn touch(&mut self, publisher: usize) {
        if !self.is_touched[publisher] {
            self.is_touched[publisher] = true;
            self.touched.push(publisher as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_after(window: &mut Window) -> u64 {
        window.settle(|_, _| {});
        window.head(0)
    }

    #[test]
    fn a_message_is_in_flight_until_the_last_has_it() {
        let mut window = Window::new(1, 4);
        window.add_receiver(0, 0);
        window.add_receiver(0, 0);
        for sequence in 0..3 {
            window.on_received(0, sequence);
        }
        assert_eq!(head_after(&mut window), 0);
        window.on_received(0, 0);
        assert_eq!(head_after(&mut window), 1);
        window.on_received(0, 1);
        window.on_received(0, 2);
        assert_eq!(head_after(&mut window), 3);
    }

    #[test]
    fn a_connection_that_leaves_is_no_longer_waited_for() {
        let mut window = Window::new(2, 4);
        window.add_receiver(0, 0);
        window.add_receiver(0, 0);
        window.on_received(0, 0);
        window.on_received(0, 1);
        window.remove_receiver(0, 0);
        assert_eq!(head_after(&mut window), 2);
        window.remove_receiver(0, 2);
        assert_eq!(head_after(&mut window), NOBODY);
        assert_eq!(window.head(1), NOBODY);
    }

    #[test]
    fn messages_of_a_connection_that_left_count_for_nobody_else() {
        let mut window = Window::new(1, 4);
        window.add_receiver(0, 0);
        window.add_receiver(0, 0);
        window.on_received(0, 0);
        window.remove_receiver(0, 1);
        assert_eq!(head_after(&mut window), 0);
        window.on_received(0, 0);
        assert_eq!(head_after(&mut window), 1);
    }

    #[test]
    fn forgiven_messages_are_not_waited_for_and_may_still_come() {
        let mut window = Window::new(1, 2);
        window.add_receiver(0, 0);
        window.forgive(0, 2);
        assert_eq!(head_after(&mut window), 2);
        window.on_received(0, 0);
        window.on_received(0, 2);
        assert_eq!(head_after(&mut window), 3);
    }
}
