//! The places that a configuration comes from, and their order: a flag before a variable, a variable before the file, the
//! file before the default.
//!
//! The program's `cli` gathers them, and asks them again for the origin of a value that turns out to be wrong. A wrong value
//! is refused even if another place overrules it.

mod again;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::error::ConfigError;
use super::explain::explain;
use super::file;
use super::overlay::{self, Refused};
use super::setting::{self, PORT_KEY, PREFIX, Setting};
use super::suggest;
use super::types::{Config, LogFormat};
use super::warnings::Warning;

/// The file in the working directory that a program reads if it is told no other.
pub const DEFAULT_FILE: &str = "config.yaml";

/// The beginning of variables that look like ours.
const OURS: &str = "FANWIRE_";

/// Variables of this project's own tests and tools.
const OF_TOOLS: [&str; 4] = [
    "FANWIRE_MUTATIONS",
    "FANWIRE_PYTHON",
    "FANWIRE_SEED",
    "FANWIRE_TLS",
];

/// The most ignored variables that a warning names.
const MOST_NAMED: usize = 8;

/// A file of the configuration.
#[derive(Clone)]
struct Document {
    path: PathBuf,
    name: String,
    /// It may have secrets.
    text: String,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// All places of a configuration. Displays them for the operator, without values.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    document: Option<Document>,
    /// From the weakest to the strongest.
    settings: Vec<Setting>,
    /// Variables that look like ours, but set no key.
    ignored: BTreeSet<String>,
    /// One of them has a value that Kubernetes would write.
    has_links: bool,
    /// The first place that cannot be used.
    problem: Option<ConfigError>,
}

impl Layers {
    /// Gathers the places: `file`, the `variables` of the environment and the arguments of `--set`. Finds nothing wrong
    /// yet; [`Layers::load`] does.
    pub fn gather(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[OsString],
    ) -> Layers {
        let mut layers = Layers::default();
        if let Some(path) = file {
            layers.read(path);
        }
        let mut port = None;
        let mut ours: Vec<(OsString, OsString)> = Vec::new();
        for (name, value) in variables {
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(PREFIX.as_bytes()) {
                ours.push((name, value));
            } else if bytes.starts_with(OURS.as_bytes()) {
                layers.ignore(&name, &value);
            } else if name == "PORT" {
                port = Some(value);
            }
        }
        // The environment has no order. The first error should be the same each time.
        ours.sort();
        for (name, value) in &ours {
            let setting = Setting::from_variable(name, value).and_then(|setting| {
                let twice = layers.settings.iter().any(|other| other.key == setting.key);
                if twice {
                    let error = ConfigError::new("given twice", "keep one of the two variables");
                    return Err(setting.blame(error.of_key(&setting.key)));
                }
                Ok(setting)
            });
            layers.add(setting);
        }
        for argument in flags {
            layers.add(Setting::from_flag(argument));
        }
        if let (Some(port), None) = (port, &layers.problem) {
            layers.add_port(&port);
        }
        layers
    }

    fn read(&mut self, path: &Path) {
        let name = file::shown_name(path);
        match file::read_text(path) {
            Ok(text) => {
                // The document is looked at in several ways, and none may take long.
                let too_deep = file::check_depth(&text).err();
                self.problem = too_deep.map(|error| error.within(&name));
                let path = path.to_owned();
                self.document = Some(Document { path, name, text });
            }
            Err(error) => self.problem = Some(error.within(&name)),
        }
    }

    fn add(&mut self, setting: Result<Setting, ConfigError>) {
        match setting {
            Ok(setting) => {
                self.settings
                    .retain(|other| !other.is_replaced_by(&setting));
                self.settings.push(setting);
            }
            Err(error) => _ = self.problem.get_or_insert(error),
        }
    }

    /// Uses the variable `PORT` if nothing else names a port.
    fn add_port(&mut self, value: &OsStr) {
        let in_file = |document: &Document| file::line_of(&document.text, PORT_KEY).is_some();
        let is_named =
            self.setting_of(PORT_KEY).is_some() || self.document.as_ref().is_some_and(in_file);
        if let (false, Some(setting)) = (is_named, Setting::from_port(value)) {
            self.add(setting);
        }
    }

    fn ignore(&mut self, name: &OsStr, value: &OsStr) {
        let name = name.to_string_lossy().into_owned();
        if !OF_TOOLS.contains(&name.as_str()) {
            let value = value.to_string_lossy();
            self.has_links |= value.starts_with("tcp://") || value.starts_with("udp://");
            self.ignored.insert(name);
        }
    }

    /// Reads and checks the configuration.
    pub fn load(&self) -> Result<Config, ConfigError> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let text = match &self.document {
            Some(document) => {
                file::parse(&document.text).map_err(|error| error.within(&document.name))?;
                document.text.as_str()
            }
            None => "",
        };
        let is_blank = text.lines().all(file::is_blank_or_comment);
        let text = if is_blank { "{}" } else { text };
        // A later value of the same key replaces an earlier one.
        let read = overlay::read(text, self.settings.iter().map(Setting::pair));
        let config = read.map_err(|refused| {
            let (Refused::Document(error) | Refused::Value(error)) = refused;
            explain(text, &error).within(&self.to_string())
        })?;
        config.validate().map_err(|error| self.locate(error))?;
        Ok(config)
    }

    /// Adds the origin of the wrong value to an error that was found in the configuration as a whole.
    #[must_use]
    pub fn locate(&self, error: ConfigError) -> ConfigError {
        let Some(key) = error.key() else {
            return error.within(&self.to_string());
        };
        if let Some(setting) = self.setting_of(key) {
            return setting.blame(error);
        }
        match self.line_of(key) {
            Some((document, line)) => error.within(&document.name).on_line(Some(line)),
            None => error.within(&self.to_string()),
        }
    }

    /// The beginning of a message about the value of `key`: its origin, up to where the key itself follows.
    pub fn introduction(&self, key: Option<&str>) -> String {
        let setting = key.and_then(|key| self.setting_of(key));
        if let Some(setting) = setting {
            return setting.introduction();
        }
        match key.and_then(|key| self.line_of(key)) {
            Some((document, line)) => format!("{}:{line}: ", document.name),
            None => format!("{self}: "),
        }
    }

    /// The strongest setting of a key, or of the list with this entry.
    fn setting_of(&self, key: &str) -> Option<&Setting> {
        let list = key.split('[').next().unwrap_or(key);
        self.settings
            .iter()
            .rev()
            .find(|setting| setting.key == list)
    }

    fn line_of(&self, key: &str) -> Option<(&Document, usize)> {
        let document = self.document.as_ref()?;
        Some((document, file::line_of(&document.text, key)?))
    }

    /// All warnings for an operator, each with the place that its value came from: those about the environment, and those
    /// that were `found` in the configuration.
    pub fn warnings(&self, found: &[Warning]) -> Vec<String> {
        let ignored = self.warning();
        let ignored = ignored.map(|warning| format!("the environment: {warning}"));
        let found = found.iter().map(|warning| self.placed(warning));
        ignored.into_iter().chain(found).collect()
    }

    /// A warning with the place of the first of its keys that anything sets.
    fn placed(&self, warning: &Warning) -> String {
        let is_set = |key: &&String| self.setting_of(key).is_some() || self.line_of(key).is_some();
        match warning.keys().iter().find(is_set) {
            Some(key) => format!(
                "{}{key}: {}",
                self.introduction(Some(key)),
                warning.problem()
            ),
            None => format!("the default of {warning}"),
        }
    }

    /// A warning about variables that look like ours, but set no key.
    fn warning(&self) -> Option<String> {
        if self.ignored.is_empty() {
            return None;
        }
        let named = self.ignored.iter().take(MOST_NAMED);
        let named: Vec<String> = named.map(|name| setting::shown_variable(name)).collect();
        let more = match self.ignored.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let meant = self.ignored.iter().find_map(|name| key_meant_by(name));
        let example = setting::variable_of(meant.as_deref().unwrap_or(PORT_KEY));
        let links = if self.has_links {
            "; Kubernetes sets some for each service, unless enableServiceLinks is false"
        } else {
            ""
        };
        let named = named.join(", ");
        Some(format!(
            "ignoring {named}{more}: the variable of a key has two underscores between its parts, such as {example}{links}"
        ))
    }

    /// The format in which to say what is wrong. It is found even if the rest cannot be used.
    pub fn log_format(&self) -> LogFormat {
        let set = self
            .setting_of("log.format")
            .map(|setting| setting.pair().1);
        let is_json = match (set, &self.document) {
            (Some(set), _) => set == "json",
            (None, Some(document)) => says_json(&document.text),
            (None, None) => false,
        };
        if is_json {
            LogFormat::Json
        } else {
            LogFormat::Text
        }
    }
}

/// The key that a variable with single underscores was meant to be.
fn key_meant_by(name: &str) -> Option<String> {
    let name = name.strip_prefix(OURS)?;
    let mut keys = suggest::defaults().into_iter().map(|(key, _default)| key);
    keys.find(|key| suggest::is_same(key, name))
}

/// Whether a document asks for a log in JSON. A document that is no YAML is searched for the line.
fn says_json(text: &str) -> bool {
    if file::check_depth(text).is_ok()
        && let Ok(value) = serde_yaml::from_str::<Value>(text)
    {
        return value["log"]["format"] == "json";
    }
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(line));
    lines
        .filter_map(|line| line.split("format:").nth(1))
        .any(|value| value.trim().trim_matches(['"', '\'', '}', ' ']) == "json")
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.document {
            Some(document) => f.write_str(&document.name)?,
            None => write!(f, "the defaults (there is no {DEFAULT_FILE} here)")?,
        }
        for setting in &self.settings {
            write!(f, ", {setting}")?;
        }
        Ok(())
    }
}
