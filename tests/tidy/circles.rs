//! Circles between files: a file uses another one, which uses the first, directly or through others.
//!
//! `tidy.rs` asks for them. A file uses another one if its code names something that is defined there, whatever module it
//! imports it from. `mod x;` is not a use. `pub use` is one only if the file also uses the name. Calls of methods are not
//! seen.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, matches, paths};

/// For each file the files that it uses, with the line of the first use.
pub(crate) type Uses = BTreeMap<String, BTreeMap<String, usize>>;

/// The uses between the sources of one library. The sources are given by their paths from the root.
pub(crate) fn uses(sources: &BTreeMap<String, Vec<Token>>) -> Uses {
    let files: Vec<File> = sources
        .iter()
        .map(|(path, code)| read(path, code))
        .collect();
    let tree = Tree {
        files: files
            .iter()
            .map(|file| (file.module.clone(), file))
            .collect(),
    };
    let uses = files
        .iter()
        .map(|file| (file.path.clone(), tree.uses_of(file)));
    uses.collect()
}

/// The sets of files of which each uses each other, directly or through others of the set.
pub(crate) fn circles(uses: &Uses) -> BTreeSet<BTreeSet<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = uses
        .keys()
        .map(|file| (file.as_str(), reached_from(file, uses)))
        .collect();
    let circle_of = |file: &str| {
        let others = reached[file].iter();
        others
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)))
            .map(ToString::to_string)
            .collect()
    };
    let circles = uses.keys().map(|file| circle_of(file));
    circles
        .filter(|circle: &BTreeSet<String>| circle.len() > 1)
        .collect()
}

fn reached_from<'a>(file: &str, uses: &'a Uses) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![file];
    while let Some(file) = next.pop() {
        for used in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(used.as_str()) {
                next.push(used);
            }
        }
    }
    reached
}

/// The path of a module from the root of the crate.
type Module = Vec<String>;

/// A source file: what it imports, and which paths its code names.
struct File {
    path: String,
    module: Module,
    imports: Vec<Import>,
    names: Vec<(String, usize)>,
}

/// One name that a `use` brings in.
struct Import {
    /// Its path, as it stands in the source.
    path: Vec<String>,
    /// The name that the code uses: `c` for `a::c` and `b as c`, `*` for all of a module.
    name: String,
    is_public: bool,
    line: usize,
}

fn read(path: &str, code: &[Token]) -> File {
    let mut imports = Vec::new();
    let mut rest = Vec::new();
    let mut at = 0;
    while at < code.len() {
        // `use<'a>` is a bound.
        if code[at].text == "use" && !matches(&code[at + 1..], &["<"]) {
            let is_public = at > 0 && (code[at - 1].text == "pub" || code[at - 1].text == ")");
            at = read_import(code, at + 1, &[], is_public, &mut imports);
        } else {
            rest.push(code[at].clone());
            at += 1;
        }
    }
    File {
        path: path.into(),
        module: module_of(path),
        imports,
        names: paths(&rest),
    }
}

/// Reads the rest of an import behind `prefix`; returns where it ends.
fn read_import(
    code: &[Token],
    mut at: usize,
    prefix: &[String],
    is_public: bool,
    imports: &mut Vec<Import>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = code.get(at) {
        at += 1;
        match token.text.as_str() {
            ":" => continue,
            "{" => {
                while code.get(at).is_some_and(|token| token.text != "}") {
                    at = read_import(code, at, &path, is_public, imports);
                    at += usize::from(matches(&code[at..], &[","]));
                }
                return at + 1;
            }
            segment => path.push(segment.into()),
        }
        if matches(&code[at..], &[":", ":"]) {
            continue;
        }
        let mut name = path.iter().rfind(|segment| *segment != "self").cloned();
        if matches(&code[at..], &["as"]) {
            name = code.get(at + 1).map(|token| token.text.clone());
            at += 2;
        }
        imports.push(Import {
            path,
            name: name.unwrap_or_default(),
            is_public,
            line: token.line,
        });
        return at;
    }
    at
}

/// The module that a file holds: `src/a/mod.rs` holds `a`, `src/a/b.rs` holds `a::b`, `src/lib.rs` the root. The sources of
/// another package of the workspace begin with its folder.
fn module_of(path: &str) -> Module {
    let inside = path.split_once("src/").map_or(path, |(_, inside)| inside);
    let inside = inside.trim_end_matches(".rs");
    let segments = inside.split('/');
    segments
        .filter(|segment| *segment != "mod" && *segment != "lib")
        .map(ToOwned::to_owned)
        .collect()
}

/// All modules of the crate that are files.
struct Tree<'a> {
    files: BTreeMap<Module, &'a File>,
}

/// The end of a path.
#[derive(Debug, PartialEq)]
enum Target {
    Module(Module),
    /// Something that is defined in the file of this module.
    Item(Module),
    /// Another crate, or nothing that is known.
    Elsewhere,
}

/// The number of imports of imports that are followed.
const MOST_STEPS: usize = 8;

impl Tree<'_> {
    fn uses_of(&self, file: &File) -> BTreeMap<String, usize> {
        let mut used: Vec<(Target, usize)> = Vec::new();
        for import in &file.imports {
            let is_used = || {
                file.names
                    .iter()
                    .any(|(path, _)| first(path) == import.name)
            };
            if !import.is_public || is_used() {
                let target = match self.target(file, &import.path, 0) {
                    Target::Module(module) if import.name == "*" => Target::Item(module),
                    target => target,
                };
                used.push((target, import.line));
            }
        }
        for (path, line) in &file.names {
            let segments: Vec<String> = path.split("::").map(ToOwned::to_owned).collect();
            if segments.len() > 1 {
                used.push((self.target(file, &segments, 0), *line));
            }
        }
        let mut files = BTreeMap::new();
        for (target, line) in used {
            if let Target::Item(module) = target
                && module != file.module
            {
                files
                    .entry(self.files[&module].path.clone())
                    .or_insert(line);
            }
        }
        files
    }

    /// Follows `path` from `file`, in whose code it stands.
    fn target(&self, file: &File, path: &[String], steps: usize) -> Target {
        let Some((head, rest)) = path.split_first().filter(|_| steps < MOST_STEPS) else {
            return Target::Elsewhere;
        };
        let is_child = || self.files.contains_key(&joined(&file.module, head));
        match head.as_str() {
            "crate" => self.walk(Vec::new(), rest, steps),
            "self" => self.walk(file.module.clone(), rest, steps),
            "super" => {
                let parent = file
                    .module
                    .split_last()
                    .map_or(&[][..], |(_, parent)| parent);
                self.walk(parent.to_vec(), rest, steps)
            }
            _ if is_child() => self.walk(file.module.clone(), path, steps),
            name => {
                let import = file.imports.iter().find(|import| import.name == name);
                // An import of the name by the same name would lead here again.
                match import.filter(|import| import.path != path) {
                    Some(import) => {
                        let behind = [&import.path, rest].concat();
                        self.target(file, &behind, steps + 1)
                    }
                    None => Target::Elsewhere,
                }
            }
        }
    }

    /// Follows `path` from `module` down.
    fn walk(&self, mut module: Module, path: &[String], steps: usize) -> Target {
        for (at, segment) in path.iter().enumerate() {
            match segment.as_str() {
                "self" | "*" => continue,
                "super" => {
                    module.pop();
                    continue;
                }
                _ => {}
            }
            let child = joined(&module, segment);
            if self.files.contains_key(&child) {
                module = child;
                continue;
            }
            let Some(file) = self.files.get(&module) else {
                return Target::Elsewhere;
            };
            // A module's imports can be named through it.
            let import = file.imports.iter().find(|import| import.name == *segment);
            return match import {
                Some(import) => {
                    let behind = [&import.path, &path[at + 1..]].concat();
                    self.target(file, &behind, steps + 1)
                }
                None => Target::Item(module),
            };
        }
        Target::Module(module)
    }
}

fn joined(module: &[String], child: &str) -> Module {
    [module, &[child.to_owned()]].concat()
}

fn first(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}
