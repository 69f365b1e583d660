//! The targets that clients of a proxy may reach.

use super::{
    address,
    host::{Host, InvalidHost, Pattern},
};
use ipnet::IpNet;
use std::{net::IpAddr, ops::RangeInclusive};

/// The targets that clients of a [`ConnectProxy`](super::ConnectProxy) or a `ConnectUdp` may reach.
///
/// A client of a proxy reaches every host that the proxy can reach. Therefore the default policy allows only port 443
/// of globally reachable addresses. It denies this machine and its private networks, under any name that a client
/// requests.
///
/// | rule | default | changed by |
/// |---|---|---|
/// | ports | 443 | [`ports`](Self::ports) |
/// | hosts, as the client names them | any name, any address | [`hosts`](Self::hosts) |
/// | the host's address, or the addresses that its name resolves to | globally reachable | [`allow_network`](Self::allow_network) |
///
/// All three rules must allow a target; a host listed with a port overrides the ports rule.
///
/// An address is globally reachable unless IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890) list its
/// range as deprecated or as not globally reachable. Exceptions within such a range, for example `192.0.0.9`, are
/// denied too. An IPv6 address must also be global unicast (`2000::/3`). Loopback, private, link-local, carrier-grade
/// NAT, multicast and reserved addresses are therefore denied.
///
/// If an IPv6 address embeds an IPv4 address, the policy checks the IPv4 address. This applies to mapped
/// (`::ffff:0:0/96`), NAT64 (`64:ff9b::/96`) and 6to4 (`2002::/16`) addresses.
///
/// ```
/// use tower_upgrade::tunnel::Policy;
///
/// // The web, and one database on the inner network.
/// let policy = Policy::new()
///     .hosts(["*.example.com", "database.internal:5432"])
///     .allow_network("10.1.0.0/16".parse()?);
/// # Ok::<(), tower_upgrade::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Policy {
    /// Merged ranges, in ascending order: a policy that allows all ports compares with one range, not with each port.
    ports: Vec<RangeInclusive<u16>>,
    hosts: Option<Vec<Pattern>>,
    networks: Vec<IpNet>,
}

/// The rule that denies a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Port,
    Host,
    Address,
}

impl Policy {
    /// Creates a policy that allows port 443 of any globally reachable host.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ports: ranges([443]),
            hosts: None,
            networks: Vec::new(),
        }
    }

    /// Sets the allowed ports, and replaces the ports set before. The default is 443.
    #[must_use]
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports = ranges(ports);
        self
    }

    /// Sets the allowed hosts, and replaces the hosts set before. The default is any host.
    ///
    /// | pattern | matches |
    /// |---|---|
    /// | `example.com` | this name; case and a trailing dot are ignored |
    /// | `*.example.com` | every subdomain at any depth, but not `example.com` |
    /// | `192.0.2.1`, `2001:db8::1` | this address, if the client requests the address and not a name; a trailing dot is ignored |
    /// | any of these with a port: `example.com:22`, `[2001:db8::1]:22` | the same host at this port only, regardless of [`ports`](Self::ports) |
    ///
    /// A host with a number as its last label is an IPv4 address in dotted-decimal notation, or invalid (WHATWG URL,
    /// "ends in a number"): `127.1`, `0x7f.1` and `2130706433` are rejected, here and as the target of a client,
    /// because resolvers treat them as `127.0.0.1`.
    ///
    /// A listed host is reached only at an allowed address: a host with a private address also needs
    /// [`allow_network`](Self::allow_network).
    ///
    /// # Panics
    ///
    /// Panics if a host matches none of these forms.
    #[must_use]
    #[track_caller]
    pub fn hosts(self, hosts: impl IntoIterator<Item: AsRef<str>>) -> Self {
        match self.try_hosts(hosts) {
            Ok(policy) => policy,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets the allowed hosts like [`hosts`](Self::hosts), but returns an error instead of panicking.
    ///
    /// # Errors
    ///
    /// Returns an error if a host is invalid.
    pub fn try_hosts(
        mut self,
        hosts: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Self, InvalidHost> {
        let hosts = hosts.into_iter().map(|host| host.as_ref().parse());
        self.hosts = Some(hosts.collect::<Result<_, _>>()?);
        Ok(self)
    }

    /// Allows the addresses of a network in addition to the globally reachable addresses, for example an internal
    /// network, or loopback in a test. Each call adds a network.
    ///
    /// Give an IPv4 network in IPv4 notation: an IPv4 address embedded in an IPv6 address is checked as the IPv4
    /// address.
    ///
    /// The DNS servers of a name decide whether the name resolves into this network: restrict the names that clients
    /// may use with [`hosts`](Self::hosts).
    #[must_use]
    pub fn allow_network(mut self, network: IpNet) -> Self {
        self.networks.push(network);
        self
    }

    /// Checks the host and the port of a target, before its name is resolved.
    pub(crate) fn check(&self, host: &Host, port: u16) -> Result<(), Denied> {
        let is_listed = self.ports.iter().any(|range| range.contains(&port));
        let Some(patterns) = &self.hosts else {
            return is_listed.then_some(()).ok_or(Denied::Port);
        };
        let mut denied = Denied::Host;
        for pattern in patterns.iter().filter(|pattern| pattern.matches(host)) {
            if pattern.port.map_or(is_listed, |own| own == port) {
                return Ok(());
            }
            denied = Denied::Port;
        }
        Err(denied)
    }

    /// Returns `true` if the proxy may connect to this address.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let destination = address::destination(address);
        address::is_globally_reachable(destination)
            || self.networks.iter().any(|net| net.contains(&destination))
    }
}

/// Collects ports into ranges.
fn ranges(ports: impl IntoIterator<Item = u16>) -> Vec<RangeInclusive<u16>> {
    let mut ports: Vec<_> = ports.into_iter().collect();
    ports.sort_unstable();
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some(last) if port <= last.end().saturating_add(1) => *last = *last.start()..=port,
            _ => ranges.push(port..=port),
        }
    }
    ranges
}

impl Default for Policy {
    /// Returns the same policy as [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::Authority;

    fn check(policy: &Policy, target: &str) -> Result<(), Denied> {
        let authority: Authority = target.parse().expect(target);
        let port = authority.port_u16().expect("a port");
        policy.check(&Host::of(&authority).expect(target), port)
    }

    #[test]
    fn s5_default_policy_allows_port_443_of_any_host() {
        let policy = Policy::default();
        for host in ["example.com", "127.0.0.1", "[::1]"] {
            assert_eq!(check(&policy, &format!("{host}:443")), Ok(()));
            for port in [1, 22, 25, 80, 442, 444, 8443, 65535] {
                let target = format!("{host}:{port}");
                assert_eq!(check(&policy, &target), Err(Denied::Port), "{target}");
            }
        }
    }

    #[test]
    fn s5_second_ports_call_replaces_the_first() {
        let policy = Policy::new().ports([80]).ports([8080, 8081]);
        for (port, seen) in [(443, false), (80, false), (8080, true), (8081, true)] {
            let checked = check(&policy, &format!("example.com:{port}"));
            assert_eq!(checked.is_ok(), seen, "{port}");
        }
        assert_eq!(
            check(&Policy::new().ports([]), "example.com:443"),
            Err(Denied::Port)
        );
    }

    #[test]
    fn s5_ports_are_allowed_in_any_order_and_number() {
        for (ports, expected) in [
            (vec![], vec![]),
            (
                vec![443, 80, 443, 81, 83],
                vec![80..=81, 83..=83, 443..=443],
            ),
            (vec![65535, 65534, 0], vec![0..=0, 65534..=65535]),
            ((0..=65535).collect(), vec![0..=65535]),
        ] {
            assert_eq!(ranges(ports), expected);
        }
        let allowed = [22, 83, 81, 80, 65535];
        let policy = Policy::new().ports(allowed);
        for port in [1, 21, 22, 23, 79, 80, 81, 82, 83, 84, 65534, 65535] {
            let checked = check(&policy, &format!("example.com:{port}"));
            assert_eq!(checked.is_ok(), allowed.contains(&port), "{port}");
        }
    }

    #[test]
    fn s5_only_listed_hosts_are_allowed() {
        let policy = Policy::new().hosts(["example.com", "*.example.org", "192.0.2.1"]);
        for target in ["example.com:443", "a.example.org:443", "192.0.2.1:443"] {
            assert_eq!(check(&policy, target), Ok(()), "{target}");
        }
        for target in [
            "www.example.com:443",
            "example.org:443",
            "192.0.2.2:443",
            "[::1]:443",
        ] {
            assert_eq!(check(&policy, target), Err(Denied::Host), "{target}");
        }
        assert_eq!(check(&policy, "example.com:80"), Err(Denied::Port));
        let nobody = Policy::new().hosts([] as [&str; 0]);
        assert_eq!(check(&nobody, "example.com:443"), Err(Denied::Host));
    }

    #[test]
    fn s5_host_with_a_port_allows_only_that_port() {
        let policy = Policy::new().hosts(["a.test:22", "b.test", "c.test:22", "c.test:23"]);
        for target in ["a.test:22", "b.test:443", "c.test:22", "c.test:23"] {
            assert_eq!(check(&policy, target), Ok(()), "{target}");
        }
        for target in ["a.test:443", "b.test:22", "c.test:24"] {
            assert_eq!(check(&policy, target), Err(Denied::Port), "{target}");
        }
    }

    #[test]
    fn s5_allowed_network_matches_every_spelling() {
        let allows = |policy: &Policy, text: &str| policy.allows(text.parse().expect(text));
        let network = |text: &str| text.parse().expect(text);
        let policy = Policy::new()
            .allow_network(network("10.1.0.0/16"))
            .allow_network(network("fd00::/8"));
        for address in [
            "10.1.0.0",
            "10.1.255.255",
            "::ffff:10.1.2.3",
            "fd12::1",
            "1.1.1.1",
        ] {
            assert!(allows(&policy, address), "{address}");
        }
        for address in [
            "10.0.255.255",
            "10.2.0.0",
            "127.0.0.1",
            "fc00::1",
            "::1",
            "::ffff:10.2.0.0",
        ] {
            assert!(!allows(&policy, address), "{address}");
        }
        // `::/0` does not cover IPv4 addresses embedded in IPv6.
        let policy = Policy::new().allow_network(network("::/0"));
        assert!(allows(&policy, "::1"));
        for address in ["::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"] {
            assert!(!allows(&policy, address), "{address}");
        }
    }

    #[test]
    #[should_panic(expected = "\"a b\" is not a host")]
    fn s5_invalid_host_in_a_list_panics() {
        let _ = Policy::new().hosts(["a", "a b"]);
    }
}
