//! The servers of a comparison: those that were asked for, and those that can be started.

use super::arguments::CompareArguments;
use super::peers::{Load, PEERS, Peer, Places};
use crate::report::Compared;
use crate::run::RunError;
use crate::scenario::target::Target;
use crate::secrets;

/// A server of a comparison.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Peer(&'static Peer),
    Running(String),
}

/// The servers that were asked for, by name.
pub(super) fn sources(arguments: &CompareArguments) -> Result<Vec<(String, Source)>, RunError> {
    let mut sources: Vec<(String, Source)> = Vec::new();
    for name in &arguments.servers {
        let peer = Peer::named(name).ok_or_else(|| {
            let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
            RunError::Usage(format!(
                "--servers: {name} is not known; the known servers are {}",
                names.join(", ")
            ))
        })?;
        sources.push((name.clone(), Source::Peer(peer)));
    }
    // Without a name, and without a server that runs already, all take part.
    if arguments.servers.is_empty() && arguments.server.is_empty() {
        sources.extend(
            PEERS
                .iter()
                .map(|peer| (peer.name.to_owned(), Source::Peer(peer))),
        );
    }
    for text in &arguments.server {
        sources.push(running(text).map_err(|why| RunError::Usage(format!("--server {why}")))?);
    }
    for (index, (name, _)) in sources.iter().enumerate() {
        if sources[..index].iter().any(|(other, _)| other == name) {
            return Err(RunError::Usage(format!("the server {name} is named twice")));
        }
    }
    Ok(sources)
}

/// A server that runs already, from `NAME=URL`.
fn running(text: &str) -> Result<(String, Source), String> {
    // A URL without a name before it may have an = too.
    let is_name = |name: &str| !name.is_empty() && !name.contains([':', '/', '?', '@']);
    let named = text.split_once('=').filter(|(name, _)| is_name(name));
    let Some((name, url)) = named else {
        let shown = secrets::hide_in(text);
        return Err(format!("{shown}: it must be NAME=URL"));
    };
    Target::parse(url).map_err(|why| format!("{name}={why}"))?;
    Ok((name.to_owned(), Source::Running(url.to_owned())))
}

/// A server of the comparison before its first run.
pub(super) fn compared((name, source): &(String, Source), places: &Places, load: Load) -> Compared {
    let (about, absent) = match source {
        Source::Peer(peer) => (peer.about.to_owned(), peer.absent(places, load)),
        Source::Running(url) => {
            let url = secrets::hide_in(url);
            (format!("A server that was running, at {url}."), None)
        }
    };
    Compared {
        name: name.clone(),
        about,
        absent,
        errors: Vec::new(),
        summary: None,
        runs: Vec::new(),
    }
}

/// The traits of the load that decide which servers take part.
pub(super) fn load(arguments: &CompareArguments) -> Load {
    Load {
        speaks_tls: arguments.tls,
        offers_deflate: arguments.options.deflate,
    }
}

/// The folders of the servers and their files.
pub(super) fn places(arguments: &CompareArguments) -> Result<Places, RunError> {
    let program = std::env::current_exe().map_err(|error| RunError::Failed(error.to_string()))?;
    let here = program.parent().unwrap_or(&program).to_owned();
    Ok(Places {
        here,
        peers: arguments.peers.clone(),
    })
}

/// The servers that can be started, a line each.
pub(crate) fn list(arguments: &CompareArguments) -> Result<String, RunError> {
    let places = places(arguments)?;
    let line = |peer: &Peer| {
        let absent = peer
            .absent(&places, load(arguments))
            .map_or(String::new(), |absent| format!(" ({absent})"));
        format!("{:<24}{}{absent}\n", peer.name, peer.about)
    };
    Ok(PEERS.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_runs_has_a_name_and_an_address() {
        let (name, source) = running("a=ws://b/?c=d").unwrap();
        assert!(name == "a" && matches!(source, Source::Running(url) if url == "ws://b/?c=d"));
        for wrong in ["ws://b", "ws://b/?c=d", "=ws://b", "a=b", "a=", ""] {
            assert!(running(wrong).is_err(), "{wrong}");
        }
    }
}
