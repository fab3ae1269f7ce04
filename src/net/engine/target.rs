//! The engines as the configuration names them, with the passwords and certificates that its files have.
//!
//! `server` makes them at the start and for `--check`. All workers share them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::config::{Cluster, ConfigError, Engine, EngineHost, EngineUrl, Password};
use crate::net::tls::trust::{self, Trust};

/// The port of an engine whose URL has none.
const PORT: u16 = 6379;

/// The port of a Sentinel whose URL has none.
const SENTINEL_PORT: u16 = 26379;

/// The largest file with a password.
const MAX_PASSWORD_BYTES: u64 = 4 << 10;

/// A user and a password. Without a user it is the default one.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Password,
}

/// A server over the network: a host, its port, and how to speak with it.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Option<Login>,
    pub(crate) tls: Option<Trust>,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The place of the server.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A host.
    Remote(Remote),
    /// Sentinels know it by the name of the master.
    Sentinels {
        sentinels: Vec<Remote>,
        master: String,
    },
}

/// An engine.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) login: Option<Login>,
    pub(crate) tls: Option<Trust>,
}

/// As the log shows it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "{}", path.display()),
            Place::Remote(remote) => remote.fmt(f),
            Place::Sentinels { master, .. } => write!(f, "{master} of the Sentinels"),
        }
    }
}

/// Reads the files that `cluster` names.
///
/// # Errors
/// A file is missing or has the wrong contents.
pub(crate) fn load(cluster: &Cluster) -> Result<Vec<Target>, ConfigError> {
    let tls = trust::load(cluster)?;
    let engines = cluster.engines.iter().enumerate();
    engines
        .map(|(at, engine)| target(at, engine, tls.as_ref()))
        .collect()
}

fn target(at: usize, engine: &Engine, tls: Option<&Trust>) -> Result<Target, ConfigError> {
    let key = |name: &str| format!("cluster.engines[{at}].{name}");
    let password = |name: &str, file: Option<&Path>| {
        file.map(|file| read_password(&key(name), file)).transpose()
    };
    let of_sentinels = password(
        "sentinel_password_file",
        engine.sentinel_password_file.as_deref(),
    )?;
    let of_server = password("password_file", engine.password_file.as_deref())?;
    let server = engine.url.as_ref().or(engine.master.as_ref());
    let server = server.expect("a checked configuration has one of the two");
    let tls_of = |url: &EngineUrl| tls.filter(|_| url.is_tls()).cloned();
    let place = match &server.host {
        EngineHost::Unix(path) => Place::Unix(path.clone()),
        EngineHost::Tcp { host, port, .. } if engine.sentinels.is_empty() => {
            Place::Remote(Remote {
                host: host.clone(),
                port: port.unwrap_or(PORT),
                login: None,
                tls: None,
            })
        }
        EngineHost::Tcp { host, .. } => Place::Sentinels {
            sentinels: engine
                .sentinels
                .iter()
                .filter_map(|url| sentinel(url, of_sentinels.as_ref(), tls_of(url)))
                .collect(),
            master: host.clone(),
        },
    };
    Ok(Target {
        name: engine.name.clone(),
        place,
        login: login(server, of_server.as_ref()),
        tls: tls_of(server),
    })
}

fn sentinel(url: &EngineUrl, password: Option<&Password>, tls: Option<Trust>) -> Option<Remote> {
    let EngineHost::Tcp { host, port, .. } = &url.host else {
        return None;
    };
    Some(Remote {
        host: host.clone(),
        port: port.unwrap_or(SENTINEL_PORT),
        login: login(url, password),
        tls,
    })
}

fn login(url: &EngineUrl, password: Option<&Password>) -> Option<Login> {
    let password = url.password.as_ref().or(password)?.clone();
    let user = url.user.clone();
    Some(Login { user, password })
}

/// Reads a file with a password. A line's end behind it does not belong to it.
fn read_password(key: &str, path: &Path) -> Result<Password, ConfigError> {
    let read = || {
        // Checked first, because opening a pipe would wait for its writer.
        if !path.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut text = String::new();
        let file = File::open(path)?;
        file.take(MAX_PASSWORD_BYTES + 1)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    let wrong = |problem: &str, fix: &str| {
        let problem = format!("`{}` {problem}", path.display());
        ConfigError::new(problem, fix).of_key(key)
    };
    let text = read().map_err(|error| {
        wrong(
            &format!("cannot be read: {error}"),
            "name a file that the relay's user may read",
        )
    })?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty()
        || text.len() as u64 > MAX_PASSWORD_BYTES
        || password.contains(char::is_control)
    {
        return Err(wrong(
            "does not have one password on one line",
            "write the password into it, and nothing else",
        ));
    }
    Ok(Password::new(password))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::config::Config;

    fn targets(text: &str) -> Result<Vec<Target>, String> {
        let config = Config::from_yaml(text, "t.yaml").map_err(|error| error.to_string())?;
        load(&config.cluster).map_err(|error| error.to_string())
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn passwords_come_from_the_url_or_a_file() {
        let (one, two) = (file("from-file\r\n"), file("of sentinels"));
        let text = format!(
            "cluster:\n  engines:\n  - {{name: a, url: 'redis://u:p@h'}}\n  - {{name: b, url: 'redis://u@[::1]:7', password_file: \
             '{one}'}}\n  - {{name: c, sentinels: ['redis://s'], master: 'redis://m', sentinel_password_file: '{two}'}}\n  - \
             {{name: d, url: 'unix:/s'}}\n",
            one = one.path().display(),
            two = two.path().display(),
        );
        let found = targets(&text).unwrap();
        let password = |login: &Option<Login>| {
            login
                .as_ref()
                .map(|login| login.password.reveal().to_owned())
        };
        let passwords: Vec<_> = found.iter().map(|target| password(&target.login)).collect();
        assert_eq!(
            passwords,
            [Some("p".into()), Some("from-file".into()), None, None]
        );
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["h:6379", "[::1]:7", "m of the Sentinels", "/s"]);
        let Place::Sentinels { sentinels, .. } = &found[2].place else {
            panic!("Sentinels know it");
        };
        assert_eq!(sentinels[0].to_string(), "s:26379");
        assert_eq!(password(&sentinels[0].login), Some("of sentinels".into()));
        assert!(!format!("{found:?}").contains("from-file"));
    }

    #[test]
    fn a_file_without_one_password_is_refused_and_not_shown() {
        for contents in ["", "\n", "two\nlines 4711", &"4711".repeat(2000)] {
            let file = file(contents);
            let text = format!(
                "cluster: {{engines: [{{name: a, url: 'redis://h', password_file: '{}'}}]}}",
                file.path().display()
            );
            let error = targets(&text).unwrap_err();
            assert!(
                error.contains("cluster.engines[0].password_file: `"),
                "{error}"
            );
            assert!(
                error.contains("does not have one password on one line"),
                "{error}"
            );
            assert!(!error.contains("4711"), "{error}");
        }
        let text = "cluster: {engines: [{name: a, url: 'redis://h', password_file: /absent}]}";
        let error = targets(text).unwrap_err();
        assert!(
            error.contains("`/absent` cannot be read: No such file"),
            "{error}"
        );
    }
}
