//! Finds the line of a key in a YAML document.
//!
//! [`super::file`] and [`super::explain`] call it. The parser reports a place only with an error. So this file parses
//! the document again and makes it fail at the key.

use serde::de::{
    DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

/// The line of the `nth` appearance of `name` in `section`, which may be an entry of a list, such as `topics[3]`.
pub(super) fn line_of_key(text: &str, section: &str, name: &str, nth: usize) -> Option<usize> {
    let sections: Vec<&str> = section.split('.').filter(|part| !part.is_empty()).collect();
    let search = Search {
        sections: &sections,
        entry: None,
        name,
        nth,
    };
    let error = search
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    error
        .to_string()
        .contains(FOUND)
        .then(|| error.location().map(|location| location.line()))?
}

/// The error at the key.
const FOUND: &str = "found the key";

/// Descends to a key and fails there.
#[derive(Clone, Copy)]
struct Search<'a> {
    sections: &'a [&'a str],
    /// The place in a list to descend to first.
    entry: Option<usize>,
    name: &'a str,
    nth: usize,
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let Some((&section, sections)) = self.sections.split_first() else {
            while let Some(matched) = map.next_key_seed(Key {
                name: self.name,
                fail: self.nth == 1,
            })? {
                self.nth -= usize::from(matched);
                map.next_value::<IgnoredAny>()?;
            }
            return Ok(());
        };
        let (section, entry) = match section.trim_end_matches(']').split_once('[') {
            Some((list, entry)) => (list, entry.parse().ok()),
            None => (section, None),
        };
        while let Some(matched) = map.next_key_seed(Key {
            name: section,
            fail: false,
        })? {
            if matched {
                map.next_value_seed(Search {
                    sections,
                    entry,
                    ..self
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some(entry) = self.entry else {
            return Err(serde::de::Error::invalid_type(Unexpected::Seq, &self));
        };
        for _ in 0..entry {
            list.next_element::<IgnoredAny>()?;
        }
        let search = Search {
            entry: None,
            ..self
        };
        list.next_element_seed(search)?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Tells whether a key has this name. With `fail`, it fails at that name instead.
struct Key<'a> {
    name: &'a str,
    fail: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        let matched = key == self.name;
        if matched && self.fail {
            return Err(E::custom(FOUND));
        }
        Ok(matched)
    }
}
