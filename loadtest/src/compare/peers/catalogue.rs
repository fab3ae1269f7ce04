//! All servers that a comparison can start. A new peer is an entry here.
//!
//! [`Peer`] describes the fields. `loadtest/README.md` has a table of the peers.

use crate::scenario::protocol::Resume;

use super::peer::{PLAIN, Peer, Port, Tls};

const FANWIRE: &[&str] = &["{here}/fanwire", "--config-file", "{config}"];
const FANWIRE_TLS: Tls =
    Tls::Template(r#"tls: { enabled: true, cert_file: "{certificate}", key_file: "{key}" }"#);
const NGINX_TLS: Tls = Tls::Template(
    r#" ssl; ssl_protocols TLSv1.3; ssl_certificate "{certificate}"; ssl_certificate_key "{key}""#,
);
const TOKIO: &str = "{peers}/tokio-tungstenite/target/release/peer-tokio-tungstenite";

/// All servers that can be started, in the order of a table.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "floor",
        about: "Not a relay, but the least that a server can do: one send per connection and turn.",
        command: &["{here}/floor", "--port", "{port}"],
        ..PLAIN
    },
    Peer {
        name: "fanwire",
        about: "This relay, with a worker for each processor that it has.",
        command: FANWIRE,
        template: Some("{peers}/fanwire/config.yaml"),
        tls: FANWIRE_TLS,
        ..PLAIN
    },
    Peer {
        name: "fanwire-at-once",
        about: "The same with relay.coalesce off: messages leave at once, however few they are.",
        command: FANWIRE,
        template: Some("{peers}/fanwire/config.yaml"),
        settings: "relay:\n  coalesce: 0s\n",
        tls: FANWIRE_TLS,
        ..PLAIN
    },
    Peer {
        name: "fanwire-history",
        about: "The same with a history of two minutes, so that clients that come back go on where they were.",
        command: FANWIRE,
        template: Some("{peers}/fanwire/config.yaml"),
        settings: "history:\n  max_age: 2m\n",
        tls: FANWIRE_TLS,
        resume: Resume::Fanwire,
        ..PLAIN
    },
    Peer {
        name: "fanwire-deflate",
        about: "The same with compression on.",
        command: FANWIRE,
        template: Some("{peers}/fanwire/config.yaml"),
        settings: "compression:\n  enabled: true\n  min_members: 1\n",
        tls: FANWIRE_TLS,
        deflates: true,
        ..PLAIN
    },
    Peer {
        name: "bun",
        about: "Bun's WebSocket server, which is µWebSockets, publishing to a topic.",
        command: &["{peers}/bun/bun", "{peers}/bun/server.js"],
        tls: Tls::Environment,
        install: "loadtest/peers/install bun",
        ..PLAIN
    },
    Peer {
        name: "bun-deflate",
        about: "The same with one compressor for all sockets, which forgets each message.",
        command: &["{peers}/bun/bun", "{peers}/bun/server.js", "shared"],
        tls: Tls::Environment,
        deflates: true,
        install: "loadtest/peers/install bun",
        ..PLAIN
    },
    Peer {
        name: "bun-deflate-dedicated",
        about: "The same with a compressor and a window for each socket.",
        command: &["{peers}/bun/bun", "{peers}/bun/server.js", "dedicated"],
        tls: Tls::Environment,
        deflates: true,
        install: "loadtest/peers/install bun",
        ..PLAIN
    },
    Peer {
        name: "tokio-tungstenite",
        about: "tokio-tungstenite; each task takes all that is queued, and flushes once.",
        command: &[TOKIO],
        tls: Tls::Environment,
        install: "loadtest/peers/install tokio-tungstenite",
        ..PLAIN
    },
    Peer {
        name: "go-gorilla",
        about: "Go's gorilla/websocket; frames are encoded once, and all that is queued leaves in one write.",
        command: &["{peers}/go-gorilla/server"],
        tls: Tls::Environment,
        install: "loadtest/peers/install go-gorilla",
        ..PLAIN
    },
    Peer {
        name: "node-ws",
        about: "Node's ws; sockets are corked, so that all frames of a turn leave in one write.",
        command: &["node", "{peers}/node-ws/server.js"],
        needs: &["{peers}/node-ws/node_modules/ws/package.json"],
        tls: Tls::Environment,
        install: "loadtest/peers/install node-ws",
        ..PLAIN
    },
    Peer {
        name: "node-ws-deflate",
        about: "The same with a compressor and a window for each socket, at the fastest level.",
        command: &["node", "{peers}/node-ws/server.js", "deflate"],
        needs: &["{peers}/node-ws/node_modules/ws/package.json"],
        tls: Tls::Environment,
        deflates: true,
        install: "loadtest/peers/install node-ws",
        ..PLAIN
    },
    Peer {
        name: "nginx-nchan",
        about: "nginx with the nchan module.",
        command: &["nginx", "-p", "{scratch}", "-e", "stderr", "-c", "{config}"],
        template: Some("{peers}/nginx-nchan/nginx.conf"),
        needs: &["/usr/lib/nginx/modules/ngx_nchan_module.so"],
        port: Port::Given,
        tls: NGINX_TLS,
        resume: Resume::Nchan,
        install: "loadtest/peers/install nginx-nchan",
        ..PLAIN
    },
    Peer {
        name: "nginx-nchan-deflate",
        about: "The same with each message compressed by itself, once for all.",
        command: &["nginx", "-p", "{scratch}", "-e", "stderr", "-c", "{config}"],
        template: Some("{peers}/nginx-nchan/nginx.conf"),
        settings: "nchan_deflate_message_for_websocket on;",
        needs: &["/usr/lib/nginx/modules/ngx_nchan_module.so"],
        port: Port::Given,
        tls: NGINX_TLS,
        resume: Resume::Nchan,
        deflates: true,
        install: "loadtest/peers/install nginx-nchan",
    },
    Peer {
        name: "python-websockets",
        about: "Python's websockets with uvloop, broadcasting.",
        command: &[
            "{peers}/python-websockets/venv/bin/python",
            "{peers}/python-websockets/server.py",
        ],
        tls: Tls::Environment,
        install: "loadtest/peers/install python-websockets",
        ..PLAIN
    },
    Peer {
        name: "tokio-tungstenite-each",
        about: "tokio-tungstenite; each message is sent and flushed by itself.",
        command: &[TOKIO, "--each"],
        tls: Tls::Environment,
        install: "loadtest/peers/install tokio-tungstenite",
        ..PLAIN
    },
    Peer {
        name: "floor-frame",
        about: "Not a relay, but the least that a server can do that sends each frame by itself.",
        command: &["{here}/floor", "--port", "{port}", "--sends", "frame"],
        ..PLAIN
    },
    Peer {
        name: "floor-memfd",
        about: "Not a relay, but the least that a server can do with sendfile from memory: for large messages.",
        command: &["{here}/floor", "--port", "{port}", "--sends", "memfd"],
        ..PLAIN
    },
];

impl Peer {
    /// The server of this name.
    pub fn named(name: &str) -> Option<&'static Peer> {
        PEERS.iter().find(|peer| peer.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::compare::peers::peer::{BUILD, Places, is_there};

    fn places() -> Places {
        Places {
            here: PathBuf::from("/nowhere"),
            peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
        }
    }

    #[test]
    fn a_missing_program_is_named_with_the_way_to_get_it() {
        let missing = Peer::named("floor").unwrap().missing(&places()).unwrap();
        assert_eq!(
            missing,
            format!("not installed: /nowhere/floor is missing; {BUILD}")
        );
    }

    #[test]
    fn names_are_unique_and_templates_and_sources_are_there() {
        for (index, peer) in PEERS.iter().enumerate() {
            assert!(PEERS[..index].iter().all(|other| other.name != peer.name));
            let template = peer.template.map(|file| places().fill(file));
            let text = template.map_or(String::new(), |file| fs::read_to_string(file).unwrap());
            let has_place = matches!(peer.tls, Tls::Template(_));
            assert_eq!(text.contains("{tls}"), has_place, "{}", peer.name);
            let sources = peer.command[1..]
                .iter()
                .filter(|word| word.starts_with("{peers}"));
            for file in sources.chain(&peer.template) {
                assert!(is_there(&places().fill(file)), "{file}");
            }
        }
    }
}
