//! The addresses that a CONNECT proxy permits its clients to reach: S5.
//!
//! The first byte of the input selects the format of the rest: an address and an allowed network, with their IP
//! versions, or lines with the listed hosts, and a target.

use crate::reference;
use http::uri::Authority;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tower_upgrade::{fuzzing, tunnel::Policy};

pub fn run(data: &[u8]) {
    let Some((how, data)) = data.split_first() else {
        return;
    };
    if how % 2 == 0 {
        check_address(*how, data);
    } else if let Ok(text) = std::str::from_utf8(data) {
        check_target(text);
    }
}

/// The unreachable networks: both special-purpose registries, multicast, and the ranges that IANA has not allocated as
/// global unicast.
const SPECIAL: [&str; 24] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/3",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "4000::/2",
    "8000::/2",
    "c000::/3",
    "e000::/4",
    "f000::/5",
    "f800::/5",
];

/// The offset of the IPv4 octets in an IPv6 address with these leading octets.
const EMBEDDED: [(&str, usize); 3] = [
    ("::ffff:0:0/96", 12),
    ("64:ff9b::/96", 12),
    ("2002::/16", 2),
];

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Compares bit by bit.
fn is_in(address: &[u8], network: &[u8], length: usize) -> bool {
    let bit = |octets: &[u8], at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    address.len() == network.len() && (0..length).all(|at| bit(address, at) == bit(network, at))
}

fn is_in_any(address: &[u8], networks: &[&str]) -> bool {
    networks.iter().any(|text| {
        let (network, length) = text.split_once('/').expect("a network");
        let network: IpAddr = network.parse().expect("an address");
        is_in(address, &octets(network), length.parse().expect("a length"))
    })
}

/// Returns the embedded IPv4 address, or the address itself.
fn meant(address: &[u8]) -> &[u8] {
    let is_within = |(network, _): &&(&str, usize)| is_in_any(address, &[network]);
    match EMBEDDED.iter().find(is_within) {
        Some((_, at)) => &address[*at..at + 4],
        None => address,
    }
}

/// Takes the octets of one address from the front.
fn address(data: &[u8], is_v6: bool) -> Option<(IpAddr, &[u8])> {
    match is_v6 {
        true => {
            let (v6, rest) = data.split_first_chunk::<16>()?;
            Some((Ipv6Addr::from(*v6).into(), rest))
        }
        false => {
            let (v4, rest) = data.split_first_chunk::<4>()?;
            Some((Ipv4Addr::from(*v4).into(), rest))
        }
    }
}

/// Returns every spelling of an address.
fn spellings(address: IpAddr) -> Vec<IpAddr> {
    let mut spellings = vec![address];
    if address.is_ipv4() {
        for (network, at) in EMBEDDED {
            let (network, _) = network.split_once('/').expect("a network");
            let network: Ipv6Addr = network.parse().expect("an address");
            let mut v6 = network.octets();
            v6[at..at + 4].copy_from_slice(&octets(address));
            spellings.push(Ipv6Addr::from(v6).into());
        }
    }
    spellings
}

/// Checks an address and a network. The input begins with the network's prefix length.
fn check_address(how: u8, data: &[u8]) {
    let Some((length, data)) = data.split_first() else {
        return;
    };
    let Some((own, data)) = address(data, how & 2 != 0) else {
        return;
    };
    let Some((network, _)) = address(data, how & 4 != 0) else {
        return;
    };
    let network_octets = octets(network);
    let length = usize::from(*length) % (network_octets.len() * 8 + 1);
    let text = format!("{network}/{length}");
    let policy = Policy::new().allow_network(text.parse().expect("a network"));
    for address in spellings(own) {
        let octets = octets(address);
        let meant = meant(&octets);
        let is_global = !is_in_any(meant, &SPECIAL);
        let is_reached = fuzzing::may_connect(&Policy::new(), address);
        assert_eq!(is_reached, is_global, "{address}");
        let is_reached = fuzzing::may_connect(&policy, address);
        let is_allowed = is_global || is_in(meant, &network_octets, length);
        assert_eq!(is_reached, is_allowed, "{address} with {text}");
    }
}

/// A member of a host list: its host, whether it matches the subdomains of that host, and its port.
struct Listed {
    host: String,
    is_below: bool,
    port: Option<u16>,
}

/// Returns the canonical spelling of a host, and whether the host is an address. Returns `None` if the last label is a
/// number and the host is not an IPv4 address (WHATWG URL, "ends in a number").
///
/// An IPv4-mapped address equals its IPv4 address; a trailing dot makes no difference.
fn host(text: String) -> Option<(String, bool)> {
    if let Some(v6) = text.strip_prefix('[') {
        let address: Ipv6Addr = v6.trim_end_matches(']').parse().expect("an address");
        return Some((IpAddr::V6(address).to_canonical().to_string(), true));
    }
    let text = text.strip_suffix('.').unwrap_or(&text);
    let labels: Vec<_> = text.split('.').collect();
    let last = labels.last().expect("one at least");
    let is_number = match last.get(..2) {
        Some("0x") => last[2..].chars().all(|c| c.is_ascii_hexdigit()),
        _ => !last.is_empty() && last.chars().all(|c| c.is_ascii_digit()),
    };
    if !is_number {
        return Some((text.to_owned(), false));
    }
    // Four numbers up to 255, without a sign or a leading zero.
    let is_octet = |label: &&str| {
        label
            .parse::<u8>()
            .is_ok_and(|octet| octet.to_string() == **label)
    };
    let is_address = labels.len() == 4 && labels.iter().all(is_octet);
    is_address.then(|| (text.to_owned(), true))
}

impl Listed {
    fn parse(text: &str) -> Option<Self> {
        let (named, port) = match text.parse::<Ipv6Addr>() {
            Ok(v6) => (format!("[{v6}]"), None),
            Err(_) => reference::host_and_port(text)?,
        };
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
            None => None,
        };
        let (host, is_address) = host(named)?;
        let (is_below, host) = match host.strip_prefix("*.") {
            Some(below) => (true, below.to_owned()),
            None => (false, host),
        };
        let is_label = |label: &str| !label.is_empty() && !label.contains('*');
        let is_valid = is_address || host.split('.').all(is_label);
        is_valid.then_some(Self {
            host,
            is_below,
            port,
        })
    }

    fn has(&self, host: &str, is_address: bool) -> bool {
        match self.is_below {
            true => {
                !is_address
                    && host.ends_with(&format!(".{}", self.host))
                    && host.len() > self.host.len() + 1
            }
            false => host == self.host,
        }
    }
}

/// The last line is the target.
fn check_target(text: &str) {
    let mut lines: Vec<_> = text.split('\n').collect();
    let target = lines.pop().unwrap_or_default();
    let listed: Option<Vec<_>> = lines.iter().map(|line| Listed::parse(line)).collect();
    let policy = Policy::new().ports([80, 443]);
    let policy = match lines.is_empty() {
        true => Ok(policy),
        false => policy.try_hosts(&lines),
    };
    let (Ok(policy), Some(listed)) = (&policy, &listed) else {
        assert!(policy.is_err() && listed.is_none(), "{lines:?}");
        return;
    };
    let Some(port) = reference::connect_port(target) else {
        return;
    };
    let (named, _) = reference::host_and_port(target).expect("the target of a CONNECT");
    let host = host(named);
    let is_listed_port = [80, 443].contains(&port);
    let takes = |own: &Listed, host: &str, is_address: bool| {
        own.has(host, is_address) && own.port.map_or(is_listed_port, |own| own == port)
    };
    let due = match &host {
        None => false,
        Some(_) if listed.is_empty() => is_listed_port,
        Some((host, is_address)) => listed.iter().any(|own| takes(own, host, *is_address)),
    };
    let target: Authority = target.parse().expect("an authority");
    assert_eq!(
        fuzzing::may_ask_for(policy, &target, port),
        due,
        "{lines:?}, {target}"
    );
}
