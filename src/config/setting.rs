//! A single value from outside of a file: an environment variable, or the flag `--set`.
//!
//! [`super::layers`] calls it. The value is YAML. Its text is never part of an error made here, because it may be a secret.

use std::ffi::{OsStr, OsString};
use std::fmt;

use super::error::ConfigError;
use super::explain::{explain, explain_value};
use super::file::{self, MAX_FILE_BYTES};
use super::overlay::{self, Refused};
use super::suggest;

/// The beginning of a variable that sets a key.
pub(super) const PREFIX: &str = "FANWIRE__";
/// Stands between two sections in the name of a variable.
const SEPARATOR: &str = "__";
/// The variable by which platforms choose the port.
const PORT: &str = "PORT";
/// The key that [`PORT`] sets.
pub(super) const PORT_KEY: &str = "server.port";
/// The flag that sets a key.
const FLAG: &str = "--set";

const FIX_FLAG: &str = "use --set KEY=VALUE, such as --set server.port=9000";

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Giver {
    /// The flag `--set`.
    Flag,
    /// An environment variable.
    Variable(String),
}

impl Giver {
    /// The error for something that is not a key, and is not shown, because it may have a secret in it.
    fn names_no_key(&self) -> ConfigError {
        match self {
            Giver::Flag => ConfigError::new("an argument does not begin with a key", FIX_FLAG),
            Giver::Variable(_) => {
                let example = variable_of(PORT_KEY);
                let fix = format!("write the value behind an equals sign, such as {example}=9000");
                ConfigError::new("the name of the variable is not that of a key", fix)
            }
        }
    }
}

/// A value for a key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) giver: Giver,
    /// It may be a secret.
    text: String,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Without the value.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.giver {
            Giver::Flag => write!(f, "{FLAG} {}", self.key),
            Giver::Variable(name) => f.write_str(name),
        }
    }
}

impl Setting {
    /// Reads an argument of `--set`: `server.port=9000`.
    pub(super) fn from_flag(argument: &OsStr) -> Result<Setting, ConfigError> {
        let wrong = |problem: &str| ConfigError::new(problem, FIX_FLAG).within(FLAG);
        let argument = argument
            .to_str()
            .ok_or_else(|| wrong("an argument is not UTF-8"))?;
        let Some((key, text)) = argument.split_once('=') else {
            return Err(wrong("an argument has no `=`"));
        };
        Setting::new(key.trim(), Giver::Flag, text)
    }

    /// Reads a variable whose name begins with [`PREFIX`].
    pub(super) fn from_variable(name: &OsStr, value: &OsString) -> Result<Setting, ConfigError> {
        let name = name.to_string_lossy();
        let key = name[PREFIX.len()..].to_lowercase().replace(SEPARATOR, ".");
        let shown = shown_variable(&name);
        let Some(text) = value.to_str() else {
            let error = ConfigError::new("the value is not UTF-8", "use UTF-8 text");
            return Err(error.within(&shown));
        };
        Setting::new(&key, Giver::Variable(shown), text)
    }

    /// Reads the variable `PORT`. An empty one counts as none.
    pub(super) fn from_port(value: &OsStr) -> Option<Result<Setting, ConfigError>> {
        let text = value.to_string_lossy();
        let port = || Setting::new(PORT_KEY, Giver::Variable(PORT.into()), &text);
        (!text.is_empty()).then(port)
    }

    /// Refuses a key that does not exist, and a value that does not fit it.
    fn new(key: &str, giver: Giver, text: &str) -> Result<Setting, ConfigError> {
        let setting = Setting {
            key: key.to_owned(),
            giver,
            text: text.to_owned(),
        };
        match setting.check() {
            Ok(()) => Ok(setting),
            Err(error) => Err(setting.blame(error)),
        }
    }

    /// Whether the other value comes from the same place and sets the same key.
    pub(super) fn is_replaced_by(&self, other: &Setting) -> bool {
        (&self.key, &self.giver) == (&other.key, &other.giver)
    }

    /// The key with its value.
    pub(super) fn pair(&self) -> (&str, &str) {
        (&self.key, &self.text)
    }

    /// Adds the origin of this value to an error about it.
    pub(super) fn blame(&self, error: ConfigError) -> ConfigError {
        match &self.giver {
            Giver::Flag => error.given_by(FLAG),
            Giver::Variable(name) => error.within(name),
        }
    }

    /// The beginning of a message about this value.
    pub(super) fn introduction(&self) -> String {
        match &self.giver {
            Giver::Flag => format!("{FLAG} "),
            Giver::Variable(name) => format!("{name}: "),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |problem: &str, fix: String| ConfigError::new(problem, fix).of_key(&self.key);
        if self.key.is_empty() {
            return Err(ConfigError::new("it names no key", self.fix_of_key()));
        }
        let keys = suggest::known_keys();
        if !keys.contains(&self.key) {
            let meant = suggest::path_for(&self.key);
            if !suggest::may_be_shown(&self.key, meant.as_deref()) {
                return Err(self.giver.names_no_key());
            }
            return Err(wrong("unknown key", self.fix_of_key()));
        }
        if let Some(inside) = keys.iter().find(|key| is_inside(key, &self.key)) {
            let fix = format!("set its keys one by one, such as {}", self.named(inside));
            return Err(wrong("this is a section", fix));
        }
        if self.text.is_empty() {
            let fix = match self.giver {
                Giver::Flag => "write a value, or null for none",
                Giver::Variable(_) => "unset the variable, or write null for none",
            };
            return Err(wrong("the value is empty", fix.to_owned()));
        }
        if self.text.len() > MAX_FILE_BYTES {
            let fix = format!("use at most {} MiB", MAX_FILE_BYTES >> 20);
            return Err(wrong("the value is too long", fix));
        }
        file::check_depth(&self.text).map_err(|error| error.of_key(&self.key).on_line(None))?;
        match overlay::read("{}", [self.pair()]) {
            Ok(_) => Ok(()),
            Err(Refused::Value(error)) => Err(explain_value(&self.key, &error)),
            Err(Refused::Document(error)) => Err(explain("", &error).of_key(&self.key)),
        }
    }

    /// Advice for an unknown key.
    fn fix_of_key(&self) -> String {
        if let Some(meant) = suggest::path_for(&self.key) {
            return format!("did you mean `{}`?", self.named(&meant));
        }
        let (section, _name) = self.key.rsplit_once('.').unwrap_or(("", &self.key));
        let names = suggest::names_in(section);
        if section.is_empty() || names.is_empty() {
            let example = self.named(PORT_KEY);
            return format!(
                "use a key in its section, such as {example}; --print-config shows all"
            );
        }
        let full = |name: &String| self.named(&suggest::join(section, name));
        format!(
            "use one of {}",
            names.iter().map(full).collect::<Vec<_>>().join(", ")
        )
    }

    /// `key` as it is written where this value came from.
    fn named(&self, key: &str) -> String {
        match self.giver {
            Giver::Flag => key.to_owned(),
            Giver::Variable(_) => variable_of(key),
        }
    }
}

fn is_inside(key: &str, section: &str) -> bool {
    key.strip_prefix(section)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// The variable that sets `key`.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', SEPARATOR).to_uppercase())
}

/// The name of a variable, up to a character that does not belong into one. A value may stand behind it by mistake.
pub(super) fn shown_variable(name: &str) -> String {
    let is_foreign = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    match name.find(is_foreign) {
        Some(end) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Every key with its variable and its default, as a table for `docs/configuration.md`.
pub fn markdown_table() -> String {
    let mut table = String::from("| key | variable | default |\n|---|---|---|\n");
    for (key, default) in suggest::defaults() {
        let default = serde_yaml::to_string(&default).expect("the defaults can be written");
        let row = format!(
            "| `{key}` | `{}` | `{}` |\n",
            variable_of(&key),
            default.trim_end()
        );
        table.push_str(&row);
    }
    table
}
