//! Hosts of targets, and the host patterns of a policy.

use crate::negotiate::connect;
use http::uri::Authority;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The host of a target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Host<'a> {
    Address(IpAddr),
    /// A name that a resolver cannot mistake for an address.
    Name(&'a str),
}

impl<'a> Host<'a> {
    /// Parses the host of an authority that is [a host and a port](connect::is_host_and_port).
    ///
    /// A host that [ends in a number](ends_in_a_number) must be an IPv4 address in dotted-decimal notation, with or
    /// without a trailing dot; any other form is invalid and returns `None`. Resolvers treat `127.1`, `0x7f.1`,
    /// `0177.0.0.1` and `2130706433` as `127.0.0.1`. Public names never end in a number, so these forms are rejected
    /// rather than converted.
    pub(crate) fn of(authority: &'a Authority) -> Option<Self> {
        let host = authority.host();
        match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => Some(Self::Address(v6.parse::<Ipv6Addr>().ok()?.into())),
            None if ends_in_a_number(host) => {
                let address: Ipv4Addr = without_root(host).parse().ok()?;
                Some(Self::Address(address.into()))
            }
            None => Some(Self::Name(host)),
        }
    }
}

/// Returns `true` if the last label of a host, without the root, is a number: decimal digits, or `0x` followed by zero
/// or more hexadecimal digits (WHATWG URL, "ends in a number").
fn ends_in_a_number(host: &str) -> bool {
    let host = without_root(host);
    let last = host.rsplit_once('.').map_or(host, |(_, last)| last);
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    is_decimal || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A pattern in a list of hosts: `example.com`, `*.example.com`, `192.0.2.1` or `[2001:db8::1]`, each with or without
/// a port.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    hosts: Hosts,
    /// The only allowed port; `None` allows the ports of the policy.
    pub(super) port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Hosts {
    Address(IpAddr),
    Name(Box<str>),
    /// Every name that ends in this suffix, which starts with a dot.
    Below(Box<str>),
}

impl Pattern {
    pub(super) fn matches(&self, host: &Host) -> bool {
        match (&self.hosts, host) {
            (Hosts::Address(own), Host::Address(address)) => {
                own.to_canonical() == address.to_canonical()
            }
            (Hosts::Name(own), Host::Name(name)) => own.eq_ignore_ascii_case(without_root(name)),
            (Hosts::Below(own), Host::Name(name)) => {
                let name = without_root(name).as_bytes();
                let (own, at) = (own.as_bytes(), name.len().saturating_sub(own.len()));
                at > 0 && name[at..].eq_ignore_ascii_case(own)
            }
            (Hosts::Address(_), Host::Name(_))
            | (Hosts::Name(_) | Hosts::Below(_), Host::Address(_)) => false,
        }
    }
}

/// Strips the trailing dot (the DNS root): a name is the same with and without the dot.
fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl FromStr for Pattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        parse(text).ok_or_else(|| InvalidHost { text: text.into() })
    }
}

fn parse(text: &str) -> Option<Pattern> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        let hosts = Hosts::Address(address.into());
        return Some(Pattern { hosts, port: None });
    }
    let authority: Authority = text.parse().ok()?;
    if !connect::is_host_and_port(&authority) {
        return None;
    }
    let port = match authority.as_str().len() > authority.host().len() {
        true => Some(connect::port(&authority)?),
        false => None,
    };
    let hosts = match Host::of(&authority)? {
        Host::Address(address) => Hosts::Address(address),
        Host::Name(name) => {
            let name = without_root(name);
            let (below, labels) = match name.strip_prefix('*') {
                Some(below) => (true, below.strip_prefix('.')?),
                None => (false, name),
            };
            let is_label = |label: &str| !label.is_empty() && !label.contains('*');
            if !labels.split('.').all(is_label) {
                return None;
            }
            match below {
                true => Hosts::Below(name[1..].into()),
                false => Hosts::Name(name.into()),
            }
        }
    };
    Some(Pattern { hosts, port })
}

/// The error for an invalid host pattern of [`Policy::hosts`](super::Policy::hosts).
#[derive(Clone, Debug)]
pub struct InvalidHost {
    text: Box<str>,
}

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a host: expected a name, `*.` and a name, or an address in its usual form, each with or without `:port`",
            self.text
        )
    }
}

impl std::error::Error for InvalidHost {}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, target: &str) -> bool {
        let authority: Authority = target.parse().expect(target);
        let pattern: Pattern = pattern.parse().expect(pattern);
        pattern.matches(&Host::of(&authority).expect(target))
    }

    #[test]
    fn s5_name_ignores_case_and_trailing_dot() {
        for host in ["example.com", "EXAMPLE.com.", "example.com"] {
            assert!(matches("example.com", host), "{host}");
            assert!(matches("Example.Com.", host), "{host}");
        }
        for host in [
            "www.example.com",
            "example.org",
            "example.com..",
            "xample.com",
        ] {
            assert!(!matches("example.com", host), "{host}");
        }
    }

    #[test]
    fn s5_wildcard_matches_subdomains_only() {
        for host in ["www.example.com", "A.B.EXAMPLE.COM."] {
            assert!(matches("*.example.com", host), "{host}");
        }
        for host in [
            "example.com",
            ".example.com",
            "badexample.com",
            "example.com.evil.test",
            "www.example.comm",
        ] {
            assert!(!matches("*.example.com", host), "{host}");
        }
    }

    #[test]
    fn s5_address_matches_in_every_spelling() {
        for (pattern, host) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1."),
            ("192.0.2.1.", "192.0.2.1"),
            ("192.0.2.1", "[::ffff:192.0.2.1]"),
            ("2001:db8::1", "[2001:DB8:0::1]"),
            ("[2001:db8::1]:22", "[2001:db8::1]"),
        ] {
            assert!(matches(pattern, host), "{pattern} {host}");
        }
        assert!(!matches("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn s5_host_that_ends_in_a_number_is_an_address_or_invalid() {
        for host in [
            "192.0.513",
            "127.1",
            "0x7f.1",
            "0X7F.1.",
            "2130706433",
            "0177.0.0.1",
            "1.2.3.4.5",
            "256.0.0.1",
            "a.1",
            "a.0x",
            "example.com.09",
            "*.0.0.1",
        ] {
            let authority: Authority = host.parse().expect(host);
            assert_eq!(Host::of(&authority), None, "{host}");
            host.parse::<Pattern>().expect_err(host);
        }
        for host in ["1.example", "0x7f.test", "a1", "a.1b", "0xg", "1-1"] {
            let authority: Authority = host.parse().expect(host);
            assert_eq!(Host::of(&authority), Some(Host::Name(host)));
        }
    }

    #[test]
    fn s5_invalid_host_is_an_error() {
        for text in [
            "",
            ".",
            "*",
            "*.",
            "*example.com",
            "a.*.com",
            "*.*.com",
            "a..b",
            ".a",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            "example.com:http",
            "http://example.com",
            "example.com/path",
            "ann@example.com",
            "10.0.0.0/8",
            "[::1",
            "b\u{fc}cher.example",
        ] {
            let error = text.parse::<Pattern>().expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
