//! Lays single values over a document before the types read it.
//!
//! [`super::layers`] calls it. The types read one document in the end, so a new key needs nothing here. The values must be
//! merged while they are read: a parsed document no longer knows how an entry of a list was spelled.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_yaml::{Error, Value};

use super::suggest;
use super::types::Config;

/// A document that has nothing to say.
const EMPTY: &str = "{}";

/// The reason for which a document with values over it cannot be read.
#[derive(Debug)]
pub(super) enum Refused {
    /// The document is wrong.
    Document(Error),
    /// A value is wrong. `Error` does not know its key.
    Value(Error),
}

/// Reads `text` with `values` over it, each with its key. The keys exist, and none is given twice.
pub(super) fn read<'de>(
    text: &'de str,
    values: impl IntoIterator<Item = (&'de str, &'de str)>,
) -> Result<Config, Refused> {
    let mut over = Tree::default();
    for (key, value) in values {
        over.insert(key, value);
    }
    let refused = RefCell::new(None);
    let overlay = Overlay {
        under: serde_yaml::Deserializer::from_str(text),
        over,
        refused: &refused,
    };
    let read = Config::deserialize(overlay);
    match refused.into_inner() {
        Some(error) => Err(Refused::Value(error)),
        None => read.map_err(Refused::Document),
    }
}

/// Values by name. A section has a tree of its own.
#[derive(Default)]
struct Tree<'de> {
    nodes: BTreeMap<&'de str, Node<'de>>,
}

enum Node<'de> {
    Section(Tree<'de>),
    Value(&'de str),
}

impl<'de> Tree<'de> {
    fn insert(&mut self, key: &'de str, value: &'de str) {
        let Some((section, rest)) = key.split_once('.') else {
            self.nodes.insert(key, Node::Value(value));
            return;
        };
        let node = self.nodes.entry(section);
        let node = node.or_insert_with(|| Node::Section(Tree::default()));
        if let Node::Section(tree) = node {
            tree.insert(rest, value);
        }
    }

    /// Takes the node whose name joins the same words. An old spelling such as `certFile` means the same key.
    fn take(&mut self, name: &str) -> Option<Node<'de>> {
        let meant = self.nodes.keys().copied();
        let meant = meant.into_iter().find(|key| suggest::is_same(key, name))?;
        self.nodes.remove(meant)
    }
}

/// A section of the document, and the values over it.
struct Overlay<'de, 'r, D> {
    under: D,
    over: Tree<'de>,
    /// The error of the first value that could not be read.
    refused: &'r RefCell<Option<Error>>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Overlay<'de, '_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.under.deserialize_map(Merge {
            visitor,
            over: self.over,
            refused: self.refused,
        })
    }

    // The sections are the only values that are read through an overlay.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Shows a section to its visitor, with the values over it.
struct Merge<'de, 'r, V> {
    visitor: V,
    over: Tree<'de>,
    refused: &'r RefCell<Option<Error>>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Merge<'de, '_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(MergedMap {
            under: Some(map),
            over: self.over,
            refused: self.refused,
            next: None,
        })
    }
}

/// The keys of the document, and then those that only lie over it.
struct MergedMap<'de, 'r, A> {
    /// `None` once all keys of the document were read.
    under: Option<A>,
    /// Those that have not been read.
    over: Tree<'de>,
    refused: &'r RefCell<Option<Error>>,
    /// The node over the key that was read last.
    next: Option<Node<'de>>,
}

impl<'de, A: MapAccess<'de>> MergedMap<'de, '_, A> {
    fn refuse(&self, error: Error) -> A::Error {
        self.refused.borrow_mut().get_or_insert(error);
        A::Error::custom("a value over the document is wrong")
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for MergedMap<'de, '_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let name: String;
        if let Some(map) = &mut self.under {
            if let Some(key) = map.next_key()? {
                name = key;
                self.next = self.over.take(&name);
                let key = StrDeserializer::new(&name);
                return seed.deserialize(key).map(Some);
            }
            self.under = None;
        }
        let Some((name, node)) = self.over.nodes.pop_first() else {
            return Ok(None);
        };
        self.next = Some(node);
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let next = self.next.take();
        match (&mut self.under, next) {
            (Some(map), None) => map.next_value_seed(seed),
            (Some(map), Some(Node::Section(over))) => map.next_value_seed(Section {
                seed,
                over,
                refused: self.refused,
            }),
            (under, Some(Node::Value(text))) => {
                if let Some(map) = under {
                    map.next_value::<IgnoredAny>()?;
                }
                let read = if is_yaml(text) {
                    seed.deserialize(serde_yaml::Deserializer::from_str(text))
                } else {
                    seed.deserialize(Value::from(text))
                };
                read.map_err(|error| self.refuse(error))
            }
            (None, Some(Node::Section(over))) => {
                let section = Section {
                    seed,
                    over,
                    refused: self.refused,
                };
                section
                    .deserialize(serde_yaml::Deserializer::from_str(EMPTY))
                    .map_err(|error| self.refuse(error))
            }
            (None, None) => Err(A::Error::custom("a value was read before its key")),
        }
    }
}

/// Reads a section with the values over it.
struct Section<'de, 'r, S> {
    seed: S,
    over: Tree<'de>,
    refused: &'r RefCell<Option<Error>>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Section<'de, '_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, under: D) -> Result<S::Value, D::Error> {
        self.seed.deserialize(Overlay {
            under,
            over: self.over,
            refused: self.refused,
        })
    }
}

/// Whether `text` is the value of a key as YAML has it. Anything else is plain text: a host such as `::`, which would be a
/// mapping, needs no quotes on a command line. No key has a mapping as its value.
fn is_yaml(text: &str) -> bool {
    let is_document = serde_yaml::from_str::<IgnoredAny>(text).is_ok();
    is_document && serde_yaml::from_str::<Mapping>(text).is_err()
}

/// A mapping, and nothing else.
struct Mapping;

impl<'de> Deserialize<'de> for Mapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Mapping)
    }
}

impl<'de> Visitor<'de> for Mapping {
    type Value = Mapping;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Mapping, A::Error> {
        IgnoredAny.visit_map(map).map(|_| self)
    }
}
