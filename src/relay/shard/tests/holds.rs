//! How long publishers are held for whom, and who is judged when: against time and members that mean it ill.

use super::*;

/// A shard and what it takes to have it visit a crowd, so many members a turn, one of which takes nothing any more.
struct Crowd {
    shard: Shard,
    stalled: ClientKey,
    budget: usize,
}

impl Crowd {
    const MEMBERS: usize = 600;

    /// A crowd whose publishers are held, because one that had read as well as all stalls.
    fn held(budget: usize) -> Crowd {
        let mut config = Config::default();
        config.limits.max_message_bytes = 125;
        config.slow_consumer.max_lag_bytes = 1 << 20;
        let mut shard = shard_with(&config);
        let publisher = join(&mut shard, "/", b"");
        let stalled = join(&mut shard, "/", b"");
        for _ in 0..Crowd::MEMBERS {
            join(&mut shard, "/", b"");
        }
        let mut crowd = Crowd {
            shard,
            stalled,
            budget,
        };
        let chunk = text(100).repeat(100);
        crowd.turns(Crowd::MEMBERS, None);
        while !crowd.is_trusted() {
            crowd.shard.on_bytes(publisher, &mut chunk.clone());
            crowd.turns(Crowd::MEMBERS, None);
        }
        while crowd.shard.permit(publisher) == Permit::Read {
            crowd.shard.on_bytes(publisher, &mut chunk.clone());
            crowd.turns(Crowd::MEMBERS, Some(stalled));
        }
        crowd
    }

    fn is_trusted(&self) -> bool {
        let client = self.shard.client(self.stalled).unwrap();
        client.member.as_ref().unwrap().is_trusted
    }

    /// As many turns as `visits` take.
    fn turns(&mut self, visits: usize, stuck: Option<ClientKey>) {
        for _ in 0..=visits / self.budget {
            turn(&mut self.shard, self.budget, stuck);
        }
    }

    /// How long publishers are held while one newcomer after the other, 20 ms apart, says a word and leaves. Between
    /// them the crowd is visited `visits` times.
    fn held_among_newcomers(mut self, visits: usize) -> Duration {
        let began = self.shard.now;
        while self.shard.stats.value(Stat::TopicsHeld) > 0 {
            assert!(self.shard.now.since(began) < Duration::from_secs(5));
            let now = self.shard.now + Duration::from_millis(20);
            self.shard.begin_turn(now);
            let newcomer = join(&mut self.shard, "/", &text(0));
            self.turns(visits, Some(self.stalled));
            self.shard.on_end(newcomer, End::Failed);
        }
        self.shard.now.since(began)
    }
}

#[test]
fn newcomers_with_a_word_to_say_do_not_prolong_the_wait_for_a_laggard() {
    // Rounds that end between two of them, and one that never does.
    for (budget, visits) in [(512, Crowd::MEMBERS), (50, 100)] {
        let held = Crowd::held(budget).held_among_newcomers(visits);
        assert!(held <= Duration::from_millis(260), "{held:?} with {budget}");
    }
}
