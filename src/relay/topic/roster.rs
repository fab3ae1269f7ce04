//! The members of a topic on one shard, and whose turn it is to be flushed.
//!
//! A round visits each member once after what was appended last. It may be spread over turns: a member that is visited
//! late is sent more at once, which is what makes one write carry many messages. What is appended meanwhile starts the
//! round anew from where it is, so that nobody is visited twice before everybody has been once.

use arrayvec::ArrayVec;

use crate::ids::ClientKey;
use crate::time::Timestamp;

/// Members that got another place because one left.
pub type Moved = ArrayVec<(ClientKey, u32), 2>;

/// See the module.
#[derive(Debug, Default)]
pub struct Roster {
    members: Vec<ClientKey>,
    /// The place that is visited next.
    next: u32,
    /// Members still to be visited: those from `next` on, round the end of the list.
    left: u32,
    /// When the earliest message that the round carries was decoded.
    oldest: Option<Timestamp>,
    /// Members visited since everybody had been.
    visited: u32,
    /// The log's end when everybody had been visited last.
    pass_start_bytes: u64,
    /// The log's end when everybody had been visited the time before.
    last_pass_start_bytes: u64,
}

impl Roster {
    /// The members, in no order that means anything.
    pub fn members(&self) -> &[ClientKey] {
        &self.members
    }

    /// Takes in a member and returns its place in the list.
    pub fn add(&mut self, client: ClientKey) -> u32 {
        self.members.push(client);
        if self.left > 0 {
            // Its place may lie between those that are still to be visited: the round must not end one of them early.
            self.left += 1;
        }
        self.last() as u32
    }

    /// Removes the member at `place`. A gap is filled from the end of the list, in such a way that whoever was still to
    /// be visited still is, and at most one of those who were is again.
    pub fn remove(&mut self, place: u32) -> Moved {
        let mut moved = Moved::new();
        let mut gap = place as usize;
        if self.next as usize >= self.members.len() {
            self.next = 0;
        }
        if self.awaits(gap) {
            // Unless the gap is filled by one that had been visited, which then is visited again.
            self.left -= u32::from(self.awaits(self.last()));
        } else if self.awaits(self.last()) && gap < self.next as usize {
            // The last member would be passed over in the gap. Right before `next` it is not, once `next` is there.
            self.next -= 1;
            let visited = self.next as usize;
            if visited != gap {
                self.members[gap] = self.members[visited];
                moved.push((self.members[gap], gap as u32));
            }
            gap = visited;
        }
        self.members.swap_remove(gap);
        if let Some(&filler) = self.members.get(gap) {
            moved.push((filler, gap as u32));
        }
        if self.members.is_empty() {
            self.members.shrink_to_fit();
        }
        moved
    }

    fn last(&self) -> usize {
        self.members.len() - 1
    }

    /// Whether the member at `place` is still to be visited.
    fn awaits(&self, place: usize) -> bool {
        let len = self.members.len();
        (place + len - self.next as usize) % len < self.left as usize
    }

    /// Starts a round, or starts it anew from where it is, because something is about to be appended to a log that ends
    /// at `end_bytes`. `decoded_at` is the moment that the latency counts from.
    pub fn start_round(&mut self, decoded_at: Timestamp, end_bytes: u64) {
        if self.left == 0 {
            self.visited = 0;
            self.pass_start_bytes = end_bytes;
            self.last_pass_start_bytes = end_bytes;
        }
        self.left = self.members.len() as u32;
        let oldest = self
            .oldest
            .map_or(decoded_at, |oldest| oldest.min(decoded_at));
        self.oldest = Some(oldest);
    }

    /// Whether members are still to be visited.
    pub fn is_round_open(&self) -> bool {
        self.left > 0
    }

    /// The next member of the round. `end_bytes` is where the log ends.
    pub fn next_in_round(&mut self, end_bytes: u64) -> Option<ClientKey> {
        self.left = self.left.checked_sub(1)?;
        if self.next as usize >= self.members.len() {
            self.next = 0;
        }
        let client = self.members.get(self.next as usize).copied();
        self.next += 1;
        self.visited += 1;
        if self.visited as usize >= self.members.len() {
            self.visited = 0;
            self.last_pass_start_bytes = self.pass_start_bytes;
            self.pass_start_bytes = end_bytes;
        }
        client
    }

    /// Once the round is over: when the earliest of its messages was decoded. Told once.
    pub fn take_round_start(&mut self) -> Option<Timestamp> {
        if self.is_round_open() {
            return None;
        }
        self.oldest.take()
    }

    /// The most that a member lags because it has not been visited yet, whatever its socket takes; the log ends at
    /// `end_bytes`.
    pub fn unvisited_bytes(&self, end_bytes: u64) -> u64 {
        if !self.is_round_open() {
            return 0;
        }
        end_bytes - self.last_pass_start_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: u32) -> ClientKey {
        ClientKey {
            slot,
            generation: 0,
        }
    }

    fn roster_of(members: u32) -> Roster {
        let mut roster = Roster::default();
        for slot in 0..members {
            roster.add(client(slot));
        }
        roster
    }

    fn visit(roster: &mut Roster, most: usize) -> Vec<u32> {
        std::iter::from_fn(|| roster.next_in_round(0))
            .take(most)
            .map(|client| client.slot)
            .collect()
    }

    #[test]
    fn a_round_visits_every_member_once() {
        let mut roster = roster_of(3);
        roster.start_round(Timestamp(1), 0);
        assert_eq!(visit(&mut roster, 9), [0, 1, 2]);
        assert_eq!(roster.take_round_start(), Some(Timestamp(1)));
        assert_eq!(roster.take_round_start(), None);
    }

    #[test]
    fn what_is_appended_during_a_round_reaches_those_already_visited() {
        let mut roster = roster_of(3);
        roster.start_round(Timestamp(1), 0);
        assert_eq!(visit(&mut roster, 2), [0, 1]);
        roster.start_round(Timestamp(2), 0);
        assert_eq!(visit(&mut roster, 9), [2, 0, 1]);
        assert_eq!(roster.take_round_start(), Some(Timestamp(1)));
    }

    #[test]
    fn a_member_that_joins_during_a_round_takes_nobodys_turn() {
        let mut roster = roster_of(3);
        roster.start_round(Timestamp(1), 0);
        assert_eq!(visit(&mut roster, 2), [0, 1]);
        roster.start_round(Timestamp(2), 0);
        assert_eq!(visit(&mut roster, 1), [2]);
        roster.add(client(3));
        assert_eq!(visit(&mut roster, 9), [3, 0, 1]);
    }

    /// Whoever leaves at whatever point of a round, and wherever the round began: those that had not been visited are,
    /// at most one of the others is visited again, and everybody's place is known.
    #[test]
    fn a_departure_during_a_round_leaves_nobody_out_and_does_not_begin_it_anew() {
        const MEMBERS: u32 = 6;
        let cases = (0..MEMBERS).flat_map(|offset| {
            (0..=MEMBERS)
                .flat_map(move |visits| (0..MEMBERS).map(move |gone| (offset, visits, gone)))
        });
        for (offset, visits, gone) in cases {
            let mut roster = roster_of(MEMBERS);
            roster.start_round(Timestamp(1), 0);
            visit(&mut roster, offset as usize);
            roster.start_round(Timestamp(1), 0);
            let visited = visit(&mut roster, visits as usize);
            let mut places: Vec<u32> = (0..MEMBERS).collect();
            for (client, place) in roster.remove(gone) {
                places[client.slot as usize] = place;
            }
            for slot in (0..MEMBERS).filter(|&slot| slot != gone) {
                let place = places[slot as usize] as usize;
                assert_eq!(roster.members()[place], client(slot));
            }
            let after = visit(&mut roster, 99);
            let case = format!("offset {offset}, {visits} visits, {gone} leaves");
            for slot in (0..MEMBERS).filter(|&slot| slot != gone && !visited.contains(&slot)) {
                assert!(after.contains(&slot), "{case}: {slot} is left out");
            }
            let again = after.iter().filter(|slot| visited.contains(slot)).count();
            assert!(again <= 1, "{case}: {again} are visited again");
        }
    }

    #[test]
    fn what_members_lag_for_want_of_a_visit_is_what_came_in_two_passes_at_most() {
        let mut roster = roster_of(2);
        let mut end_bytes = 0;
        for _ in 0..10 {
            roster.start_round(Timestamp(1), end_bytes);
            end_bytes += 100;
            assert!(roster.next_in_round(end_bytes).is_some());
        }
        // The round has never ended, and yet everybody has been visited within the last two steps.
        assert!(roster.unvisited_bytes(end_bytes) >= 100);
        assert!(roster.unvisited_bytes(end_bytes) <= 400);
        while roster.next_in_round(end_bytes).is_some() {}
        assert_eq!(roster.unvisited_bytes(end_bytes), 0);
    }
}
