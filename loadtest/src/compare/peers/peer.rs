//! A peer: its program, the files that it needs, and its ways to learn of ports and certificates.

use std::path::{Path, PathBuf};

use crate::scenario::protocol::Resume;

/// The reason of a server that is to speak TLS and cannot.
pub(super) const NO_TLS: &str = "has no TLS here";

/// The reason of a server that compresses, in a comparison whose clients do not offer it.
pub(super) const NO_OFFER: &str = "compresses for clients that offer it: add --deflate";

/// The command that builds the programs of this workspace.
pub(super) const BUILD: &str = "cargo build --release --workspace";

/// A server that can be started.
///
/// Its texts have placeholders. `{here}` is the folder of this program, and `{peers}` that of the peers. `{scratch}` is a
/// folder that is removed when the server has ended. `{config}` is its configuration, `{port}` its port, and `{workers}`
/// the number of its processors. In its template, `{tls}` stands for its settings for TLS, with `{certificate}` and `{key}`.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// A sentence about it.
    pub(crate) about: &'static str,
    /// The program and its arguments. It finds `PORT` and `WORKERS` in its environment as well.
    pub(super) command: &'static [&'static str],
    /// Its configuration, with placeholders.
    pub(super) template: Option<&'static str>,
    /// Lines that are put in place of `{settings}` in the template, or behind it.
    pub(super) settings: &'static str,
    /// Files that must be there, beside the program.
    pub(super) needs: &'static [&'static str],
    /// The way to its port.
    pub(super) port: Port,
    /// The way to its certificate.
    pub(super) tls: Tls,
    /// The way in which clients that come back go on.
    pub(crate) resume: Resume,
    /// Whether it compresses. It takes part only if clients offer that.
    pub(super) deflates: bool,
    /// The command that installs it.
    pub(super) install: &'static str,
}

/// The way to the port of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// It binds port 0 and prints a line with the word `ready` and the address that it got. Behind `metrics=` the line has
    /// the address of its counters, if it has some.
    Said,
    /// It has to be given a port, which another program may take first.
    Given,
}

/// The way to the certificate of a server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tls {
    /// It cannot speak TLS.
    Never,
    /// It finds the names of the files as `TLS_CERTIFICATE` and `TLS_KEY` in its environment.
    Environment,
    /// This is put in place of `{tls}` in its template.
    Template(&'static str),
}

/// The defaults of an entry of the catalogue.
pub(super) const PLAIN: Peer = Peer {
    name: "",
    about: "",
    command: &[],
    template: None,
    settings: "",
    needs: &[],
    port: Port::Said,
    tls: Tls::Never,
    resume: Resume::None,
    deflates: false,
    install: BUILD,
};

/// The folders of the servers' files.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of this program, with those of fanwire and the floor.
    pub here: PathBuf,
    /// `loadtest/peers`.
    pub peers: PathBuf,
}

impl Places {
    /// A text with the places filled in.
    pub(super) fn fill(&self, text: &str) -> String {
        let text = text.replace("{here}", &self.here.display().to_string());
        text.replace("{peers}", &self.peers.display().to_string())
    }
}

impl Peer {
    /// A sentence about the file that is missing, and how to install it; `None` if the peer can be started.
    pub fn missing(&self, places: &Places) -> Option<String> {
        let needed = self.command[..1]
            .iter()
            .chain(self.needs)
            .chain(&self.template);
        let missing = needed
            .map(|what| places.fill(what))
            .find(|what| !is_there(what))?;
        Some(format!(
            "not installed: {missing} is missing; {}",
            self.install
        ))
    }

    /// The reason why it cannot take part, if it cannot: it has no TLS and is to speak it, it compresses and nobody offers that,
    /// or a file is missing.
    pub(crate) fn absent(&self, places: &Places, load: Load) -> Option<String> {
        if self.deflates && !load.offers_deflate {
            return Some(NO_OFFER.to_owned());
        }
        match self.tls {
            Tls::Never if load.speaks_tls => Some(NO_TLS.to_owned()),
            Tls::Never | Tls::Environment | Tls::Template(_) => self.missing(places),
        }
    }
}

/// The traits of a comparison's load that decide which servers take part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// It is over TLS.
    pub(crate) speaks_tls: bool,
    /// Clients offer compression.
    pub(crate) offers_deflate: bool,
}

/// Whether a file is there. A name without a folder is a program in `PATH`.
pub(super) fn is_there(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).exists())
}
