//! Distinguishes globally reachable addresses from the addresses of this machine and its local networks.

use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 ranges that are not globally reachable: IANA's special-purpose registry (RFC 6890), and multicast, which has a
/// separate registry.
const NOT_GLOBAL_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),       // this network, and the unspecified address
    v4([10, 0, 0, 0], 8),      // private use
    v4([100, 64, 0, 0], 10),   // behind a carrier's NAT
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local: metadata services of clouds are here
    v4([172, 16, 0, 0], 12),   // private use
    v4([192, 0, 0, 0], 24),    // protocol assignments
    v4([192, 0, 2, 0], 24),    // documentation
    v4([192, 88, 99, 0], 24),  // relays for 6to4, deprecated
    v4([192, 168, 0, 0], 16),  // private use
    v4([198, 18, 0, 0], 15),   // benchmarks
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved, and the broadcast address
];

/// The part of the IPv6 address space that IANA assigned to global unicast. All other addresses, for example unique
/// local and link-local, are not globally reachable.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0], 3);

/// Ranges within global unicast that are not globally reachable (IANA's special-purpose registry for IPv6).
const NOT_GLOBAL_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0], 23),     // protocol assignments: Teredo, ORCHID and others
    v6([0x2001, 0xdb8, 0], 32), // documentation
    v6([0x3fff, 0, 0], 20),     // documentation
];

/// The NAT64 prefix: IPv4 addresses behind a translator (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);

/// The 6to4 prefix: IPv6 over IPv4 (RFC 3056).
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0], 16);

const fn v4(octets: [u8; 4], length: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(segments: [u16; 3], length: u8) -> Ipv6Net {
    let [a, b, c] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// Returns the effective destination of packets to this address: the embedded IPv4 address of an IPv6 address, or the
/// address unchanged.
pub(super) fn destination(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let octets = v6.octets();
    if let Some(mapped) = v6.to_ipv4_mapped() {
        mapped.into()
    } else if NAT64.contains(&v6) {
        let [.., a, b, c, d] = octets;
        Ipv4Addr::new(a, b, c, d).into()
    } else if SIX_TO_FOUR.contains(&v6) {
        let [_, _, a, b, c, d, ..] = octets;
        Ipv4Addr::new(a, b, c, d).into()
    } else {
        address
    }
}

/// Returns `true` if an address is globally reachable. Expects a [`destination`].
pub(super) fn is_globally_reachable(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(v4) => !NOT_GLOBAL_V4.iter().any(|range| range.contains(&v4)),
        IpAddr::V6(v6) => {
            GLOBAL_UNICAST.contains(&v6) && !NOT_GLOBAL_V6.iter().any(|range| range.contains(&v6))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(text: &str) -> bool {
        let address = text.parse().expect(text);
        is_globally_reachable(destination(address))
    }

    #[track_caller]
    fn assert_denied(first: &str, last: &str) {
        assert!(!is_allowed(first), "{first}");
        assert!(!is_allowed(last), "{last}");
    }

    #[track_caller]
    fn assert_allowed(addresses: &[&str]) {
        for address in addresses {
            assert!(is_allowed(address), "{address}");
        }
    }

    #[test]
    fn s5_special_purpose_ipv4_ranges_are_denied_and_their_neighbours_allowed() {
        for (before, first, last, after) in [
            ("", "0.0.0.0", "0.255.255.255", "1.0.0.0"),
            ("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"),
            (
                "100.63.255.255",
                "100.64.0.0",
                "100.127.255.255",
                "100.128.0.0",
            ),
            (
                "126.255.255.255",
                "127.0.0.0",
                "127.255.255.255",
                "128.0.0.0",
            ),
            (
                "169.253.255.255",
                "169.254.0.0",
                "169.254.255.255",
                "169.255.0.0",
            ),
            (
                "172.15.255.255",
                "172.16.0.0",
                "172.31.255.255",
                "172.32.0.0",
            ),
            ("191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"),
            ("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"),
            (
                "192.88.98.255",
                "192.88.99.0",
                "192.88.99.255",
                "192.88.100.0",
            ),
            (
                "192.167.255.255",
                "192.168.0.0",
                "192.168.255.255",
                "192.169.0.0",
            ),
            (
                "198.17.255.255",
                "198.18.0.0",
                "198.19.255.255",
                "198.20.0.0",
            ),
            (
                "198.51.99.255",
                "198.51.100.0",
                "198.51.100.255",
                "198.51.101.0",
            ),
            (
                "203.0.112.255",
                "203.0.113.0",
                "203.0.113.255",
                "203.0.114.0",
            ),
            ("223.255.255.255", "224.0.0.0", "239.255.255.255", ""),
            ("", "240.0.0.0", "255.255.255.255", ""),
        ] {
            assert_denied(first, last);
            for neighbour in [before, after] {
                assert!(neighbour.is_empty() || is_allowed(neighbour), "{neighbour}");
            }
        }
        assert_allowed(&["1.1.1.1", "8.8.8.8", "169.253.169.254", "193.0.0.1"]);
    }

    #[test]
    fn s5_special_purpose_ipv6_ranges_are_denied() {
        const ONES: &str = "ffff:ffff:ffff:ffff";
        for (first, last) in [
            ("::", "::1"),
            ("::7f00:1", "::ffff:ffff"), // IPv4-compatible, deprecated
            ("::ffff:0:0:0", "::ffff:0:101:101"), // IPv4-translated, deprecated
            ("64:ff9b:0:0:0:1::", &format!("64:ff9b::1:{ONES}")),
            ("64:ff9b:1::", &format!("64:ff9b:1:ffff:{ONES}")),
            ("100::", &format!("100::{ONES}")),
            ("1fff::", &format!("1fff:ffff:ffff:ffff:{ONES}")),
            ("2001::", &format!("2001:1ff:ffff:ffff:{ONES}")),
            ("2001:db8::", &format!("2001:db8:ffff:ffff:{ONES}")),
            ("3fff::", &format!("3fff:fff:ffff:ffff:{ONES}")),
            ("4000::", &format!("4000:ffff:ffff:ffff:{ONES}")),
            ("5f00::", &format!("5f00:ffff:ffff:ffff:{ONES}")),
            ("fc00::", &format!("fdff:ffff:ffff:ffff:{ONES}")),
            ("fe80::", &format!("febf:ffff:ffff:ffff:{ONES}")),
            ("fec0::", &format!("feff:ffff:ffff:ffff:{ONES}")),
            ("ff00::", &format!("ffff:ffff:ffff:ffff:{ONES}")),
        ] {
            assert_denied(first, last);
        }
        assert_allowed(&[
            "2000::",
            &format!("2000:ffff:ffff:ffff:{ONES}"),
            "2001:200::",
            &format!("2001:db7:ffff:ffff:{ONES}"),
            "2001:db9::",
            &format!("3ffe:ffff:ffff:ffff:{ONES}"),
            "3fff:1000::",
            &format!("3fff:ffff:ffff:ffff:{ONES}"),
            "2606:4700:4700::1111",
        ]);
    }

    #[test]
    fn s5_embedded_ipv4_address_is_checked_as_ipv4() {
        for (v4, is_allowed_itself) in [
            ("1.1.1.1", true),
            ("128.0.0.0", true),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
        ] {
            let [a, b, c, d] = v4.parse::<Ipv4Addr>().expect(v4).octets();
            for embedded in [
                format!("::ffff:{v4}"),
                format!("64:ff9b::{v4}"),
                format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
            ] {
                let address: IpAddr = embedded.parse().expect(&embedded);
                assert_eq!(destination(address).to_string(), v4, "{embedded}");
                assert_eq!(is_allowed(&embedded), is_allowed_itself, "{embedded}");
            }
        }
    }
}
