//! Where clients may go.

use super::{
    address,
    host::{Host, InvalidHost, Pattern},
};
use ipnet::IpNet;
use std::net::IpAddr;

/// Which targets a [`ConnectProxy`](super::ConnectProxy) lets its clients reach.
///
/// Whoever can use a proxy speaks from its place in the network. So by default it goes to port 443 only,
/// and to no address that is not globally reachable: not to this machine, nor to anything on its private
/// networks, whatever name a client gives it.
///
/// | what | default | changed by |
/// |---|---|---|
/// | ports | 443 | [`ports`](Self::ports) |
/// | hosts, as the client names them | any name, any address | [`hosts`](Self::hosts) |
/// | addresses, of the host or those that its name resolves to | globally reachable | [`allow_network`](Self::allow_network) |
///
/// All three have to allow a target. Globally reachable is what is not in IANA's special-purpose registries
/// (RFC 6890) for IPv4 and IPv6. So loopback, private, link-local, multicast and reserved addresses are
/// denied, those behind a carrier's NAT as well. An IPv4 address that is embedded in one of IPv6, mapped
/// (`::ffff:0:0/96`), for NAT64 (`64:ff9b::/96`) or for 6to4 (`2002::/16`), is judged as what it is in IPv4.
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
    ports: Vec<u16>,
    hosts: Option<Vec<Pattern>>,
    networks: Vec<IpNet>,
}

/// Why a target is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Port,
    Host,
    Address,
}

impl Policy {
    /// Port 443 of any host that is globally reachable.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ports: vec![443],
            hosts: None,
            networks: Vec::new(),
        }
    }

    /// Sets which ports may be reached, in place of those that were set before. By default it is 443.
    #[must_use]
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports = ports.into_iter().collect();
        self
    }

    /// Sets which hosts may be reached, in place of those that were set before. By default it is any.
    ///
    /// | | is |
    /// |---|---|
    /// | `example.com` | this name: case, and a dot at the end, make no difference |
    /// | `*.example.com` | every name below it, at any depth, but not `example.com` |
    /// | `192.0.2.1`, `2001:db8::1` | this address, where a client asks for it and not for a name; a dot at the end makes no difference |
    /// | any of these with a port: `example.com:22`, `[2001:db8::1]:22` | the same at this port, whatever the [`ports`](Self::ports) are |
    ///
    /// A host whose last label is a number is an IPv4 address in dotted-decimal notation, or invalid (WHATWG URL,
    /// "ends in a number"): `127.1`, `0x7f.1` and `2130706433` are rejected, here and as the target of a client,
    /// since resolvers take them for `127.0.0.1`.
    ///
    /// A host that is listed is reached only at an address that is allowed: a private one takes
    /// [`allow_network`](Self::allow_network) as well.
    ///
    /// # Panics
    ///
    /// If one of them is none of these.
    #[must_use]
    #[track_caller]
    pub fn hosts(self, hosts: impl IntoIterator<Item: AsRef<str>>) -> Self {
        match self.try_hosts(hosts) {
            Ok(policy) => policy,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sets which hosts may be reached, where they are not known to be valid: see [`hosts`](Self::hosts).
    ///
    /// # Errors
    ///
    /// If one of them is no host.
    pub fn try_hosts(
        mut self,
        hosts: impl IntoIterator<Item: AsRef<str>>,
    ) -> Result<Self, InvalidHost> {
        let hosts = hosts.into_iter().map(|host| host.as_ref().parse());
        self.hosts = Some(hosts.collect::<Result<_, _>>()?);
        Ok(self)
    }

    /// Allows the addresses of a network, beside those that are globally reachable: of an inner network, or
    /// of loopback in a test. May be called for several.
    ///
    /// A network of IPv4 is given as one of IPv4: an address that is embedded in one of IPv6 is judged as what it
    /// is.
    ///
    /// Which names lead there is up to whoever answers for them: say with [`hosts`](Self::hosts) which of
    /// them clients may use.
    #[must_use]
    pub fn allow_network(mut self, network: IpNet) -> Self {
        self.networks.push(network);
        self
    }

    /// What can be said of a target before its name is resolved.
    pub(crate) fn check(&self, host: &Host, port: u16) -> Result<(), Denied> {
        let is_listed = self.ports.contains(&port);
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

    /// Whether this address may be connected to.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let destination = address::destination(address);
        address::is_globally_reachable(destination)
            || self.networks.iter().any(|net| net.contains(&destination))
    }
}

impl Default for Policy {
    /// The same as [`new`](Self::new).
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
    fn s5_by_default_it_is_port_443_of_any_host() {
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
    fn s5_ports_are_those_that_were_set_last() {
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
    fn s5_hosts_are_those_that_are_listed() {
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
    fn s5_a_port_of_its_own_is_the_only_one_of_a_host() {
        let policy = Policy::new().hosts(["a.test:22", "b.test", "c.test:22", "c.test:23"]);
        for target in ["a.test:22", "b.test:443", "c.test:22", "c.test:23"] {
            assert_eq!(check(&policy, target), Ok(()), "{target}");
        }
        for target in ["a.test:443", "b.test:22", "c.test:24"] {
            assert_eq!(check(&policy, target), Err(Denied::Port), "{target}");
        }
    }

    #[test]
    fn s5_a_network_adds_its_addresses_in_all_their_spellings() {
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
        // All of IPv6 is not IPv4 in a disguise.
        let policy = Policy::new().allow_network(network("::/0"));
        assert!(allows(&policy, "::1"));
        for address in ["::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"] {
            assert!(!allows(&policy, address), "{address}");
        }
    }

    #[test]
    #[should_panic(expected = "\"a b\" is not a host")]
    fn s5_a_list_with_something_else_in_it_panics() {
        let _ = Policy::new().hosts(["a", "a b"]);
    }
}
