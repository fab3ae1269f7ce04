//! The closed loop's book: which messages everybody on this thread has received.
//!
//! A message is in flight until the last of those who stay has it. Each thread counts, for each message in flight, how many
//! of its connections have it; the publisher may go on when all threads are done with it.

use crate::scenario::plan::window_slots;

/// A publisher whose messages nobody on this thread waits for.
const NOBODY: u64 = u64::MAX;

/// What one thread's connections have received, by publisher.
#[derive(Debug)]
pub(crate) struct Window {
    /// Counts by publisher and by sequence number, the latter modulo `len`.
    counts: Vec<u32>,
    /// A power of two: at least as many as there may be in flight.
    len: u64,
    /// By publisher: the first message that somebody has not received.
    heads: Vec<u64>,
    /// By publisher: how many connections must receive each message.
    receivers: Vec<u32>,
    /// Publishers whose head may have moved.
    touched: Vec<u32>,
    is_touched: Vec<bool>,
}

impl Window {
    /// A book for so many publishers with so many messages in flight each. The limits have been checked: there is memory.
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

    /// One more connection that must have all of a publisher's messages, the next of which is `sent`.
    pub(crate) fn add_receiver(&mut self, publisher: usize, sent: u64) {
        if self.receivers[publisher] == 0 {
            self.heads[publisher] = sent;
        }
        self.receivers[publisher] += 1;
    }

    /// A connection is gone that had received, or will never receive, what is before `next`.
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

    /// One of the connections has received a message, or will never receive it.
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

    /// Moves the heads; tells of each publisher whose head has moved, and where it is now.
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

    /// Waits no longer for what has not come by now: up to `sent` all is taken for received.
    pub(crate) fn forgive(&mut self, publisher: usize, sent: u64) {
        if self.heads[publisher] == NOBODY {
            return;
        }
        self.heads[publisher] = sent;
        let start = self.slot(publisher, 0) & !(self.len as usize - 1);
        self.counts[start..start + self.len as usize].fill(0);
        self.touch(publisher);
    }

    /// Has all publishers be told of when the heads are settled next.
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
    fn whoever_leaves_is_no_longer_waited_for() {
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
    fn what_one_who_left_had_received_counts_for_nobody_else() {
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
    fn what_is_forgiven_is_not_waited_for_and_may_still_come() {
        let mut window = Window::new(1, 2);
        window.add_receiver(0, 0);
        window.forgive(0, 2);
        assert_eq!(head_after(&mut window), 2);
        window.on_received(0, 0);
        window.on_received(0, 2);
        assert_eq!(head_after(&mut window), 3);
    }
}
