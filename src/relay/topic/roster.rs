//! The members of a topic on one shard, and the order in which they are flushed.
//!
//! A round visits each member once after the newest batch. It may take several turns. A member visited late gets more at
//! once, so one write carries many messages. If a batch is appended during a round, the round starts anew from its
//! current place. So nobody is visited twice before everybody is visited once.
//!
//! A pass is as many visits as there are members. A round that starts anew again and again lasts many passes.

use arrayvec::ArrayVec;

use crate::ids::ClientKey;
use crate::time::Timestamp;

/// Members that got another place because one left.
pub(crate) type Moved = ArrayVec<(ClientKey, u32), 2>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    members: Vec<ClientKey>,
    /// The next place to visit.
    next: u32,
    /// Members still to visit: those from `next` on, round the end of the list.
    left: u32,
    /// The moment at which the earliest message of the round was decoded.
    oldest: Option<Timestamp>,
    /// Members visited in this pass.
    visited: u32,
    /// The log's end when this pass began.
    pass_start_bytes: u64,
    /// The log's end when the pass before it began.
    last_pass_start_bytes: u64,
}

impl Roster {
    /// The members, in no order that means anything.
    pub(crate) fn members(&self) -> &[ClientKey] {
        &self.members
    }

    /// Adds a member, and returns its place in the list.
    pub(crate) fn add(&mut self, client: ClientKey) -> u32 {
        self.members.push(client);
        if self.left > 0 {
            // The new place may lie among those still to visit. The round must not end one member early because of it.
            self.left += 1;
        }
        self.last() as u32
    }

    /// Removes the member at `place`, and fills the gap. Members still to visit stay so, and at most one other is visited
    /// again.
    pub(crate) fn remove(&mut self, place: u32) -> Moved {
        let mut moved = Moved::new();
        let mut gap = place as usize;
        if self.next as usize >= self.members.len() {
            self.next = 0;
        }
        if self.awaits(gap) {
            // The last member fills the gap. If it was visited already, it is visited again, and as many are left as before.
            self.left -= u32::from(self.awaits(self.last()));
        } else if self.awaits(self.last()) && gap < self.next as usize {
            // The last member is still to visit, and in the gap it would be passed over. So it goes right before `next`, and
            // `next` steps back to it.
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

    /// Whether the member at `place` is still to visit.
    fn awaits(&self, place: usize) -> bool {
        let len = self.members.len();
        (place + len - self.next as usize) % len < self.left as usize
    }

    /// Starts a round, or starts it anew from its current place. It is called before a batch is appended to a log that ends
    /// at `end_bytes`. Latency counts from `decoded_at`.
    pub(crate) fn start_round(&mut self, decoded_at: Timestamp, end_bytes: u64) {
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

    /// Whether there are members still to visit.
    pub(crate) fn is_round_open(&self) -> bool {
        self.left > 0
    }

    /// The next member of the round. `end_bytes` is where the log ends.
    pub(crate) fn next_in_round(&mut self, end_bytes: u64) -> Option<ClientKey> {
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

    /// Once the round is over, the moment at which its earliest message was decoded. It is handed out once.
    pub(crate) fn take_round_start(&mut self) -> Option<Timestamp> {
        if self.is_round_open() {
            return None;
        }
        self.oldest.take()
    }

    /// The most that a member lags only because it has not been visited yet; the log ends at `end_bytes`.
    pub(crate) fn unvisited_bytes(&self, end_bytes: u64) -> u64 {
        if !self.is_round_open() {
            return 0;
        }
        end_bytes - self.last_pass_start_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster_of(members: u32) -> Roster {
        let mut roster = Roster::default();
        for slot in 0..members {
            roster.add(ClientKey::first_in(slot));
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
    fn a_batch_appended_during_a_round_reaches_those_already_visited() {
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
        roster.add(ClientKey::first_in(3));
        assert_eq!(visit(&mut roster, 9), [3, 0, 1]);
    }

    /// Any member may leave, at any point of a round, from any beginning. The members not visited before are then visited, at
    /// most one other is visited again, and everybody's place is known.
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
                assert_eq!(roster.members()[place], ClientKey::first_in(slot));
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
    fn a_member_lags_for_lack_of_a_visit_by_what_came_in_two_passes_at_most() {
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
