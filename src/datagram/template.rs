//! Path templates of CONNECT-UDP (RFC 9298 §2).

use crate::{negotiate::connect, tunnel::host::Host};
use http::uri::Authority;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::{fmt, net::Ipv6Addr, str::FromStr};

const HOST: &str = "{target_host}";
const PORT: &str = "{target_port}";

/// The characters that the expansion of a variable encodes (RFC 6570 §3.2.2).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A path, and perhaps a query, with the variables `target_host` and `target_port`.
#[derive(Clone, Debug)]
pub(super) struct Template {
    before: Box<str>,
    is_host_first: bool,
    between: Box<str>,
    after: Box<str>,
}

impl Template {
    /// Returns the template that RFC 9298 §2 defines for proxies.
    pub(super) fn well_known() -> Self {
        let template = format!("/.well-known/masque/udp/{HOST}/{PORT}/");
        template.parse().expect("a valid template")
    }

    /// Returns the path and the query of the request for a target.
    pub(super) fn expand(&self, target: &Authority) -> String {
        let host = target.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = host.unwrap_or(target.host());
        let host = utf8_percent_encode(host, ENCODED).to_string();
        let port = connect::port(target).unwrap_or_default().to_string();
        let (first, second) = match self.is_host_first {
            true => (host, port),
            false => (port, host),
        };
        format!(
            "{}{first}{}{second}{}",
            self.before, self.between, self.after
        )
    }

    /// Returns the target that a path and query name.
    ///
    /// # Errors
    ///
    /// Returns the message of a rejection with 400.
    pub(super) fn target(&self, path: &str) -> Result<Authority, &'static str> {
        let (first, second) = self
            .values(path)
            .ok_or("the path does not match the template of this proxy")?;
        let (host, port) = match self.is_host_first {
            true => (first, second),
            false => (second, first),
        };
        let host = percent_decode_str(host).decode_utf8();
        let host = host.map_err(|_| "the target host is not valid")?;
        let port = percent_decode_str(port).decode_utf8();
        let port = port.ok().as_deref().and_then(to_port);
        let port = port.ok_or("the target port must be from 1 to 65535")?;
        let target = match host.parse::<Ipv6Addr>() {
            Ok(_) => format!("[{host}]:{port}"),
            // With brackets, an address would pass as the host of an authority.
            Err(_) if host.starts_with('[') => return Err("the target host has brackets"),
            Err(_) => format!("{host}:{port}"),
        };
        let target = Authority::from_str(&target).map_err(|_| "the target host is not valid")?;
        match connect::is_host_and_port(&target) {
            true => Ok(target),
            false => Err("the target host is not valid"),
        }
    }

    /// Returns the values of both variables.
    fn values<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let values = path.strip_prefix(&*self.before)?;
        let values = values.strip_suffix(&*self.after)?;
        let (first, second) = values.split_once(&*self.between)?;
        let is_value = |value: &str| !value.contains(['/', '?', '&', '=', '#']);
        (is_value(first) && is_value(second)).then_some((first, second))
    }
}

/// Parses a port that consists of digits only.
fn to_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| *port > 0);
    port.filter(|_| is_number)
}

/// Returns the host of a target.
///
/// # Errors
///
/// Returns the message of a rejection with 400.
pub(super) fn host(target: &Authority) -> Result<Host<'_>, &'static str> {
    Host::of(target).ok_or("the target host ends in a number and is not an IPv4 address")
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        parse(text).ok_or_else(|| InvalidTemplate { text: text.into() })
    }
}

fn parse(text: &str) -> Option<Template> {
    let expanded = format!("?target_host={HOST}&target_port={PORT}");
    let text = text.replace("{?target_host,target_port}", &expanded);
    let (host, port) = (text.find(HOST)?, text.find(PORT)?);
    let first = host.min(port);
    let second = host.max(port);
    let template = Template {
        before: text[..first].into(),
        is_host_first: host < port,
        between: text.get(first + HOST.len()..second)?.into(),
        after: text[second + HOST.len()..].into(),
    };
    let literals = [&template.before, &template.between, &template.after];
    let is_literal = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['{', '}', '#'])
    };
    let is_valid = literals.into_iter().all(|text| is_literal(text))
        && template.before.starts_with('/')
        // Otherwise the end of the first value is ambiguous.
        && template.between.starts_with(['/', '&', '?']);
    is_valid.then_some(template)
}

/// The error for an invalid path template of [`ConnectUdp::template`](super::ConnectUdp::template).
#[derive(Clone, Debug)]
pub struct InvalidTemplate {
    text: Box<str>,
}

impl fmt::Display for InvalidTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a path template: expected a path, and perhaps a query, with `{HOST}` and `{PORT}` as whole \
             segments or values",
            self.text
        )
    }
}

impl std::error::Error for InvalidTemplate {}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        text.parse().expect(text)
    }

    #[test]
    fn d2_target_is_in_the_path() {
        let template = Template::well_known();
        let base = "/.well-known/masque/udp/";
        for (path, target) in [
            ("192.0.2.6/443/", "192.0.2.6:443"),
            ("example.com/1/", "example.com:1"),
            ("Example.COM./065535/", "Example.COM.:65535"),
            ("%65xample.com/%344%33/", "example.com:443"),
            ("2001%3Adb8%3A%3A42/443/", "[2001:db8::42]:443"),
            ("2001%3adb8::42/443/", "[2001:db8::42]:443"),
            ("::ffff:127.0.0.1/443/", "[::ffff:127.0.0.1]:443"),
        ] {
            let found = template.target(&format!("{base}{path}"));
            assert_eq!(found.as_ref().map(Authority::as_str), Ok(target), "{path}");
        }
    }

    #[test]
    fn d2_invalid_target_is_an_error_that_names_the_invalid_part() {
        let template = Template::well_known();
        let base = "/.well-known/masque/udp/";
        for (path, wrong) in [
            ("example.com/443", "path"),
            ("example.com/443//", "path"),
            ("example.com/443/?a", "path"),
            ("a/example.com/443/", "path"),
            ("example.com//", "port"),
            ("example.com/0/", "port"),
            ("example.com/65536/", "port"),
            ("example.com/+443/", "port"),
            ("example.com/http/", "port"),
            ("example.com/%ff/", "port"),
            ("/443/", "host"),
            ("%5B%3A%3A1%5D/443/", "brackets"),
            ("[::1]/443/", "brackets"),
            ("fe80%3A%3A1%25eth0/443/", "host"),
            ("1%3A2/443/", "host"),
            ("example.com%3A80/443/", "host"),
            ("ann%40example.com/443/", "host"),
            ("a%2Fb/443/", "host"),
            ("a%00b/443/", "host"),
            ("a%20b/443/", "host"),
            ("b%C3%BCcher.example/443/", "host"),
            ("%ff/443/", "host"),
            ("%/443/", "host"),
            ("%2541/443/", "host"),
        ] {
            let error = template.target(&format!("{base}{path}"));
            let error = error.expect_err(path);
            assert!(error.contains(wrong), "{path}: {error}");
        }
        for path in ["/", "/masque/example.com/443/", "/.well-known/masque/udp/"] {
            assert!(template.target(path).is_err(), "{path}");
        }
    }

    #[test]
    fn d2_template_can_have_a_query() {
        for text in [
            "/masque?h={target_host}&p={target_port}",
            "/masque?p={target_port}&h={target_host}",
            "/masque{?target_host,target_port}",
            "/{target_port}/udp/{target_host}",
            "/udp/{target_host}?port={target_port}&version=1",
        ] {
            let template = template(text);
            for target in ["example.com:53", "[2001:db8::1]:53", "192.0.2.1:443"] {
                let target: Authority = target.parse().expect(target);
                let path = template.expand(&target);
                assert_eq!(template.target(&path), Ok(target), "{path}");
            }
        }
        let template = template("/masque?h={target_host}&p={target_port}");
        let ipv6 = "[2001:db8::1]:53".parse().expect("an authority");
        assert_eq!(template.expand(&ipv6), "/masque?h=2001%3Adb8%3A%3A1&p=53");
        for path in [
            "/masque",
            "/masque?p=53&h=a",
            "/masque?h=a&p=53&x=1",
            "/masque?h=a&h=b&p=53",
            "/masque?x=1&h=a&p=53",
        ] {
            assert!(template.target(path).is_err(), "{path}");
        }
    }

    #[test]
    fn d2_invalid_template_is_an_error() {
        for text in [
            "",
            "/",
            "/{target_host}/",
            "/{target_port}/",
            "/{target_host}{target_port}/",
            "/{target_host}.{target_port}/",
            "/{target_host}/{target_port}/{other}",
            "/{target_host}/{target_port}/{target_host}",
            "/{+target_host}/{target_port}",
            "{target_host}/{target_port}/",
            "https://proxy.example/{target_host}/{target_port}/",
            "/a b/{target_host}/{target_port}/",
            "/{target_host}/{target_port}/#a",
        ] {
            let error = text.parse::<Template>().expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
