//! `server.proxy_protocol.from` and `server.trusted_proxies`: the proxies that name their clients.
//!
//! `types` reads it as a list of networks, addresses and the word `unix`; `net` asks it about each connection.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::lists;
use crate::secrecy::{Kind, quoted};

/// A trusted proxy, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// The proxies in this network, which may be a single address.
    Network(IpNet),
    /// The proxies that connect through the Unix socket.
    Unix,
}

/// The word for [`ProxySource::Unix`].
const UNIX: &str = "unix";

impl ProxySource {
    /// Whether a proxy at `address` is trusted. An IPv4 address mapped into IPv6 counts as IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match self {
            ProxySource::Network(network) => network.contains(&address.to_canonical()),
            ProxySource::Unix => false,
        }
    }
}

impl fmt::Display for ProxySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxySource::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            ProxySource::Network(network) => network.fmt(f),
            ProxySource::Unix => f.write_str(UNIX),
        }
    }
}

impl lists::Entry for ProxySource {
    const LIST: &'static str = "a list such as `[10.0.0.0/8, unix]`";

    fn read(text: &str) -> Result<Self, (String, String)> {
        if text == UNIX {
            return Ok(ProxySource::Unix);
        }
        let network = text.parse::<IpNet>().ok();
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let Some(network) = network.or_else(address) else {
            let remedy = "an address, a network such as 10.0.0.0/8, or unix";
            return Err((quoted(text, Kind::Name), remedy.into()));
        };
        // Such an entry would match other addresses than its author expects, or none.
        let meant = without_mapping(network).unwrap_or(network).trunc();
        if meant != network {
            let meant = ProxySource::Network(meant);
            return Err((
                format!("`{text}`"),
                format!("{meant} if you mean that network"),
            ));
        }
        Ok(ProxySource::Network(network))
    }
}

/// The IPv4 network in an IPv4-mapped IPv6 network (RFC 4291, section 2.5.5.2). Addresses are compared without the
/// mapping.
fn without_mapping(network: IpNet) -> Option<IpNet> {
    const MAPPING_BITS: u8 = 96;
    let IpNet::V6(network) = network else {
        return None;
    };
    let address = Ipv6Addr::to_ipv4_mapped(&network.addr())?;
    let prefix = network.prefix_len().checked_sub(MAPPING_BITS)?;
    Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn load(list: &str) -> Result<Vec<ProxySource>, String> {
        let text = format!("server: {{unix_socket: s, proxy_protocol: {{from: {list}}}}}");
        Config::from_yaml(&text, "test.yaml")
            .map(|config| config.server.proxy_protocol.from)
            .map_err(|error| error.to_string())
    }

    fn covers(list: &str, address: &str) -> bool {
        let list = load(list).unwrap();
        let address = address.parse().unwrap();
        list.iter().any(|source| source.contains(address))
    }

    #[test]
    fn a_network_covers_its_addresses_and_no_others() {
        for (list, inside, outside) in [
            ("[10.0.0.0/8]", "10.255.0.1", "11.0.0.1"),
            ("[192.0.2.7]", "192.0.2.7", "192.0.2.8"),
            ("['2001:db8::/32']", "2001:db8:ffff::1", "2001:db9::1"),
            ("['::1', 127.0.0.1]", "127.0.0.1", "127.0.0.2"),
        ] {
            assert!(covers(list, inside) && !covers(list, outside), "{list}");
        }
        assert!(covers("[0.0.0.0/0]", "192.0.2.1") && !covers("[0.0.0.0/0]", "::1"));
    }

    #[test]
    fn a_mapped_ipv4_address_counts_as_ipv4() {
        assert!(covers("[10.0.0.0/8]", "::ffff:10.0.0.1"));
        assert!(!covers("['::/0']", "::ffff:10.0.0.1"));
    }

    #[test]
    fn the_unix_socket_is_a_word_and_not_a_network() {
        assert_eq!(load("[unix]"), Ok(vec![ProxySource::Unix]));
        assert!(!covers("[unix]", "127.0.0.1"));
    }

    #[test]
    fn a_list_is_printed_as_it_was_written() {
        let text = "[10.0.0.0/8, 192.0.2.7, 2001:db8::/32, ::1, unix]";
        let printed: Vec<String> = load("[10.0.0.0/8, 192.0.2.7, '2001:db8::/32', '::1', unix]")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(format!("[{}]", printed.join(", ")), text);
    }

    #[test]
    fn each_mistake_is_named_with_the_entry_and_the_fix() {
        const FIX: &str = "use an address, a network such as 10.0.0.0/8, or unix";
        const AT: &str = "test.yaml:1: server.proxy_protocol.from";
        for (list, refusal) in [
            (
                "[10.0.0.0/33]",
                format!("{AT}[0]: found `10.0.0.0/33`; {FIX}"),
            ),
            (
                "[unix, localhost]",
                format!("{AT}[1]: found `localhost`; {FIX}"),
            ),
            ("[10]", format!("{AT}[0]: found `10`; {FIX}")),
            (
                "[10.1.2.3/8]",
                format!("{AT}[0]: found `10.1.2.3/8`; use 10.0.0.0/8 if you mean that network"),
            ),
            (
                "['::ffff:10.0.0.0/104']",
                format!(
                    "{AT}[0]: found `::ffff:10.0.0.0/104`; use 10.0.0.0/8 if you mean that network"
                ),
            ),
            (
                "unix",
                format!("{AT}: found string \"unix\"; use a list such as `[10.0.0.0/8, unix]`"),
            ),
        ] {
            assert_eq!(load(list), Err(refusal), "for {list}");
        }
    }
}
