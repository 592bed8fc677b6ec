//! Messages that no service wrote, for every stream and bucket of a server: arbitrary bytes, messages of an earlier release that are
//! truncated, damaged or have extreme numbers, wrong headers, and bodies of the greatest size.
//!
//! The streams are those that the server lists, so that a new one is covered as well. The messages are the same in every run.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{Client, HeaderMap, jetstream};
use futures::TryStreamExt as _;
use proptest::{collection::vec, prelude::*, sample::Index, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::Value;

use crate::Fixture;

/// Values that replace eight bytes or a number.
const EXTREMES: [i64; 6] = [i64::MIN, i64::MAX, -1, 0, 1 << 62, 253_402_300_800_000];
/// Room for the headers and the protocol within the size that the server accepts.
const OVERHEAD: usize = 1024;
/// How long the server may take to store a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// A publisher of such messages.
pub struct Poison {
    client: Client,
    subjects: BTreeSet<String>,
    seeds: Vec<Seed>,
    runner: TestRunner,
}

/// A valid message.
#[derive(Debug, Clone)]
struct Seed {
    subject: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Poison {
    /// For every stream of the server at `url`, with `name` in place of the wildcards of its subjects, and for the subjects of the
    /// messages that a release wrote.
    ///
    /// # Panics
    /// When the server does not answer, or lists no stream.
    pub async fn of(url: &str, name: &str) -> Self {
        let client = async_nats::connect(url).await.expect("the server is up");
        let streams: Vec<_> =
            jetstream::new(client.clone()).streams().try_collect().await.expect("the server lists its streams");
        assert!(!streams.is_empty(), "the services have created their streams");
        let seeds = seeds();
        let patterns = streams.into_iter().flat_map(|stream| stream.config.subjects);
        let concrete = patterns.map(|pattern| pattern.replace(['*', '>'], name));
        let subjects = concrete.chain(seeds.iter().map(|seed| seed.subject.clone())).collect();
        Self { client, subjects, seeds, runner: TestRunner::deterministic() }
    }

    /// Publishes `count` messages to each subject, and one of the greatest size. Returns when the server has stored them.
    ///
    /// # Panics
    /// When the server does not store one.
    pub async fn publish(&mut self, count: usize) {
        let mut jetstream = jetstream::new(self.client.clone());
        jetstream.set_timeout(PATIENCE);
        let largest = self.client.server_info().max_payload - OVERHEAD;
        for subject in self.subjects.clone() {
            let mut sent = Vec::new();
            let drawn = (0..count).map(|_| self.draw(&subject)).collect::<Vec<_>>();
            for (headers, body) in drawn.into_iter().chain([(HeaderMap::new(), vec![0xff; largest])]) {
                let message = jetstream.publish_with_headers(subject.clone(), headers, body.into()).await;
                sent.push(message.unwrap_or_else(|error| panic!("{subject}: {error}")));
            }
            for acknowledged in sent {
                acknowledged.await.unwrap_or_else(|error| panic!("{subject}: {error}"));
            }
        }
    }

    /// A message for a subject: of two, one derives from a message of the same stream.
    fn draw(&mut self, subject: &str) -> (HeaderMap, Vec<u8>) {
        let stream = |subject: &str| subject.split('.').take(2).map(str::to_owned).collect::<Vec<_>>();
        let own: Vec<Seed> =
            self.seeds.iter().filter(|seed| stream(&seed.subject) == stream(subject)).cloned().collect();
        let seeds = if own.is_empty() { self.seeds.clone() } else { own };
        let seed = prop_oneof![prop::sample::select(seeds), prop::sample::select(self.seeds.clone())];
        let strategy = (seed, header_change(), body_change());
        let (seed, headers, body) = strategy.new_tree(&mut self.runner).expect("a value").current();
        (headers.apply(&seed.headers), body.apply(seed.body))
    }
}

fn seeds() -> Vec<Seed> {
    let fixture = Fixture::of("0.1.0");
    let json = |path: &str| serde_json::from_str::<Value>(&fixture.text(path)).expect("JSON");
    let seed = |of: &Value, body: Vec<u8>| Seed {
        subject: of["subject"].as_str().expect("a subject").to_owned(),
        headers: fields(&of["headers"]).map(|(name, value)| (name, value.as_str().expect("text").to_owned())).collect(),
        body,
    };
    let mut seeds: Vec<Seed> = ["job", "predictions", "dead-letter"]
        .map(|name| seed(&json(&format!("messages/{name}.json")), fixture.read(format!("messages/{name}.bin"))))
        .into();
    let events = json("messages/events.json");
    seeds.extend(events.as_array().expect("a list").iter().map(|of| seed(of, of["data"].to_string().into_bytes())));
    for bucket in ["rekindle-deployments", "rekindle-replicas"] {
        seeds.extend(fields(&json(&format!("buckets/{bucket}.json"))).map(|(key, value)| Seed {
            subject: format!("$KV.{bucket}.{key}"),
            headers: Vec::new(),
            body: value.to_string().into_bytes(),
        }));
    }
    let lines = "{\"prediction_id\":\"01a21ff8-3be7-740b-9f3a-aca9aae77994\",\"row\":17,\"label\":\"1\"}\n{\"label\\u0000\":1}\n";
    let subject = "rekindle.outcomes.arrival".to_owned();
    let headers = vec![("Nats-Msg-Id".to_owned(), "rekindle-monitor/outcomes/1".to_owned())];
    seeds.push(Seed { subject, headers, body: lines.into() });
    seeds
}

fn fields(object: &Value) -> impl Iterator<Item = (String, Value)> {
    object.as_object().expect("an object").clone().into_iter()
}

/// How the headers of a message are changed.
#[derive(Debug, Clone)]
enum HeaderChange {
    Keep,
    Remove(Index),
    Replace(Index, String),
    Add(String, String),
}

fn header_change() -> impl Strategy<Value = HeaderChange> {
    let text = prop_oneof!["[^\\r\\n]{0,40}", "[%\\u{0}-\\u{8}]{1,20}", "9{19,25}", Just("x".repeat(20_000))];
    prop_oneof![
        Just(HeaderChange::Keep),
        any::<Index>().prop_map(HeaderChange::Remove),
        (any::<Index>(), text.clone()).prop_map(|(index, text)| HeaderChange::Replace(index, text)),
        ("[a-z-]{1,10}", text).prop_map(|(name, text)| HeaderChange::Add(name, text)),
    ]
}

impl HeaderChange {
    fn apply(self, headers: &[(String, String)]) -> HeaderMap {
        let mut headers = headers.to_vec();
        match self {
            Self::Remove(index) if !headers.is_empty() => drop(headers.remove(index.index(headers.len()))),
            Self::Replace(index, text) if !headers.is_empty() => {
                let index = index.index(headers.len());
                headers[index].1 = text;
            }
            Self::Add(name, text) => headers.push((name, text)),
            Self::Keep | Self::Remove(_) | Self::Replace(..) => {}
        }
        let mut changed = HeaderMap::new();
        headers.iter().for_each(|(name, text)| changed.insert(name.as_str(), text.as_str()));
        changed
    }
}

/// How the body of a message is changed.
#[derive(Debug, Clone)]
enum BodyChange {
    Keep,
    Any(Vec<u8>),
    Truncate(Index),
    Flip(Vec<(Index, u8)>),
    /// Eight bytes at a multiple of eight, as columns and lengths are in Arrow.
    Word(Index, i64),
    /// A run of digits by as many nines: the length of a binary message stays.
    Nines(Index),
    /// A run of digits by another number.
    Number(Index, String),
    Repeat(usize),
}

fn body_change() -> impl Strategy<Value = BodyChange> {
    let extreme = prop::sample::select(EXTREMES.to_vec());
    let numbers = ["18446744073709551615", "9223372036854775807", "9223372036854775808", "-1", "1e308", "0", "0.5"];
    let number = prop::sample::select(numbers.map(str::to_owned).to_vec());
    prop_oneof![
        1 => Just(BodyChange::Keep),
        2 => vec(any::<u8>(), 0..300).prop_map(BodyChange::Any),
        2 => any::<Index>().prop_map(BodyChange::Truncate),
        2 => vec((any::<Index>(), any::<u8>()), 1..6).prop_map(BodyChange::Flip),
        3 => (any::<Index>(), extreme).prop_map(|(index, word)| BodyChange::Word(index, word)),
        2 => any::<Index>().prop_map(BodyChange::Nines),
        3 => (any::<Index>(), number).prop_map(|(index, number)| BodyChange::Number(index, number)),
        1 => (1..200usize).prop_map(BodyChange::Repeat),
    ]
}

impl BodyChange {
    fn apply(self, mut body: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Keep => {}
            Self::Any(bytes) => body = bytes,
            Self::Truncate(index) => body.truncate(index.index(body.len() + 1)),
            Self::Flip(flips) => {
                for (index, bits) in flips {
                    let length = body.len().max(1);
                    if let Some(byte) = body.get_mut(index.index(length)) {
                        *byte ^= bits;
                    }
                }
            }
            Self::Word(index, word) => {
                let words = body.len() / 8;
                if words > 0 {
                    let start = 8 * index.index(words);
                    body[start..start + 8].copy_from_slice(&word.to_le_bytes());
                }
            }
            Self::Nines(index) => {
                if let Some((start, end)) = run(&body, index) {
                    body[start..end].fill(b'9');
                }
            }
            Self::Number(index, number) => {
                if let Some((start, end)) = run(&body, index) {
                    body.splice(start..end, number.into_bytes());
                }
            }
            Self::Repeat(times) => {
                let times = times.min(900_000 / body.len().max(1)).max(1);
                body = body.repeat(times);
            }
        }
        body
    }
}

/// One of the runs of digits.
fn run(body: &[u8], index: Index) -> Option<(usize, usize)> {
    let is_digit = |at: &usize| body[*at].is_ascii_digit();
    let starts: Vec<usize> = (0..body.len())
        .filter(|at| is_digit(at) && !at.checked_sub(1).is_some_and(|before| is_digit(&before)))
        .collect();
    let start = *starts.get(index.index(starts.len().max(1)))?;
    let length = body[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some((start, start + length))
}
