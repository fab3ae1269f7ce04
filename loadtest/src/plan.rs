//! Options made into a plan: which connection belongs to which topic and thread, and does what. Options that contradict
//! each other end here, each with a sentence that says what to do.

use std::net::Ipv4Addr;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::check::Place;
use crate::clock::{SECOND, nanos, whole};
use crate::message::{Format, MAX_DUE, MAX_PUBLISHERS};
use crate::options::{Opcode, Options, Pace, Scenario};
use crate::target::Target;
use crate::window::Window;

/// Messages that each publisher has in flight, when nothing is said.
const DEFAULT_WINDOW: usize = 64;

/// A soak's messages a second, when nothing is said.
const SOAK_RATE: f64 = 1_000.0;

/// The largest payload: what many relays and all of our own buffers can bear.
const MAX_PAYLOAD: u64 = 64 << 20;

/// The most source addresses: a /16.
const MAX_SOURCES: u32 = 1 << 16;

/// Counts of messages in flight, of all publishers and threads together: four bytes each, 1 GiB.
const MAX_COUNTS: usize = 1 << 28;

/// Bytes of messages that publishers have ready.
const MAX_FRAME_BYTES: u64 = 4 << 30;

/// Threads: more are no help.
const MAX_THREADS: usize = 1024;

/// Pairs of a publisher and a member of its topic: 8 bytes each, 2 GiB.
const MAX_NUMBERS: u64 = 1 << 28;

/// How long is waited for what is owed, at least and at most.
const MIN_PATIENCE: Duration = Duration::from_millis(100);
const MAX_PATIENCE: Duration = Duration::from_mins(10);

/// How long the quiet part of a round is at least: the next is announced in it.
const MIN_EVERY: Duration = Duration::from_millis(5);

/// What a connection is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Stays from the beginning to the end; the closed loop waits for it.
    Steady,
    /// Stops reading now and then.
    Slow,
    /// Drops at the beginning of each round, and returns.
    Returning,
    /// Comes for a while.
    Passing,
}

/// A connection that there is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Its topic.
    pub(crate) topic: u32,
    /// Whether it sends, and as which publisher.
    pub(crate) publisher: Option<u32>,
    /// What it is there for.
    pub(crate) kind: Kind,
    /// Whether it notes the order in its topic, for those that are not there all the time.
    pub(crate) records: bool,
    /// The address it connects from, by its place in the list.
    pub(crate) source: usize,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) target: Target,
    pub(crate) threads: usize,
    /// Whether threads never sleep.
    pub(crate) busy_poll: bool,
    pub(crate) topics: usize,
    pub(crate) active_topics: usize,
    pub(crate) format: Format,
    pub(crate) pace: Option<Pace>,
    /// By thread: the connections that there are to be from the beginning.
    pub(crate) wanted: Vec<Vec<Wanted>>,
    /// By publisher: where it sends.
    pub(crate) places: Vec<Place>,
    /// By topic: its publishers, in the order of their numbers there.
    pub(crate) publishers_by_topic: Vec<Vec<u32>>,
    pub(crate) sources: Vec<Ipv4Addr>,
    /// Handshakes in flight on one thread.
    pub(crate) connecting_per_thread: usize,
    pub(crate) warmup: u64,
    pub(crate) duration: u64,
    /// Without a delivery for so long, what is owed is lost.
    pub(crate) patience: u64,
    /// Churn: nanoseconds between two arrivals on one thread.
    pub(crate) arrival_interval: u64,
    pub(crate) stall: u64,
    /// By publisher: messages of a burst.
    pub(crate) burst: Vec<u64>,
    /// Time between rounds.
    pub(crate) every: u64,
    /// Whether the relay sends publishers their own messages; the probe has found out.
    pub(crate) echo: bool,
}

impl Plan {
    /// Makes the plan. `nonce` tells the messages of this run from all others.
    pub(crate) fn new(options: &Options, nonce: u64) -> Result<Plan, String> {
        check(options)?;
        if options.threads > MAX_THREADS {
            return Err(format!("--threads: at most {MAX_THREADS}"));
        }
        let target = Target::parse(&options.url).map_err(|why| format!("--url {why}"))?;
        let opcode = if options.text {
            Opcode::Text
        } else {
            Opcode::Binary
        };
        let threads = threads(options);
        let active_topics = active_topics(options)?;
        let mut plan = Plan {
            scenario: options.scenario,
            target,
            threads,
            busy_poll: options.busy_poll,
            topics: options.topics,
            active_topics,
            format: Format::new(size(options, opcode)?, opcode, nonce),
            pace: pace(options),
            wanted: vec![Vec::new(); threads],
            places: Vec::new(),
            publishers_by_topic: vec![Vec::new(); options.topics],
            sources: sources(&options.source_ips)?,
            connecting_per_thread: (options.connecting / threads).max(1),
            warmup: nanos(options.warmup),
            duration: nanos(options.duration),
            patience: nanos(options.patience),
            arrival_interval: whole(SECOND as f64 * threads as f64 / options.churn_rate),
            stall: nanos(options.stall),
            burst: Vec::new(),
            every: nanos(options.every),
            echo: false,
        };
        plan.add_subscribers(options)?;
        if options.scenario != Scenario::Idle && options.scenario != Scenario::Chat {
            plan.add_publishers(options.publishers)?;
        }
        plan.share_burst(options)?;
        plan.check_books()?;
        Ok(plan)
    }

    /// Each member of a topic keeps a number for each publisher there.
    fn check_books(&self) -> Result<(), String> {
        let mut numbers = 0;
        for wanted in self.wanted.iter().flatten() {
            numbers += self.publishers_by_topic[wanted.topic as usize].len() as u64;
        }
        if numbers > MAX_NUMBERS {
            return Err(format!(
                "{numbers} pairs of a publisher and a member: checking them needs {} GiB, and there may be {MAX_NUMBERS}; \
                 ask for fewer, or spread them over more --topics",
                numbers.div_ceil(1 << 27)
            ));
        }
        let publishers = self.places.len();
        let in_flight = self.window().unwrap_or(0);
        let counts = Window::counts(publishers, in_flight);
        let counts = counts.and_then(|counts| counts.checked_mul(self.threads));
        if counts.is_none_or(|counts| counts > MAX_COUNTS) {
            return Err(format!(
                "{in_flight} messages in flight of each of {publishers} publishers, counted on {} threads: that needs more \
                 than {} GiB; ask for fewer",
                self.threads,
                MAX_COUNTS >> 28
            ));
        }
        let frames = (publishers as u64).saturating_mul(self.format.size() as u64);
        if frames > MAX_FRAME_BYTES {
            return Err(format!(
                "{publishers} publishers with messages of {} bytes: each has one ready, and that may take {} MiB together",
                self.format.size(),
                MAX_FRAME_BYTES >> 20
            ));
        }
        Ok(())
    }

    /// Topics that somebody sends to: no more than there are publishers.
    pub(crate) fn topics_with_publishers(&self) -> usize {
        let of_topics = self.publishers_by_topic.iter();
        of_topics
            .filter(|publishers| !publishers.is_empty())
            .count()
    }

    /// Connections that there are to be from the beginning.
    pub(crate) fn connections(&self) -> usize {
        self.wanted.iter().map(Vec::len).sum()
    }

    /// The most connections at a time.
    pub(crate) fn most_connections(&self) -> usize {
        let passing = match self.scenario {
            // Each stays for less than a second.
            Scenario::Churn => (SECOND / self.arrival_interval.max(1) + 1) as usize * self.threads,
            _ => 0,
        };
        self.connections() + passing
    }

    /// Whether there are connections that are not there all the time, so that the order has to be recorded.
    pub(crate) fn has_partial_members(&self) -> bool {
        match self.scenario {
            Scenario::Churn | Scenario::Slow | Scenario::Reconnect => true,
            Scenario::Fanout
            | Scenario::Chat
            | Scenario::Idle
            | Scenario::Burst
            | Scenario::Soak => false,
        }
    }

    /// Whether somebody sends and nobody else is there to receive it.
    pub(crate) fn has_lonely_publisher(&self) -> bool {
        let mut members = vec![0_usize; self.topics];
        for wanted in self.wanted.iter().flatten() {
            members[wanted.topic as usize] += 1;
        }
        let topics = self.publishers_by_topic.iter().zip(members);
        topics
            .clone()
            .any(|(publishers, members)| !publishers.is_empty() && members < 2)
    }

    /// Messages in flight at most, per publisher, in a closed loop.
    pub(crate) fn window(&self) -> Option<usize> {
        let largest_burst = self.burst.iter().max();
        match (largest_burst, self.pace) {
            (Some(largest), _) => Some(*largest as usize),
            (None, Some(Pace::Window(window))) => Some(window),
            (None, Some(Pace::Rate(_)) | None) => None,
        }
    }

    /// When the message of this number of a publisher is due, in nanoseconds after the load began: the publishers take
    /// turns.
    pub(crate) fn due(&self, publisher: u32, sequence: u64, rate: f64) -> u64 {
        let turn = sequence * self.places.len() as u64 + u64::from(publisher);
        whole(turn as f64 * (SECOND as f64 / rate))
    }

    /// How many messages of a publisher are due before so many nanoseconds after the load began.
    pub(crate) fn due_before(&self, publisher: u32, nanos: u64, rate: f64) -> u64 {
        let turns = nanos as f64 * (rate / SECOND as f64);
        let mut count = whole(turns / self.places.len().max(1) as f64);
        // What the division has rounded away is one message at most, either way.
        while count > 0 && self.due(publisher, count - 1, rate) >= nanos {
            count -= 1;
        }
        while self.due(publisher, count, rate) < nanos {
            count += 1;
        }
        count
    }

    fn add_subscribers(&mut self, options: &Options) -> Result<(), String> {
        let per_topic = options.subscribers / self.topics;
        for index in 0..options.subscribers {
            let topic = index % self.topics;
            let place = index / self.topics;
            let kind = match options.scenario {
                Scenario::Slow if is_slow(place, options.slow_share) => Kind::Slow,
                Scenario::Reconnect if place > 0 => Kind::Returning,
                _ => Kind::Steady,
            };
            let publisher = (options.scenario == Scenario::Chat && topic < self.active_topics)
                .then(|| self.new_publisher(topic));
            // The first of a topic is never one that stalls or drops.
            self.add(Wanted {
                topic: topic as u32,
                publisher,
                kind,
                records: place == 0 && self.has_partial_members(),
                source: index,
            });
        }
        if self.has_partial_members() && per_topic < 2 {
            return Err(format!(
                "--subscribers {}: this scenario needs two or more in each topic, one of which stays to tell the order",
                options.subscribers
            ));
        }
        check_publishers(self.places.len())
    }

    fn add_publishers(&mut self, publishers: usize) -> Result<(), String> {
        check_publishers(publishers)?;
        for index in 0..publishers {
            let topic = index % self.active_topics;
            let publisher = self.new_publisher(topic);
            self.add(Wanted {
                topic: topic as u32,
                publisher: Some(publisher),
                kind: Kind::Steady,
                records: false,
                source: index + self.sources.len() / 2,
            });
        }
        Ok(())
    }

    fn new_publisher(&mut self, topic: usize) -> u32 {
        let publisher = self.places.len() as u32;
        let of_topic = &mut self.publishers_by_topic[topic];
        self.places.push(Place {
            topic: topic as u32,
            local: of_topic.len() as u32,
        });
        of_topic.push(publisher);
        publisher
    }

    /// Puts a connection on the next thread; members of one topic are on all threads.
    fn add(&mut self, wanted: Wanted) {
        let index = self.connections();
        let thread = (index + index / self.topics) % self.threads;
        self.wanted[thread].push(wanted);
    }

    fn share_burst(&mut self, options: &Options) -> Result<(), String> {
        if options.scenario != Scenario::Burst {
            return Ok(());
        }
        let publishers = self.places.len();
        if options.burst < publishers {
            return Err(format!(
                "--burst {}: fewer messages than the {publishers} publishers; each sends at least one",
                options.burst
            ));
        }
        self.burst = (0..publishers)
            .map(|index| {
                let more = usize::from(index < options.burst % publishers);
                (options.burst / publishers + more) as u64
            })
            .collect();
        Ok(())
    }
}

/// Whether the member of this place in its topic stalls: the share is spread evenly, and the first never does.
fn is_slow(place: usize, share: f64) -> bool {
    let until = |place: usize| (place as f64 * share + 1e-9).floor();
    place > 0 && until(place + 1) > until(place)
}

/// The numbers that make no sense on their own or together.
fn check(options: &Options) -> Result<(), String> {
    let at_least_one = [
        ("--subscribers", options.subscribers),
        ("--topics", options.topics),
        ("--connecting", options.connecting),
        ("--publishers", options.publishers),
        ("--window", options.window.unwrap_or(1)),
    ];
    for (name, value) in at_least_one {
        if value == 0 {
            let hint = if name == "--publishers" {
                "; for connections that say nothing there is the scenario idle"
            } else {
                ""
            };
            return Err(format!("{name} 0: it must be 1 or more{hint}"));
        }
    }
    if options.topics > options.subscribers {
        return Err(format!(
            "--topics {}: more than the {} subscribers; each topic needs one",
            options.topics, options.subscribers
        ));
    }
    if options
        .rate
        .is_some_and(|rate| !(rate > 0.0 && rate <= 1e9))
    {
        return Err("--rate: it must be above 0 and at most 1000000000 messages a second".into());
    }
    if options.rate.is_some() && options.window.is_some() {
        return Err("--rate and --window: the one is an open loop, the other a closed one".into());
    }
    if options.scenario == Scenario::Churn
        && !(options.churn_rate > 0.0 && options.churn_rate <= 1e5)
    {
        return Err("--churn-rate: it must be above 0 and at most 100000 a second".into());
    }
    if options.scenario == Scenario::Slow && !(options.slow_share > 0.0 && options.slow_share < 1.0)
    {
        return Err(
            "--slow-share: it must be above 0 and below 1; somebody must keep up to tell the order"
                .into(),
        );
    }
    if options.scenario == Scenario::Slow && options.stall < Duration::from_millis(1) {
        return Err("--stall: it must be 1ms or more".into());
    }
    let has_rounds = matches!(options.scenario, Scenario::Burst | Scenario::Reconnect);
    if has_rounds && options.every < MIN_EVERY {
        return Err("--every: it must be 5ms or more".into());
    }
    if options.duration.is_zero() {
        return Err("--duration 0: there is nothing to measure".into());
    }
    if options.patience < MIN_PATIENCE || options.patience > MAX_PATIENCE {
        return Err("--patience: from 100ms to 10m".into());
    }
    if nanos(options.duration).saturating_add(nanos(options.warmup)) > MAX_DUE / 2 {
        return Err("--duration and --warmup: more than a day and a half".into());
    }
    Ok(())
}

fn check_publishers(publishers: usize) -> Result<(), String> {
    if publishers > MAX_PUBLISHERS {
        return Err(format!(
            "{publishers} publishers: at most {MAX_PUBLISHERS} can be told apart"
        ));
    }
    Ok(())
}

fn threads(options: &Options) -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    match options.threads {
        0 => cores.saturating_sub(1).max(1),
        threads => threads,
    }
}

fn active_topics(options: &Options) -> Result<usize, String> {
    if !(options.active > 0.0 && options.active <= 1.0) {
        return Err("--active: it must be above 0 and at most 1".into());
    }
    if options.scenario == Scenario::Idle {
        return Ok(0);
    }
    let active = whole((options.topics as f64 * options.active).round());
    Ok((active as usize).max(1))
}

fn size(options: &Options, opcode: Opcode) -> Result<usize, String> {
    let (size, least) = (options.size.as_u64(), Format::min_size(opcode));
    if size < least as u64 {
        let kind = match opcode {
            Opcode::Text => "text",
            Opcode::Binary => "binary",
        };
        return Err(format!(
            "--size {size}: a {kind} message must have {least} bytes or more, or it could not be checked"
        ));
    }
    if size > MAX_PAYLOAD {
        return Err(format!("--size {size}: at most {MAX_PAYLOAD} bytes"));
    }
    Ok(size as usize)
}

fn pace(options: &Options) -> Option<Pace> {
    match options.scenario {
        Scenario::Idle | Scenario::Burst => None,
        Scenario::Soak if options.window.is_none() => {
            Some(Pace::Rate(options.rate.unwrap_or(SOAK_RATE)))
        }
        Scenario::Fanout
        | Scenario::Chat
        | Scenario::Churn
        | Scenario::Slow
        | Scenario::Reconnect
        | Scenario::Soak => Some(match options.rate {
            Some(rate) => Pace::Rate(rate),
            None => Pace::Window(options.window.unwrap_or(DEFAULT_WINDOW)),
        }),
    }
}

/// The addresses of a list, in which `a-b` stands for all from `a` to `b`.
fn sources(texts: &[String]) -> Result<Vec<Ipv4Addr>, String> {
    let parse = |text: &str| {
        text.trim()
            .parse::<Ipv4Addr>()
            .map_err(|_| format!("--source-ips: {text} is no IPv4 address"))
    };
    let mut sources = Vec::new();
    for text in texts {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (parse(first)?.to_bits(), parse(last)?.to_bits());
        if last < first || last - first >= MAX_SOURCES {
            return Err(format!(
                "--source-ips {text}: a range goes up, by {MAX_SOURCES} at most"
            ));
        }
        sources.extend((first..=last).map(Ipv4Addr::from_bits));
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let line = format!("loadtest --url ws://127.0.0.1:1/ {line}");
        let matches = crate::cli::command()
            .try_get_matches_from(line.split(' '))
            .unwrap();
        let arguments = crate::cli::RunArguments::from_arg_matches(&matches).unwrap();
        Plan::new(&arguments.options, 1)
    }

    #[test]
    fn what_would_need_more_memory_than_there_is_is_refused_before_it_is_asked_for() {
        for (line, what) in [
            ("--window 18446744073709551615", "in flight"),
            (
                "--window 200000000 --threads 2",
                "counted on 2 threads: that needs more than 1 GiB; ask for fewer",
            ),
            // Each has as many as the next power of two: half as many again.
            ("--window 700000 --publishers 300 --threads 1", "than 1 GiB"),
            ("burst --burst 1000000000000", "in flight"),
            ("--publishers 10000 --size 64MiB", "67108864 bytes"),
            ("--threads 1025", "at most 1024"),
        ] {
            let error = plan(line).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
        assert!(plan("--window 200000000 --threads 1").is_ok());
        assert!(plan("--window 700000 --publishers 256 --threads 1").is_ok());
    }

    #[test]
    fn what_is_due_before_a_time_is_counted_to_the_message() {
        let plan = plan("--publishers 3 --rate 700").unwrap();
        for publisher in 0..3 {
            for rate in [0.3, 700.0, 1e8] {
                for nanos in [0, 1, 999_999, SECOND, 3600 * SECOND] {
                    let count = plan.due_before(publisher, nanos, rate);
                    assert!(plan.due(publisher, count, rate) >= nanos);
                    assert!(count == 0 || plan.due(publisher, count - 1, rate) < nanos);
                }
            }
        }
    }
}
