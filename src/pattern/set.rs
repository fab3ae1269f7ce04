//! An ordered list of patterns, and the first of them that has a name.
//!
//! The patterns are one tree of their segments. So a name is compared with those patterns that begin as it does, and not with
//! each. A list of ten thousand costs about as much as a list of ten.
//!
//! The set also says which patterns never come first, because earlier ones have all their names.

use std::collections::BTreeMap;

use super::{Pattern, Segment};

/// Stands for no pattern, and comes after all others.
const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Clone, Debug)]
pub struct PatternSet {
    /// The root first.
    nodes: Vec<Node>,
    patterns: Vec<Pattern>,
    /// The most segments of a pattern.
    longest: usize,
}

/// The patterns that begin with the same segments.
#[derive(Clone, Debug)]
struct Node {
    /// The pattern that ends here.
    here: u32,
    /// The pattern that goes on with `**`.
    rest: u32,
    /// The first of all patterns that begin like this.
    first: u32,
    /// Those that go on with a text.
    texts: BTreeMap<Box<str>, u32>,
    /// Those that go on with `*`.
    any: u32,
}

/// The reason why a pattern never comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Covered {
    /// This earlier pattern has all its names.
    By(usize),
    /// Earlier patterns have all its names together. This is one of them.
    Together(usize),
}

impl Node {
    const EMPTY: Node = Node {
        here: NONE,
        rest: NONE,
        first: NONE,
        texts: BTreeMap::new(),
        any: NONE,
    };
}

impl PatternSet {
    /// The set of these patterns, in their order.
    pub fn new(patterns: Vec<Pattern>) -> PatternSet {
        assert!(
            patterns.len() < NONE as usize,
            "a configuration has far fewer patterns"
        );
        let mut set = PatternSet {
            nodes: vec![Node::EMPTY],
            longest: 0,
            patterns,
        };
        for index in 0..set.patterns.len() {
            set.add(index);
        }
        set
    }

    fn add(&mut self, index: usize) {
        // The constructor has compared the count with this type.
        let number = index as u32;
        let Pattern { segments, has_rest } = self.patterns[index].clone();
        self.longest = self.longest.max(segments.len());
        let mut at = 0;
        self.nodes[0].first = self.nodes[0].first.min(number);
        for segment in segments {
            let new = self.nodes.len() as u32;
            let node = &mut self.nodes[at];
            let next = match segment {
                Segment::Text(text) => node.texts.entry(text).or_insert(new),
                Segment::Any => {
                    if node.any == NONE {
                        node.any = new;
                    }
                    &mut node.any
                }
            };
            at = *next as usize;
            if at == new as usize {
                self.nodes.push(Node {
                    first: number,
                    ..Node::EMPTY
                });
            }
        }
        let node = &mut self.nodes[at];
        let end = if has_rest {
            &mut node.rest
        } else {
            &mut node.here
        };
        *end = (*end).min(number);
    }

    /// The place of the first pattern that has the topic with this decoded name.
    pub fn first(&self, name: &str) -> Option<usize> {
        if self.patterns.is_empty() {
            return None;
        }
        let path = name.strip_prefix('/')?;
        self.search(path.split('/').map(Some))
    }

    /// The reason why no name leads to the pattern at this place; `None` if some do.
    ///
    /// A segment that no pattern has as its text stands for all such segments. With it in the place of each `*`, and with every
    /// number of such segments in the place of `**`, few names stand for all names of the pattern.
    pub(crate) fn cover(&self, index: usize) -> Option<Covered> {
        let Pattern { segments, has_rest } = &self.patterns[index];
        let least = segments.len();
        // Beyond the longest pattern, only those that end in `**` have a name, and these have all longer ones as well.
        let most = if *has_rest {
            least.max(self.longest + 1)
        } else {
            least
        };
        let parts = |length: usize| {
            let written = segments.iter().map(|segment| match segment {
                Segment::Text(text) => Some(&**text),
                Segment::Any => None,
            });
            written.chain(std::iter::repeat(None)).take(length)
        };
        let mut found = None;
        // A path has at least one segment.
        for length in least.max(1)..=most.max(1) {
            let earlier = self.search(parts(length)).filter(|&first| first < index)?;
            let is_alone = self.patterns[earlier].covers(&self.patterns[index]);
            if is_alone {
                return Some(Covered::By(earlier));
            }
            found.get_or_insert(earlier);
            if self.patterns[earlier].has_rest {
                // It has the longer names, too.
                break;
            }
        }
        found.map(Covered::Together)
    }

    /// The first pattern for these segments. `None` among them is one that no pattern has as its text.
    fn search<'a>(&self, parts: impl Iterator<Item = Option<&'a str>> + Clone) -> Option<usize> {
        let mut best = NONE;
        self.search_from(0, parts, &mut best);
        (best != NONE).then_some(best as usize)
    }

    fn search_from<'a>(
        &self,
        at: u32,
        mut parts: impl Iterator<Item = Option<&'a str>> + Clone,
        best: &mut u32,
    ) {
        let node = &self.nodes[at as usize];
        if node.first >= *best {
            return;
        }
        *best = node.rest.min(*best);
        let Some(part) = parts.next() else {
            *best = node.here.min(*best);
            return;
        };
        let text = part.and_then(|part| node.texts.get(part));
        if let Some(&next) = text {
            self.search_from(next, parts.clone(), best);
        }
        if node.any != NONE {
            self.search_from(node.any, parts, best);
        }
    }
}

impl Pattern {
    /// Whether it has all names of the other.
    fn covers(&self, other: &Pattern) -> bool {
        // Each name has a segment, so `/**` and `/*/**` have the same names.
        let theirs: &[Segment] = match &*other.segments {
            [] => &[Segment::Any],
            segments => segments,
        };
        let is_long_enough = if self.has_rest {
            theirs.len() >= self.segments.len()
        } else {
            theirs.len() == self.segments.len() && !other.has_rest
        };
        let mut pairs = self.segments.iter().zip(theirs);
        is_long_enough && pairs.all(|(own, theirs)| *own == Segment::Any || own == theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(texts: &[&str]) -> PatternSet {
        PatternSet::new(
            texts
                .iter()
                .map(|text| Pattern::new(text).unwrap())
                .collect(),
        )
    }

    #[test]
    fn the_first_pattern_that_has_a_name_is_found_and_not_the_closest() {
        let set = set(&["/a/*/c", "/a/**", "/a/b", "/*", "/**", "/z"]);
        for (name, first) in [
            ("/a/b/c", Some(0)),
            ("/a/b", Some(1)),
            ("/a", Some(1)),
            ("/a/", Some(1)),
            ("/b", Some(3)),
            ("/", Some(3)),
            ("/z", Some(3)),
            ("//", Some(4)),
            ("/b/c", Some(4)),
            ("no path", None),
        ] {
            assert_eq!(set.first(name), first, "{name}");
        }
    }

    #[test]
    fn a_set_without_patterns_finds_none() {
        assert_eq!(set(&[]).first("/a"), None);
    }

    #[test]
    fn patterns_that_never_come_first_are_found_with_their_reason() {
        let by = |index| Some(Covered::By(index));
        for (texts, reasons) in [
            (&["/a", "/a"][..], &[None, by(0)][..]),
            (&["/a/*", "/a/b", "/a/"], &[None, by(0), by(0)]),
            (&["/a/b", "/a/*"], &[None, None]),
            (&["/**", "/", "/**"], &[None, by(0), by(0)]),
            (&["/*", "/**"], &[None, None]),
            (&["/*/**", "/**"], &[None, by(0)]),
            (
                &["/a", "/a/*/**", "/a/**"],
                &[None, None, Some(Covered::Together(0))],
            ),
            (
                &["/a/**", "/*/b", "/a/b", "/a/b/**", "/c/b"],
                &[None, None, by(0), by(0), by(1)],
            ),
            (&["/a/*/c", "/a/b/*"], &[None, None]),
        ] {
            let set = set(texts);
            for (index, reason) in reasons.iter().enumerate() {
                assert_eq!(set.cover(index), *reason, "{index} of {texts:?}");
            }
        }
    }

    #[test]
    fn a_name_with_many_slashes_and_ten_thousand_patterns_is_no_trouble() {
        let mut texts: Vec<String> = (0..9_999).map(|n| format!("/tenant{n}/*/x/**")).collect();
        texts.push("/".repeat(512));
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let set = set(&texts);
        assert_eq!(set.first("/tenant77/a/x"), Some(77));
        assert_eq!(set.first(&"/".repeat(512)), Some(9_999));
        assert_eq!(set.first(&"/".repeat(511)), None);
        assert_eq!(set.cover(9_999), None);
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        let segment = "|a|b|\\*";
        (proptest::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(parts, has_rest)| {
            let mut parts = parts;
            if has_rest || parts.is_empty() {
                parts.push("**".into());
            }
            format!("/{}", parts.join("/"))
        })
    }

    /// Every name of up to five segments, of which `z` is in no pattern.
    fn all_names() -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut longest = vec![String::new()];
        for _ in 0..5 {
            let next = longest
                .iter()
                .flat_map(|name| ["", "a", "b", "z"].map(|segment| format!("{name}/{segment}")));
            longest = next.collect();
            names.extend(longest.iter().cloned());
        }
        names
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_look_at_each_pattern_finds(
            texts in proptest::collection::vec(any_pattern(), 0..12),
            name in "(/(|a|b|z)){1,5}",
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let one_by_one = texts.iter().position(|text| Pattern::new(text).unwrap().matches(&name));
            prop_assert_eq!(set(&texts).first(&name), one_by_one);
        }

        #[test]
        fn a_pattern_is_covered_if_and_only_if_none_of_all_names_leads_to_it(
            texts in proptest::collection::vec(any_pattern(), 1..7),
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::new(text).unwrap()).collect();
            let set = set(&texts);
            let mut reached = vec![false; texts.len()];
            for name in all_names() {
                if let Some(first) = patterns.iter().position(|pattern| pattern.matches(&name)) {
                    reached[first] = true;
                }
            }
            for (index, is_reached) in reached.into_iter().enumerate() {
                let cover = set.cover(index);
                prop_assert_eq!(cover.is_none(), is_reached, "{:?} in {:?}", index, &texts);
                if let Some(Covered::By(one)) = cover {
                    let has_all = all_names().iter().all(|name| !patterns[index].matches(name) || patterns[one].matches(name));
                    prop_assert!(has_all && one < index);
                }
            }
        }
    }
}
