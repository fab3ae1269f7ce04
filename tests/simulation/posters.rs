//! Clients that post: they publish and ask by HTTP, several requests on a connection, some before the last is answered.

use fanwire::internals::ClientKey;
use fanwire::internals::relay::Shard;
use fanwire::internals::ws::frame_len;
use fanwire::server::Stat;

use crate::model::posts::{Ask, Trouble};
use crate::peer::Request;
use crate::plan::TOPICS;
use crate::stream::Answer;
use crate::tally::Event;
use crate::world::World;

/// The most requests that a client sends ahead.
const AHEAD: usize = 3;

/// Keys that are used again and again.
const KEYS: u64 = 4;

/// All shards together take `max_lag_bytes` divided by this before requests to a topic have to wait.
const WINDOW_SHARE: usize = 4;

impl World {
    /// A client queues a request.
    pub(crate) fn post_by_http(&mut self, id: usize) {
        let peer = &self.peers[id];
        let is_silent = peer.is_gone()
            || peer.has_said_goodbye
            || peer.shuts_when_sent
            || peer.pipe.is_shut_by_client()
            || peer.unsent_bytes() > 64 << 10;
        if is_silent || peer.requests_ahead >= AHEAD {
            return;
        }
        let (request, ask) = self.request();
        let peer = &mut self.peers[id];
        peer.requests_ahead += 1;
        peer.say(&request);
        let end = peer.queued_bytes;
        self.tell(|| format!("client {id} asks: {ask:?}"));
        let (step, now) = (self.step.get(), self.now);
        self.model.ask_by_http(id, end, ask, step, now);
    }

    fn request(&mut self) -> (Vec<u8>, Ask) {
        let repeatable = !self.plan.is_lossy();
        if repeatable && !self.keyed.is_empty() && self.rng.percent(20) {
            self.tally.note(Event::Repeat);
            let at = self.rng.below(self.keyed.len());
            return self.keyed[at].clone();
        }
        let key = (repeatable && self.rng.percent(30)).then(|| self.rng.next() % KEYS);
        let (head, body, mut ask) = match self.rng.below(10) {
            0 => return self.description(),
            1..3 => self.lines(),
            3..5 => self.many(),
            _ => self.single(),
        };
        ask.key = key;
        let key_field = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
        let framed = self.framed(&body);
        let head = format!("{head}Host: relay\r\n{key_field}");
        let request = [head.as_bytes(), &framed].concat();
        if key.is_some() {
            self.keyed.push((request.clone(), ask.clone()));
        }
        (request, ask)
    }

    /// The framing of a body, and the body in it.
    fn framed(&mut self, body: &[u8]) -> Vec<u8> {
        if self.rng.percent(50) {
            let head = format!("Content-Length: {}\r\n\r\n", body.len());
            return [head.as_bytes(), body].concat();
        }
        let mut framed = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut rest = body;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(self.rng.within(1..=rest.len()));
            framed.extend(format!("{:x}\r\n", chunk.len()).bytes());
            framed.extend_from_slice(chunk);
            framed.extend(b"\r\n");
            rest = after;
        }
        framed.extend(b"0\r\n\r\n");
        framed
    }

    fn single(&mut self) -> (String, Vec<u8>, Ask) {
        let topic = self.rng.below(self.plan.topics.len());
        let (is_text, payload) = self.payload();
        let kind = if is_text {
            "text/plain"
        } else {
            "application/octet-stream"
        };
        let ask = Ask {
            parts: vec![(topic, vec![payload.clone()], false)],
            is_text,
            lines: Vec::new(),
            key: None,
            describes: None,
        };
        (post_line(topic, kind), payload, ask)
    }

    fn lines(&mut self) -> (String, Vec<u8>, Ask) {
        let topic = self.rng.below(self.plan.topics.len());
        let payloads = self.small_payloads();
        let body = payloads.join(&b"\n"[..]);
        let ask = Ask {
            parts: vec![(topic, payloads, false)],
            is_text: true,
            lines: Vec::new(),
            key: None,
            describes: None,
        };
        (post_line(topic, "application/x-ndjson"), body, ask)
    }

    /// Texts of a few bytes that fit into one body with what stands around them.
    fn small_payloads(&mut self) -> Vec<Vec<u8>> {
        let most = self.plan.config.limits.max_message_bytes / 64;
        let count = self.rng.within(1..=6.min(most.max(1)));
        let first = self.model.next_message();
        (0..count)
            .map(|nth| format!("{:08x}", first + nth).into_bytes())
            .collect()
    }

    fn many(&mut self) -> (String, Vec<u8>, Ask) {
        let count = self.small_payloads().len();
        let mut number = self.model.next_message();
        let mut ask = Ask {
            parts: Vec::new(),
            is_text: true,
            lines: Vec::new(),
            key: None,
            describes: None,
        };
        // The numbers of messages go by parts, so topics are drawn first.
        let mut topics: Vec<usize> = (0..count)
            .map(|_| self.rng.below(self.plan.topics.len()))
            .collect();
        topics.sort_unstable();
        let mut body = Vec::new();
        for topic in topics {
            let is_wrong = self.rng.percent(5);
            let place = ask.parts.iter().position(|part| part.0 == topic);
            let place = place.unwrap_or_else(|| {
                ask.parts.push((topic, Vec::new(), false));
                ask.parts.len() - 1
            });
            let part = &mut ask.parts[place];
            let name = self.plan.topics[topic];
            if is_wrong {
                part.2 = true;
                ask.lines.push(None);
                body.extend(format!("{{\"topic\":\"{name}\",\"base64\":\"?\"}}\n").bytes());
                continue;
            }
            let payload = format!("{number:08x}");
            number += 1;
            ask.lines.push(Some((place, part.1.len())));
            part.1.push(payload.clone().into_bytes());
            body.extend(format!("{{\"topic\":\"{name}\",\"text\":\"{payload}\"}}\n").bytes());
        }
        (post_line(0, "application/vnd.fanwire+ndjson"), body, ask)
    }

    fn description(&mut self) -> (Vec<u8>, Ask) {
        let topic = self.rng.below(self.plan.topics.len());
        let target = TOPICS[topic].0;
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: relay\r\nAccept: application/json\r\n\r\n");
        let ask = Ask {
            parts: Vec::new(),
            is_text: true,
            lines: Vec::new(),
            key: None,
            describes: Some(topic),
        };
        (head.into_bytes(), ask)
    }

    /// The shard may have offered parts of the client's request.
    pub(crate) fn note_offers(
        &mut self,
        host: usize,
        shard: &Shard,
        key: ClientKey,
        id: usize,
        count: u64,
    ) {
        let offered = shard.offered_parts(key).expect("it has a request");
        let mut messages = 0;
        for (topic, payloads) in self.model.offer(id, host, &offered) {
            messages += payloads.len() as u64;
            self.tally.note(Event::Offer);
            if self.owns(host, topic) {
                // A shard that owns the topic tells itself what is numbered, and nobody sees that.
                continue;
            }
            let on_their_way = &mut self.outside_bytes[host][topic];
            assert!(
                *on_their_way
                    <= self.plan.config.slow_consumer.max_lag_bytes
                        / WINDOW_SHARE
                        / self.plan.shards,
                "too much is offered"
            );
            let lens = payloads.iter().map(|payload| frame_len(payload.len()));
            *on_their_way += lens.sum::<usize>();
        }
        assert_eq!(messages, count, "messages are offered in parts");
        assert!(
            !shard.is_draining() && !self.hosts[host].is_cut,
            "offered behind the fence"
        );
    }

    /// The client was sent an answer.
    pub(crate) fn note_answer(&mut self, shard: &Shard, id: usize, answer: &Answer) {
        let trouble = Trouble {
            now: self.now,
            is_ending: self.is_draining,
            is_short: shard.stats().value(Stat::BufferLimitReached) > 0,
        };
        self.tell(|| format!("client {id} is answered {answer:?}"));
        if answer.status == 503 && !trouble.is_ending && !trouble.is_short {
            self.tally.note(Event::WaitedInVain);
        }
        self.model.on_answer(id, answer, trouble);
        let peer = &mut self.peers[id];
        peer.requests_ahead = peer.requests_ahead.saturating_sub(1);
        if answer.field("Connection") == Some("close") {
            peer.has_said_goodbye = true;
        }
    }

    /// Once nothing is on its way, a client that reads has the answers to all its requests.
    pub(crate) fn check_poster_at_rest(&self, id: usize) {
        let peer = &self.peers[id];
        let is_leaving = peer.has_said_goodbye || peer.shuts_when_sent || peer.never_reads;
        if peer.request != Request::Posts || peer.is_gone() || is_leaving {
            return;
        }
        assert_eq!(peer.unsent_bytes(), 0, "client {id} is not read");
        assert!(
            peer.pipe.is_drained_by_server() && peer.transport.is_drained(),
            "client {id} is not read"
        );
        assert!(
            peer.has_read_everything(),
            "client {id}: nobody sends what its transport took"
        );
        assert_eq!(
            self.model.unanswered(id),
            0,
            "client {id} waits for an answer for ever"
        );
    }
}

fn post_line(topic: usize, media_type: &str) -> String {
    let target = TOPICS[topic].0;
    format!("POST {target} HTTP/1.1\r\nContent-Type: {media_type}\r\n")
}
