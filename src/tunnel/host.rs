//! Hosts: what clients ask for, and what a policy lists.

use crate::negotiate::connect;
use http::uri::Authority;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// The host of a target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Host<'a> {
    Address(IpAddr),
    /// Whatever is no address in its usual spelling. A resolver may still take it for one: `127.1`.
    Name(&'a str),
}

impl<'a> Host<'a> {
    /// The host of an authority that is [a host and a port](connect::is_host_and_port).
    pub(crate) fn of(authority: &'a Authority) -> Self {
        let host = authority.host();
        let address = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6),
            None => host.parse(),
        };
        match address {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(host),
        }
    }
}

/// A member of a list of hosts: `example.com`, `*.example.com`, `192.0.2.1`, `[2001:db8::1]`, each with a
/// port or without.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    hosts: Hosts,
    /// The only one, or those of the policy.
    pub(super) port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Hosts {
    Address(IpAddr),
    Name(Box<str>),
    /// Whatever ends in this name with its leading dot.
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

/// A name is the same with the dot of the root behind it and without.
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
    let hosts = match Host::of(&authority) {
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

/// A text that is no host for [`Policy::hosts`](super::Policy::hosts).
#[derive(Clone, Debug)]
pub struct InvalidHost {
    text: Box<str>,
}

impl fmt::Display for InvalidHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no host: expected a name, `*.` and a name, or an address, each with `:port` or without",
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
        pattern.matches(&Host::of(&authority))
    }

    #[test]
    fn s5_a_name_is_itself_without_case_and_without_the_root() {
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
    fn s5_a_wildcard_is_every_name_below_and_not_the_name_itself() {
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
        assert!(!matches("*.0.0.1", "127.0.0.1"));
    }

    #[test]
    fn s5_an_address_is_itself_however_it_is_spelled() {
        for (pattern, host) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "[::ffff:192.0.2.1]"),
            ("2001:db8::1", "[2001:DB8:0::1]"),
            ("[2001:db8::1]:22", "[2001:db8::1]"),
        ] {
            assert!(matches(pattern, host), "{pattern} {host}");
        }
        // A resolver might take these for it.
        for host in ["192.0.513", "192.0.2.1.", "0xc0.0.2.1", "192.0.2.2"] {
            assert!(!matches("192.0.2.1", host), "{host}");
        }
    }

    #[test]
    fn s5_what_is_no_host_says_so() {
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
