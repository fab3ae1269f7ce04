//! The relay's URL: taken apart, and made into the requests that open its topics.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Request;
use tungstenite::http::Uri;

use crate::secrets;

/// A relay's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whether the scheme is `wss`.
    pub(crate) is_tls: bool,
    /// The host, as for a certificate: an IPv6 address without its brackets.
    pub(crate) host: String,
    /// Host and port as the URL has them.
    authority: String,
    port: u16,
    path: String,
    query: Option<String>,
}

impl Target {
    /// Takes a URL apart. The error is a sentence for the person who typed it.
    pub(crate) fn parse(url: &str) -> Result<Target, String> {
        let parsed = url.parse();
        // As it may be shown.
        let url = secrets::hide_in(url);
        let uri: Uri = parsed.map_err(|error| format!("{url}: {error}"))?;
        let is_tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(format!("{url}: it must begin with ws:// or wss://")),
        };
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(format!("{url}: it has no host"));
        }
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if authority.contains('@') {
            return Err(format!("{url}: it must not have a user's name"));
        }
        let port = port(&uri).map_err(|why| format!("{url}: {why}"))?;
        Ok(Target {
            is_tls,
            host: host.to_owned(),
            authority,
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// The address to connect to. It prefers IPv4, and takes nothing else if `needs_v4`.
    pub(crate) fn resolve(&self, needs_v4: bool) -> Result<SocketAddr, String> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses: Vec<_> = addresses
            .map_err(|error| format!("--url: {} has no address: {error}", self.host))?
            .collect();
        let chosen = addresses.iter().find(|address| address.is_ipv4());
        match chosen {
            Some(address) => Ok(*address),
            None if needs_v4 => Err(format!(
                "--source-ips: {} has no IPv4 address, and the source addresses are IPv4",
                self.host
            )),
            None => addresses
                .first()
                .copied()
                .ok_or_else(|| format!("--url: {} has no address", self.host)),
        }
    }

    /// Whether the host is this machine, by its name.
    pub(crate) fn is_local(&self) -> bool {
        let is_loopback = |address: IpAddr| address.is_loopback();
        self.host == "localhost" || self.host.parse().is_ok_and(is_loopback)
    }

    /// Whether both have the same topics, but for the host.
    pub(crate) fn has_topics_of(&self, other: &Target) -> bool {
        (self.is_tls, &self.path, &self.query) == (other.is_tls, &other.path, &other.query)
    }

    /// The URL of a topic. With several topics, the path has a number behind it.
    pub(crate) fn topic_url(&self, topic: usize, topics: usize) -> String {
        let scheme = if self.is_tls { "wss" } else { "ws" };
        let target = self.path_and_query(topic, topics);
        format!("{scheme}://{}{target}", self.authority)
    }

    /// The part of a topic's URL behind the host.
    pub(crate) fn path_and_query(&self, topic: usize, topics: usize) -> String {
        let mut target = self.path.clone();
        if topics > 1 {
            if !target.ends_with('/') {
                target.push('/');
            }
            target.push_str(&topic.to_string());
        }
        if let Some(query) = &self.query {
            target.push('?');
            target.push_str(query);
        }
        target
    }

    /// Host and port as the URL has them.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The request that opens a topic.
    pub(crate) fn request(&self, topic: usize, topics: usize) -> Result<Request, String> {
        let url = self.topic_url(topic, topics);
        url.as_str()
            .into_client_request()
            .map_err(|error| format!("--url {}: {error}", secrets::hide_in(&url)))
    }
}

/// The port that a URL names. `Uri` accepts any text there and then has no port.
pub(crate) fn port(uri: &Uri) -> Result<Option<u16>, String> {
    let host = uri.host().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let (_, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let behind = place.strip_prefix(host).unwrap_or_default();
    match behind.trim_start_matches(':') {
        "" => Ok(None),
        port => port
            .parse()
            .map(Some)
            .map_err(|_| "this port does not exist".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_put_together_again() {
        let target = Target::parse("wss://[::1]:8443/chat?key=1").unwrap();
        assert!(target.is_tls);
        assert_eq!(target.host, "::1");
        assert_eq!(target.topic_url(0, 1), "wss://[::1]:8443/chat?key=1");
        assert_eq!(target.topic_url(7, 8), "wss://[::1]:8443/chat/7?key=1");
        let bare = Target::parse("ws://localhost").unwrap();
        assert_eq!(bare.topic_url(1, 2), "ws://localhost/1");
        assert_eq!(bare.resolve(true).unwrap().port(), 80);
    }

    #[test]
    fn other_schemes_and_missing_hosts_are_refused_with_the_reason() {
        let refused = |url| Target::parse(url).unwrap_err();
        assert!(refused("http://localhost/").contains("ws:// or wss://"));
        assert!(refused("localhost:8080").contains("ws:// or wss://"));
        assert!(refused("ws://user@localhost/").contains("user's name"));
        for url in ["ws://127.0.0.1:99999/", "ws://a:80a80", "ws://[::1]:65536/"] {
            assert!(refused(url).contains("port does not exist"), "{url}");
        }
        assert_eq!(Target::parse("ws://[::1]:/").unwrap().port, 80);
        assert_eq!(Target::parse("wss://80:80/80:2").unwrap().port, 80);
    }
}
