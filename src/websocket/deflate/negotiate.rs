//! The negotiation of permessage-deflate (RFC 7692 §7.1).

use super::extensions;
use http::{HeaderMap, HeaderValue};
use std::{borrow::Cow, fmt};

/// The name of the extension.
const NAME: &str = "permessage-deflate";

/// The largest window of DEFLATE, and the default.
pub(in crate::websocket) const MAX_WINDOW_BITS: u8 = 15;

/// The smallest window that the compressor supports: zlib has no raw DEFLATE with a window of 8 bits.
pub(super) const MIN_WINDOW_BITS: u8 = 9;

/// The result of a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) own_takeover: bool,
    pub(super) peer_takeover: bool,
    /// From 8 to 15.
    pub(super) own_window_bits: u8,
    pub(super) peer_window_bits: u8,
}

/// The configurations that this side supports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) own_takeover: bool,
    pub(super) peer_takeover: bool,
    /// The size of the largest window: of the own messages, and of the peer's messages with context takeover.
    pub(super) window_bits: u8,
}

/// The parameters of an offer or an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Params {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<Bits>,
}

/// The value of `client_max_window_bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    /// The parameter without a value, which only an offer may contain.
    Any,
    Max(u8),
}

impl Bits {
    fn max(self) -> u8 {
        match self {
            Self::Any => MAX_WINDOW_BITS,
            Self::Max(bits) => bits,
        }
    }
}

impl Params {
    /// Returns `None` if a parameter is unknown, is repeated or has an invalid value.
    fn parse(params: &[(&str, Option<Cow<'_, str>>)]) -> Option<Self> {
        let mut parsed = Self::default();
        for (name, value) in params {
            let value = value.as_deref();
            let is_new = match *name {
                "server_no_context_takeover" => {
                    set_flag(&mut parsed.server_no_context_takeover, value)
                }
                "client_no_context_takeover" => {
                    set_flag(&mut parsed.client_no_context_takeover, value)
                }
                "server_max_window_bits" => {
                    let bits = window_bits(value?)?;
                    parsed.server_max_window_bits.replace(bits).is_none()
                }
                "client_max_window_bits" => {
                    let bits = match value {
                        Some(value) => Bits::Max(window_bits(value)?),
                        None => Bits::Any,
                    };
                    parsed.client_max_window_bits.replace(bits).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        Some(parsed)
    }

    fn to_value(self) -> HeaderValue {
        let value = HeaderValue::try_from(self.to_string());
        value.expect("tokens and separators are a header value")
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        match self.client_max_window_bits {
            Some(Bits::Any) => f.write_str("; client_max_window_bits"),
            Some(Bits::Max(bits)) => write!(f, "; client_max_window_bits={bits}"),
            None => Ok(()),
        }
    }
}

/// Sets a parameter without a value. Returns `false` if the parameter is repeated or has a value.
fn set_flag(flag: &mut bool, value: Option<&str>) -> bool {
    !std::mem::replace(flag, true) && value.is_none()
}

/// Parses a number from 8 to 15 without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    let is_canonical = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    let bits = value.parse().ok().filter(|_| is_canonical)?;
    (8..=MAX_WINDOW_BITS).contains(&bits).then_some(bits)
}

/// Accepts the first acceptable offer of a client, and returns the answer.
///
/// Returns `None` if no offer is acceptable, or if the header is malformed.
pub(super) fn accept(headers: &HeaderMap, terms: Terms) -> Option<(HeaderValue, Agreed)> {
    let offers = extensions::parse(headers)?;
    let (answer, agreed) = offers
        .iter()
        .filter(|offer| offer.name == NAME)
        .filter_map(|offer| Params::parse(&offer.params))
        .find_map(|offer| accept_offer(offer, terms))?;
    Some((answer.to_value(), agreed))
}

fn accept_offer(offer: Params, terms: Terms) -> Option<(Params, Agreed)> {
    let own_window_bits = offer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS);
    if own_window_bits < MIN_WINDOW_BITS {
        return None;
    }
    let own_takeover = terms.own_takeover && !offer.server_no_context_takeover;
    let own_window_bits = own_window_bits.min(terms.window_bits);
    let wants_peer = terms.peer_takeover && !offer.client_no_context_takeover;
    let (peer_takeover, peer_window_bits) = match offer.client_max_window_bits {
        Some(bits) if wants_peer => (true, bits.max().min(terms.window_bits)),
        Some(bits) => (false, bits.max()),
        // Only a client that offers the parameter can limit its window.
        None => (
            wants_peer && terms.window_bits == MAX_WINDOW_BITS,
            MAX_WINDOW_BITS,
        ),
    };
    let is_limited = peer_takeover && peer_window_bits < MAX_WINDOW_BITS;
    let answer = Params {
        server_no_context_takeover: !own_takeover,
        client_no_context_takeover: !peer_takeover,
        server_max_window_bits: offer.server_max_window_bits.map(|_| own_window_bits),
        client_max_window_bits: is_limited.then_some(Bits::Max(peer_window_bits)),
    };
    let agreed = Agreed {
        own_takeover,
        peer_takeover,
        own_window_bits,
        peer_window_bits,
    };
    Some((answer, agreed))
}

/// Returns the offer of a client.
#[cfg(feature = "client")]
pub(super) fn offer(terms: Terms) -> HeaderValue {
    offer_params(terms).to_value()
}

#[cfg(feature = "client")]
fn offer_params(terms: Terms) -> Params {
    let limit = (terms.window_bits < MAX_WINDOW_BITS).then_some(terms.window_bits);
    Params {
        server_no_context_takeover: !terms.peer_takeover,
        // A hint: the server then needs no window for the client's messages.
        client_no_context_takeover: !terms.own_takeover,
        // Without context takeover, the server's window takes no memory between messages.
        server_max_window_bits: limit.filter(|_| terms.peer_takeover),
        // The server may limit the window.
        client_max_window_bits: Some(limit.map_or(Bits::Any, Bits::Max)),
    }
}

/// Checks the server's answer to an offer with the same terms. Returns `None` if the server chose no extension.
///
/// # Errors
///
/// Returns the violated requirement of RFC 6455 §9.1 or RFC 7692 §7.1.
#[cfg(feature = "client")]
pub(super) fn check_answer(
    headers: &HeaderMap,
    terms: Terms,
) -> Result<Option<Agreed>, &'static str> {
    let chosen =
        extensions::parse(headers).ok_or("the server's list of extensions is malformed")?;
    let params = match &chosen[..] {
        [] => return Ok(None),
        [chosen] if chosen.name == NAME => &chosen.params,
        chosen if chosen.iter().all(|extension| extension.name == NAME) => {
            return Err("the server chose permessage-deflate more than once");
        }
        _ => return Err("the server chose an extension that was not offered"),
    };
    let answer = Params::parse(params)
        .filter(|answer| answer.client_max_window_bits != Some(Bits::Any))
        .ok_or("the server chose permessage-deflate with an invalid parameter")?;
    let offer = offer_params(terms);
    if offer.server_no_context_takeover && !answer.server_no_context_takeover {
        return Err("the server ignored server_no_context_takeover");
    }
    let peer_window_bits = answer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS);
    if peer_window_bits > offer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS) {
        return Err("the server ignored server_max_window_bits");
    }
    let own_window_bits = answer
        .client_max_window_bits
        .map_or(terms.window_bits, Bits::max);
    if own_window_bits > terms.window_bits {
        return Err("the server raised client_max_window_bits");
    }
    Ok(Some(Agreed {
        own_takeover: terms.own_takeover && !answer.client_no_context_takeover,
        peer_takeover: !answer.server_no_context_takeover,
        own_window_bits,
        peer_window_bits,
    }))
}

#[cfg(test)]
mod tests;
