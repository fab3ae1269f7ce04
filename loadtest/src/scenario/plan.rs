//! The plan: each connection with its topic, its thread and its part in the scenario. It is made from the options, and
//! the client works by it.

use std::net::Ipv4Addr;
use std::thread::available_parallelism;

use super::chance::Chance;
use super::message::{Format, MAX_PUBLISHERS};
use super::options::{Opcode, Options, Pace};
use super::protocol::{Protocol, Resume};
use super::refusals;
use super::scenarios::Scenario;
use super::target::Target;
use crate::clock::{SECOND, nanos, whole};

/// Messages that each publisher has in flight by default.
const DEFAULT_WINDOW: usize = 64;

/// Messages a second of a soak by default.
const SOAK_RATE: f64 = 1_000.0;

/// Messages a second of each publisher in the scenario jitter by default.
const JITTER_RATE: f64 = 10.0;

/// The most source addresses: a /16.
const MAX_SOURCES: u32 = 1 << 16;

/// Time for which a port rests, in nanoseconds.
const RESTING: u64 = 60 * SECOND;

/// The part that a connection plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Stays from the beginning to the end; the closed loop waits for it.
    Steady,
    /// Stops reading now and then.
    Slow,
    /// Drops at the beginning of each round and returns.
    Returning,
    /// Comes and goes.
    Passing,
    /// Is cut at random, comes back and goes on.
    Jittery,
    /// Publishes by POST, and is no member.
    Posting,
}

/// A connection to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Its topic.
    pub(crate) topic: u32,
    /// Whether it sends, and as which publisher.
    pub(crate) publisher: Option<u32>,
    /// Its part.
    pub(crate) kind: Kind,
    /// The way in which it speaks with the relay.
    pub(crate) protocol: Protocol,
    /// Whether it records the order of its topic. Connections that are not there all the time are compared with the record.
    pub(crate) records: bool,
    /// The address it connects from, by its place in the list.
    pub(crate) source: usize,
    /// Its number among the subscribers, from 0.
    pub(crate) client: usize,
}

/// The place of a publisher: its topic, and its number among the publishers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The topic.
    pub(crate) topic: u32,
    /// Its number there, from 0.
    pub(crate) local: u32,
}

/// The plan of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) target: Target,
    /// Other relays that are one with it.
    pub(crate) others: Vec<Target>,
    pub(crate) threads: usize,
    /// Whether threads never sleep.
    pub(crate) busy_poll: bool,
    pub(crate) topics: usize,
    pub(crate) active_topics: usize,
    pub(crate) format: Format,
    pub(crate) pace: Option<Pace>,
    /// By thread: the connections to be opened at the beginning.
    pub(crate) wanted: Vec<Vec<Wanted>>,
    /// By publisher: its place.
    pub(crate) places: Vec<Place>,
    /// By topic: its publishers, in the order of their numbers there.
    pub(crate) publishers_by_topic: Vec<Vec<u32>>,
    pub(crate) sources: Vec<Ipv4Addr>,
    /// Handshakes in flight on one thread.
    pub(crate) connecting_per_thread: usize,
    pub(crate) warmup: u64,
    pub(crate) duration: u64,
    /// Time without a delivery after which missing deliveries are lost.
    pub(crate) patience: u64,
    /// Churn: nanoseconds between two arrivals on one thread.
    pub(crate) arrival_interval: u64,
    pub(crate) stall: u64,
    /// By publisher: messages of a burst.
    pub(crate) burst: Vec<u64>,
    /// Time between rounds.
    pub(crate) every: u64,
    /// The way in which clients that come back go on.
    pub(crate) resume: Resume,
    /// Jitter: mean time until a client is cut; `None` for never.
    pub(crate) cut_every: Option<u64>,
    /// Jitter: time until a client that was cut comes back.
    pub(crate) away: u64,
    /// Jitter: time from the beginning of the measurement until all are cut at once.
    pub(crate) avalanche: Option<u64>,
    /// Jitter: its draws.
    pub(crate) chance: Chance,
    /// Requests in flight on a connection that publishes by POST.
    pub(crate) pipeline: usize,
    /// Whether publishers send by POST.
    pub(crate) posts: bool,
    /// Whether connections offer compression.
    pub(crate) deflate: bool,
    /// Whether the relay sends publishers their own messages. The probe fills it in.
    pub(crate) echo: bool,
}

impl Plan {
    /// Makes the plan. `nonce` tells the messages of this run from all others.
    pub(crate) fn new(options: &Options, nonce: u64) -> Result<Plan, String> {
        refusals::check(options)?;
        let (target, others) = targets(&options.url)?;
        let threads = threads(options);
        let active_topics = active_topics(options);
        let mut plan = Plan {
            scenario: options.scenario,
            target,
            others,
            threads,
            busy_poll: options.busy_poll,
            topics: options.topics,
            active_topics,
            format: Format::new(
                options.payload,
                options.size() as usize,
                options.opcode(),
                nonce,
            ),
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
            resume: options.resume(),
            cut_every: Some(nanos(options.cut_every)).filter(|mean| *mean > 0),
            away: nanos(options.away),
            avalanche: options.avalanche.map(nanos),
            chance: Chance { seed: options.seed },
            pipeline: options.pipeline,
            posts: options.post && options.scenario.has_publishers(),
            deflate: options.deflate,
            echo: false,
        };
        plan.add_subscribers(options)?;
        if options.scenario.has_publishers() {
            plan.add_publishers(options.publishers)?;
        }
        plan.share_burst(options)?;
        Ok(plan)
    }

    /// All relays.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.target).chain(&self.others)
    }

    /// The number of topics that have a publisher.
    pub(crate) fn topics_with_publishers(&self) -> usize {
        let of_topics = self.publishers_by_topic.iter();
        of_topics
            .filter(|publishers| !publishers.is_empty())
            .count()
    }

    /// The number of connections to be opened at the beginning.
    pub(crate) fn connections(&self) -> usize {
        self.wanted.iter().map(Vec::len).sum()
    }

    /// The head of each request of a publisher that sends by POST; `None` if it does not.
    pub(crate) fn post_head(&self, publisher: u32) -> Option<String> {
        if !self.posts {
            return None;
        }
        let topic = self.places[publisher as usize].topic;
        let target = self.target.path_and_query(topic as usize, self.topics);
        let media_type = match self.format.opcode() {
            Opcode::Text => "text/plain; charset=utf-8",
            Opcode::Binary => "application/octet-stream",
        };
        let (host, size) = (self.target.authority(), self.format.size());
        Some(format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {media_type}\r\nContent-Length: {size}\r\n\r\n"
        ))
    }

    /// The number of subscribers that read server-sent events.
    pub(crate) fn event_readers(&self) -> usize {
        let all = self.wanted.iter().flatten();
        all.filter(|wanted| wanted.protocol == Protocol::Events)
            .count()
    }

    /// The most ports that connections take at a time. A port rests for a minute when our side has ended its connection.
    /// Linux takes such a port again at once on the same machine, and not always towards another.
    pub(crate) fn most_ports(&self, is_far: bool) -> u64 {
        let all = self.most_connections() as u64;
        let Some(mean) = self
            .cut_every
            .filter(|_| is_far && self.scenario == Scenario::Jitter)
        else {
            return all;
        };
        let cuts_per_rest = all as f64 * RESTING as f64 / (mean + self.away) as f64;
        all + whole(cuts_per_rest)
    }

    /// The most connections at a time.
    pub(crate) fn most_connections(&self) -> usize {
        let passing = if self.scenario == Scenario::Churn {
            // Each stays for less than a second.
            (SECOND / self.arrival_interval.max(1) + 1) as usize * self.threads
        } else {
            0
        };
        self.connections() + passing
    }

    /// Whether a client has a story: it comes back as the same client.
    pub(crate) fn has_story(&self, wanted: &Wanted) -> bool {
        let goes_on = self.resume != Resume::None;
        match wanted.kind {
            Kind::Jittery => true,
            Kind::Returning => goes_on,
            // It is never cut, but comes back when the relay restarts. In a closed loop, publishers would wait for it.
            Kind::Steady => {
                let is_open_loop = matches!(self.pace, Some(Pace::Rate(_)));
                let is_member = wanted.publisher.is_none();
                goes_on && self.scenario == Scenario::Jitter && is_open_loop && is_member
            }
            Kind::Slow | Kind::Passing | Kind::Posting => false,
        }
    }

    /// Whether a topic has a publisher and no other member.
    pub(crate) fn has_lonely_publisher(&self) -> bool {
        if self.posts {
            return false;
        }
        let mut members = vec![0_usize; self.topics];
        for wanted in self.wanted.iter().flatten() {
            members[wanted.topic as usize] += 1;
        }
        let topics = self.publishers_by_topic.iter().zip(members);
        topics
            .clone()
            .any(|(publishers, members)| !publishers.is_empty() && members < 2)
    }

    /// The most messages that a publisher may have in flight, in a closed loop.
    pub(crate) fn window(&self) -> Option<usize> {
        let largest_burst = self.burst.iter().max();
        match (largest_burst, self.pace) {
            (Some(largest), _) => Some(*largest as usize),
            (None, Some(Pace::Window(window))) => Some(window),
            (None, Some(Pace::Rate(_)) | None) => None,
        }
    }

    /// The time at which a publisher's message is due, in nanoseconds since the load began. The publishers take turns.
    pub(crate) fn due(&self, publisher: u32, sequence: u64, rate: f64) -> u64 {
        let turn = sequence * self.places.len() as u64 + u64::from(publisher);
        whole(turn as f64 * (SECOND as f64 / rate))
    }

    /// The number of a publisher's messages that are due in the first `nanos` nanoseconds of the load.
    pub(crate) fn due_before(&self, publisher: u32, nanos: u64, rate: f64) -> u64 {
        let turns = nanos as f64 * (rate / SECOND as f64);
        let mut count = whole(turns / self.places.len().max(1) as f64);
        // The division may be wrong by one message, either way.
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
                Scenario::Jitter if place > 0 => Kind::Jittery,
                Scenario::Fanout
                | Scenario::Chat
                | Scenario::Idle
                | Scenario::Churn
                | Scenario::Slow
                | Scenario::Burst
                | Scenario::Reconnect
                | Scenario::Jitter
                | Scenario::Soak => Kind::Steady,
            };
            let publisher = (options.scenario == Scenario::Chat && topic < self.active_topics)
                .then(|| self.new_publisher(topic));
            let protocol = match self.resume {
                _ if is_among(place, options.sse) => Protocol::Events,
                Resume::Fanwire => Protocol::Positions,
                Resume::Nchan => Protocol::Meta,
                Resume::None => Protocol::WebSocket,
            };
            // The first of a topic is never one that stalls or drops.
            self.add(Wanted {
                topic: topic as u32,
                publisher,
                kind,
                protocol,
                records: place == 0 && (self.scenario.has_partial_members() || self.posts),
                source: index,
                client: index,
            });
        }
        if self.scenario.has_partial_members() && per_topic < 2 {
            return Err(format!(
                "--subscribers {}: this scenario needs two or more in each topic; one stays and records the order",
                options.subscribers
            ));
        }
        check_publishers(self.places.len())
    }

    fn add_publishers(&mut self, publishers: usize) -> Result<(), String> {
        check_publishers(publishers)?;
        let (kind, protocol) = if self.posts {
            let pipeline = self.pipeline;
            (Kind::Posting, Protocol::Post { pipeline })
        } else {
            (Kind::Steady, Protocol::WebSocket)
        };
        for index in 0..publishers {
            let topic = index % self.active_topics;
            let publisher = self.new_publisher(topic);
            self.add(Wanted {
                topic: topic as u32,
                publisher: Some(publisher),
                kind,
                protocol,
                records: false,
                source: index + self.sources.len() / 2,
                client: 0,
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

/// Places that a thread has for one publisher's messages in flight: a power of two. `None` if that is beyond counting.
pub(crate) fn window_slots(in_flight: usize) -> Option<usize> {
    in_flight.max(1).checked_next_power_of_two()
}

/// Whether a member belongs to a share, by its place in the topic. The share is spread evenly, and the first member belongs
/// to it only if all do.
fn is_among(place: usize, share: f64) -> bool {
    let until = |place: usize| (place as f64 * share + 1e-9).floor();
    until(place + 1) > until(place)
}

/// Whether a member stalls, by its place in the topic. Those that stall are spread evenly, and the first member never
/// stalls.
fn is_slow(place: usize, share: f64) -> bool {
    place > 0 && is_among(place, share)
}

fn threads(options: &Options) -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    match options.threads {
        0 => cores.saturating_sub(1).max(1),
        threads => threads,
    }
}

fn active_topics(options: &Options) -> usize {
    if !options.scenario.sends() {
        return 0;
    }
    let active = whole((options.topics as f64 * options.active).round());
    (active as usize).max(1)
}

fn check_publishers(publishers: usize) -> Result<(), String> {
    if publishers > MAX_PUBLISHERS {
        return Err(format!(
            "{publishers} publishers: at most {MAX_PUBLISHERS} can be told apart"
        ));
    }
    Ok(())
}

fn pace(options: &Options) -> Option<Pace> {
    if !options.scenario.is_paced() {
        return None;
    }
    Some(match (options.rate, options.window) {
        (Some(rate), _) => Pace::Rate(rate),
        (None, None) if options.scenario == Scenario::Soak => Pace::Rate(SOAK_RATE),
        (None, None) if options.scenario == Scenario::Jitter => {
            Pace::Rate(JITTER_RATE * options.publishers as f64)
        }
        (None, window) => Pace::Window(window.unwrap_or(DEFAULT_WINDOW)),
    })
}

/// The first relay, and others that are one with it. They have the same topics.
fn targets(urls: &[String]) -> Result<(Target, Vec<Target>), String> {
    let parsed = urls.iter().map(|url| Target::parse(url));
    let parsed = parsed.collect::<Result<Vec<_>, _>>();
    let mut targets = parsed.map_err(|why| format!("--url {why}"))?.into_iter();
    let first = targets.next().ok_or("--url: it is missing")?;
    let others: Vec<Target> = targets.collect();
    if others.iter().any(|other| !first.has_topics_of(other)) {
        return Err(
            "--url: relays that are one have the same scheme, path and query; they differ in host and port only"
                .into(),
        );
    }
    Ok((first, others))
}

/// The addresses of a list, in which `a-b` stands for all from `a` to `b`.
fn sources(texts: &[String]) -> Result<Vec<Ipv4Addr>, String> {
    let parse = |text: &str| {
        text.trim()
            .parse::<Ipv4Addr>()
            .map_err(|_| format!("--source-ips: {text} is not an IPv4 address"))
    };
    let mut sources = Vec::new();
    for text in texts {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (parse(first)?.to_bits(), parse(last)?.to_bits());
        if last < first || last - first >= MAX_SOURCES {
            return Err(format!(
                "--source-ips {text}: a range must go up, and has at most {MAX_SOURCES} addresses"
            ));
        }
        sources.extend((first..=last).map(Ipv4Addr::from_bits));
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_are_due_before_a_time_are_counted_exactly() {
        let plan = Plan::new(&Options::of_line("--publishers 3 --rate 700"), 1).unwrap();
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
