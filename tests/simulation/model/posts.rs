//! Requests that publish or ask, and the answers that they must get.
//!
//! The model learns which parts of a request a shard has offered, and which messages the owner has numbered. So an answer can
//! be compared with the places of exactly these messages. A part that was refused must never be offered, and a repeat must get
//! the answer of the first.

use std::collections::{HashMap, VecDeque};
use std::mem::take;
use std::time::Duration;

use fanwire::internals::Timestamp;

use super::positions::read_position;
use super::{Message, Model};
use crate::stream::Answer;

/// The time for which a repeat gets the first answer.
const MEMORY: Duration = Duration::from_mins(5);

/// The time for which a part waits.
const WAIT: Duration = Duration::from_secs(10);

/// A part of a request, by its client, its request and its place there.
type PartKey = (usize, usize, usize);

/// A request that is queued.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The topics of its parts, in the order in which the body names them; of each the messages, and whether a line of it is
    /// wrong.
    pub(crate) parts: Vec<(usize, Vec<Vec<u8>>, bool)>,
    pub(crate) is_text: bool,
    /// For each line its part and its place there, or `None` if it is wrong; no lines if the body names no topics.
    pub(crate) lines: Vec<Option<(usize, usize)>>,
    pub(crate) key: Option<u64>,
    /// It asks about this topic, and publishes nothing.
    pub(crate) describes: Option<usize>,
}

#[derive(Debug)]
struct Request {
    /// The place in the client's bytes where it ends.
    end: u64,
    queued_at: Timestamp,
    parts: Vec<Part>,
    lines: Vec<Option<(usize, usize)>>,
    describes: Option<usize>,
    key: Option<u64>,
    is_refused: bool,
}

#[derive(Debug)]
struct Part {
    topic: usize,
    messages: Vec<usize>,
    payloads: Vec<Vec<u8>>,
    is_spoiled: bool,
    is_offered: bool,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is not at the owner, or has no key.
    Open,
    First,
    RepeatOf(PartKey),
    Conflict,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    by_client: HashMap<usize, Vec<Request>>,
    answered: HashMap<usize, usize>,
    /// By the first message of each part.
    parts: HashMap<usize, PartKey>,
    claims: HashMap<(usize, u64), (Timestamp, PartKey)>,
    /// Of each numbered message.
    numbers: HashMap<usize, u64>,
    /// Of each topic, the number of the next message as far as it is known.
    next: HashMap<usize, u64>,
}

impl Posts {
    /// The next process has forgotten all requests and keys, and in a new epoch all numbers.
    pub(super) fn restart(&mut self, is_new_epoch: bool) {
        let (numbers, next) = (take(&mut self.numbers), take(&mut self.next));
        *self = Posts::default();
        if !is_new_epoch {
            (self.numbers, self.next) = (numbers, next);
        }
    }
}

/// Circumstances in which a request may be refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) now: Timestamp,
    pub(crate) is_ending: bool,
    pub(crate) is_short: bool,
}

impl Model {
    /// The client has queued a request that ends at `end` of its bytes.
    pub(crate) fn ask_by_http(
        &mut self,
        client: usize,
        end: u64,
        ask: Ask,
        step: usize,
        now: Timestamp,
    ) {
        let requests = self.posts.by_client.entry(client).or_default();
        let index = requests.len();
        let mut parts = Vec::new();
        for (place, (topic, payloads, is_spoiled)) in ask.parts.into_iter().enumerate() {
            let first = self.messages.len();
            for payload in &payloads {
                self.messages.push(Message {
                    publisher: super::OUTSIDE,
                    is_text: ask.is_text,
                    payload: payload.clone(),
                    posted_at: step,
                });
            }
            if !payloads.is_empty() {
                self.posts.parts.insert(first, (client, index, place));
            }
            parts.push(Part {
                topic,
                messages: (first..self.messages.len()).collect(),
                payloads,
                is_spoiled,
                is_offered: false,
                fate: Fate::Open,
            });
        }
        self.posts
            .by_client
            .entry(client)
            .or_default()
            .push(Request {
                end,
                queued_at: now,
                parts,
                lines: ask.lines,
                describes: ask.describes,
                key: ask.key,
                is_refused: false,
            });
    }

    /// The shard has offered these parts of the client's present request. Returns the topics and messages of those that it had
    /// not offered before.
    pub(crate) fn offer(
        &mut self,
        client: usize,
        shard: usize,
        offered: &[bool],
    ) -> Vec<(usize, Vec<Vec<u8>>)> {
        let index = self.posts.answered.get(&client).copied().unwrap_or(0);
        let consumed = self.clients[client].consumed;
        let request = &mut self
            .posts
            .by_client
            .get_mut(&client)
            .expect("a client that posts")[index];
        assert!(
            request.end <= consumed,
            "a request is acted on before its end"
        );
        let mut new = Vec::new();
        for (part, _) in request
            .parts
            .iter_mut()
            .zip(offered)
            .filter(|(_, is_offered)| **is_offered)
        {
            if part.is_offered {
                continue;
            }
            assert!(
                !request.is_refused && !part.is_spoiled,
                "a refused part is published"
            );
            part.is_offered = true;
            new.push((part.topic, part.payloads.clone()));
            self.topics[part.topic].offered[shard].extend(&part.messages);
        }
        new
    }

    /// `count` offered messages of `shard` have arrived at the owner.
    pub(crate) fn arrive(&mut self, shard: usize, topic: usize, count: usize, now: Timestamp) {
        let mut left = count;
        while left > 0 {
            let queue = &mut self.topics[topic].offered[shard];
            let first = queue.pop_front().expect("only offered messages arrive");
            let part = self.posts.parts.get(&first).copied();
            let key =
                part.and_then(|(client, request, _)| self.posts.by_client[&client][request].key);
            let (Some(part), Some(key)) = (part, key) else {
                self.topics[topic].pending.push(first);
                left -= 1;
                continue;
            };
            let len = self.part(part).messages.len();
            let rest: Vec<usize> = self.topics[topic].offered[shard].drain(..len - 1).collect();
            left -= len;
            if self.claim(topic, key, part, now) == Fate::First {
                self.topics[topic].pending.push(first);
                self.topics[topic].pending.extend(rest);
            }
        }
    }

    fn claim(&mut self, topic: usize, key: u64, part: PartKey, now: Timestamp) -> Fate {
        let known = self.posts.claims.get(&(topic, key)).copied();
        let fate = match known.filter(|&(at, _)| now < at + MEMORY) {
            None => {
                self.posts.claims.insert((topic, key), (now, part));
                Fate::First
            }
            Some((_, first))
                if self.part(first).payloads == self.part(part).payloads
                    && self.is_text(first) == self.is_text(part) =>
            {
                Fate::RepeatOf(first)
            }
            Some(_) => Fate::Conflict,
        };
        self.part_mut(part).fate = fate;
        fate
    }

    /// The fate of a part. One that waits is a repeat as well, if the first with its key is at the owner.
    fn fate(&self, key: PartKey) -> Fate {
        let (client, request, _) = key;
        let part = self.part(key);
        let name = self.posts.by_client[&client][request].key;
        let known = name.and_then(|name| self.posts.claims.get(&(part.topic, name)));
        match known {
            Some(&(_, first)) if !part.is_offered => {
                let is_same = self.part(first).payloads == part.payloads
                    && self.is_text(first) == self.is_text(key);
                if is_same {
                    Fate::RepeatOf(first)
                } else {
                    Fate::Conflict
                }
            }
            Some(_) | None => part.fate,
        }
    }

    fn is_text(&self, part: PartKey) -> bool {
        self.messages[self.part(part).messages[0]].is_text
    }

    fn part(&self, (client, request, part): PartKey) -> &Part {
        &self.posts.by_client[&client][request].parts[part]
    }

    fn part_mut(&mut self, (client, request, part): PartKey) -> &mut Part {
        let requests = self.posts.by_client.get_mut(&client);
        &mut requests.expect("a client that posts")[request].parts[part]
    }

    /// The owner's next message of the topic will be number `next`. The messages from place `before` on are numbered.
    pub(crate) fn note_next(&mut self, topic: usize, before: usize, next: Option<u64>) {
        let Some(next) = next else {
            return;
        };
        let last = self.posts.next.insert(topic, next);
        let order = &self.topics[topic].order;
        let new = (order.len() - before) as u64;
        assert!(
            last.is_none_or(|last| last + new <= next),
            "a number names two messages"
        );
        for (place, &message) in order[before..].iter().enumerate() {
            self.posts
                .numbers
                .insert(message, next - new + place as u64);
        }
    }

    /// The client was sent an answer.
    pub(crate) fn on_answer(&mut self, client: usize, answer: &Answer, trouble: Trouble) {
        let index = self.posts.answered.get(&client).copied().unwrap_or(0);
        let consumed = self.clients[client].consumed;
        let Some(request) = self
            .posts
            .by_client
            .get(&client)
            .and_then(|all| all.get(index))
        else {
            // The next request has begun, and was not queued whole.
            assert!(
                matches!(answer.status, 408 | 503),
                "{} for nothing",
                answer.status
            );
            return;
        };
        let is_read = request.end <= consumed;
        let status = answer.status;
        match status {
            200 if request.describes.is_some() => self.check_description(client, index, answer),
            202 => {
                assert!(request.lines.is_empty() && is_read);
                let told = number_in(&answer.body);
                assert_eq!(
                    answer
                        .field("Fanwire-Position")
                        .map(|at| read_position(at).1),
                    Some(told)
                );
                self.check_position((client, index, 0), None, told);
            }
            200 => {
                assert!(!request.lines.is_empty() && is_read);
                self.check_lines(client, index, &answer.body, trouble);
            }
            422 => assert_eq!(self.fate((client, index, 0)), Fate::Conflict),
            503 | 408 => {
                let has_waited = trouble.now.since(request.queued_at) >= WAIT;
                assert!(
                    status == 408 || trouble.is_ending || trouble.is_short || has_waited,
                    "503 without a reason"
                );
                // A part whose key came with another body before is offered, and not published.
                let is_unpublished = |part: &Part| !part.is_offered || part.fate == Fate::Conflict;
                assert!(
                    request.parts.iter().all(is_unpublished),
                    "{status} for what was offered"
                );
                self.posts.by_client.get_mut(&client).expect("it posts")[index].is_refused = true;
            }
            _ => panic!("{status} for a good request"),
        }
        self.posts.answered.insert(client, index + 1);
    }

    /// The number is that behind the message at `index` of the part, or behind its last one.
    fn check_position(&self, key: PartKey, index: Option<usize>, told: u64) {
        let part = self.part(key);
        let fate = self.fate(key);
        assert!(
            part.is_offered || matches!(fate, Fate::RepeatOf(_)),
            "an answer for what was not offered"
        );
        let published = match fate {
            Fate::Open | Fate::First => part,
            Fate::RepeatOf(first) => self.part(first),
            Fate::Conflict => panic!("a position for a conflict"),
        };
        let numbers: Vec<u64> = published
            .messages
            .iter()
            .map(|message| {
                *self
                    .posts
                    .numbers
                    .get(message)
                    .expect("it is answered before it is numbered")
            })
            .collect();
        assert!(
            numbers.windows(2).all(|two| two[0] + 1 == two[1]),
            "the messages of a part are torn apart"
        );
        let index = index.unwrap_or(numbers.len() - 1);
        assert_eq!(told, numbers[index] + 1, "the position of other messages");
    }

    fn check_lines(&self, client: usize, index: usize, body: &str, trouble: Trouble) {
        let request = &self.posts.by_client[&client][index];
        let told: Vec<&str> = body.lines().collect();
        assert_eq!(told.len(), request.lines.len(), "a line for each line");
        for (line, told) in request.lines.iter().zip(told) {
            let Some((place, index_in_part)) = *line else {
                assert!(
                    told.starts_with("{\"status\":400,"),
                    "{told} for a wrong line"
                );
                continue;
            };
            let part = &request.parts[place];
            let key = (client, index, place);
            if told.starts_with("{\"at\":") {
                self.check_position(key, Some(index_in_part), number_in(told));
            } else if told.starts_with("{\"status\":400,") {
                assert!(part.is_spoiled, "{told} for a good line");
            } else if told.starts_with("{\"status\":422,") {
                assert_eq!(self.fate(key), Fate::Conflict);
            } else {
                assert!(told.starts_with("{\"status\":503,"), "{told}");
                let has_waited = trouble.now.since(request.queued_at) >= WAIT;
                assert!(trouble.is_ending || has_waited, "503 without a reason");
                assert!(!part.is_offered, "503 for what was offered");
            }
        }
    }

    fn check_description(&self, client: usize, index: usize, answer: &Answer) {
        let topic = self.posts.by_client[&client][index]
            .describes
            .expect("it asks");
        let Some(position) = answer.field("Fanwire-Position") else {
            assert!(answer.body.contains("\"at\":null"), "{}", answer.body);
            return;
        };
        let (_, told) = read_position(position);
        assert_eq!(told, number_in(&answer.body));
        let next = self.posts.next.get(&topic).copied();
        assert!(
            next.is_none_or(|next| told <= next),
            "a position of the future"
        );
        let clients = self.clients.iter().filter(|one| one.topic == topic).count();
        let members = answer.field("Fanwire-Members").expect("it says how many");
        assert!(members.parse::<usize>().expect("a number") <= clients);
    }

    /// The number of the client's whole requests that are not answered, as far as the shard has read it.
    pub(crate) fn unanswered(&self, client: usize) -> usize {
        let Some(requests) = self.posts.by_client.get(&client) else {
            return 0;
        };
        let answered = self.posts.answered.get(&client).copied().unwrap_or(0);
        let consumed = self.clients[client].consumed;
        requests[answered..]
            .iter()
            .filter(|request| request.end <= consumed)
            .count()
    }

    /// Whether the client has not been answered although something of its request was offered.
    pub(crate) fn is_owed_an_answer(&self, client: usize) -> bool {
        let answered = self.posts.answered.get(&client).copied().unwrap_or(0);
        let requests = self.posts.by_client.get(&client);
        let request = requests.and_then(|requests| requests.get(answered));
        request.is_some_and(|request| request.parts.iter().any(|part| part.is_offered))
    }

    /// Nothing is on its way: every offered message is at the owner.
    pub(crate) fn check_no_offers(&self) {
        let offered = self.topics.iter().flat_map(|topic| &topic.offered);
        let left: usize = offered.map(VecDeque::len).sum();
        assert_eq!(left, 0, "messages were offered and never numbered");
    }
}

/// The number behind `"at":"E-`.
fn number_in(json: &str) -> u64 {
    let (_, rest) = json.split_once("\"at\":\"").expect("a position");
    read_position(rest.split('"').next().expect("its end")).1
}
