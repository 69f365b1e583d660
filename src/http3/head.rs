//! The heads of requests and responses: field sections and their pseudo-header fields (RFC 9114 §4.2, §4.3).

use super::{
    code,
    error::Error,
    qpack::{
        decode::{self, DecodeError},
        encode,
    },
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{self, Entry},
    uri::{Authority, PathAndQuery, Scheme},
};

/// The head of a request.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// The `:protocol` of an extended CONNECT (RFC 9220).
    pub(crate) protocol: Option<hyper::ext::Protocol>,
    /// The value of `Content-Length`.
    pub(crate) content_length: Option<u64>,
}

/// The reason why a head is not served.
#[derive(Debug)]
pub(crate) enum Invalid {
    /// The head exceeds the limit.
    TooLarge,
    Error(Error),
}

impl From<DecodeError> for Invalid {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge => Self::TooLarge,
            DecodeError::Malformed => Self::Error(Error::fatal(
                code::QPACK_DECOMPRESSION_FAILED,
                "a field section cannot be decoded",
            )),
        }
    }
}

impl From<Error> for Invalid {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Decodes the head of a request of at most `max_size` bytes, counted as in RFC 9114 §4.2.2.
///
/// # Errors
///
/// Returns a malformed head (RFC 9114 §4.1.2) as an error of the stream, and an encoding that cannot be decoded as an
/// error of the connection (RFC 9204 §6).
pub(crate) fn decode_request(section: &[u8], max_size: usize) -> Result<RequestHead, Invalid> {
    let mut pseudo = Pseudo::default();
    let headers = decode_section(section, max_size, |name, value| pseudo.set(name, value))?;
    let content_length = content_length(&headers)?;
    let (method, uri, protocol) = pseudo.into_target(&headers)?;
    Ok(RequestHead {
        method,
        uri,
        headers,
        protocol,
        content_length,
    })
}

/// Decodes trailers.
pub(crate) fn decode_trailers(section: &[u8], max_size: usize) -> Result<HeaderMap, Error> {
    let no_pseudo = |_: &[u8], _: &[u8]| Err("a pseudo-header field in trailers");
    match decode_section(section, max_size, no_pseudo) {
        Ok(trailers) => Ok(trailers),
        Err(Invalid::TooLarge) => Err(Error::malformed("the trailers are too large")),
        Err(Invalid::Error(error)) => Err(error),
    }
}

/// Decodes a field section, and passes the pseudo-header fields to `pseudo`.
fn decode_section(
    section: &[u8],
    max_size: usize,
    mut pseudo: impl FnMut(&[u8], &[u8]) -> Result<(), &'static str>,
) -> Result<HeaderMap, Invalid> {
    let mut headers = HeaderMap::new();
    decode::decode(section, max_size, |name, value| {
        let result = if name.first() != Some(&b':') {
            append(&mut headers, name, value)
        } else if headers.is_empty() {
            pseudo(name, value)
        } else {
            Err("a pseudo-header field follows a header field")
        };
        result.map_err(|reason| Invalid::Error(Error::malformed(reason)))
    })?;
    Ok(headers)
}

fn append(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    // Upper-case names are malformed (RFC 9114 §4.2). `HeaderName::from_lowercase` would accept a quotation mark.
    let is_lower_case = !name.iter().any(u8::is_ascii_uppercase);
    let name = HeaderName::from_bytes(name).ok().filter(|_| is_lower_case);
    let name = name.ok_or("a field name is invalid")?;
    let value = HeaderValue::from_bytes(value).map_err(|_| "a field value is invalid")?;
    if is_of_the_connection(&name) || (name == header::TE && value != "trailers") {
        return Err("a field of a connection is not allowed in HTTP/3");
    }
    if name == header::COOKIE {
        // Clients split the field for better compression (RFC 9114 §4.2.1).
        if let Entry::Occupied(mut cookies) = headers.entry(&name) {
            let joined = [cookies.get().as_bytes(), b"; ", value.as_bytes()].concat();
            let joined = HeaderValue::from_bytes(&joined).map_err(|_| "a cookie is invalid")?;
            cookies.insert(joined);
            return Ok(());
        }
    }
    headers
        .try_append(name, value)
        .map_err(|_| "a message has too many fields")?;
    Ok(())
}

/// Fields that HTTP/3 does not have (RFC 9114 §4.2).
fn is_of_the_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || *name == "keep-alive"
        || *name == "proxy-connection"
}

/// Returns the length that `Content-Length` announces (RFC 9110 §8.6).
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let digits = value
            .to_str()
            .ok()
            .filter(|value| !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()));
        let value = digits
            .and_then(|digits| digits.parse::<u64>().ok())
            .ok_or_else(|| Error::malformed("`content-length` is invalid"))?;
        if length.is_some_and(|length| length != value) {
            return Err(Error::malformed("the values of `content-length` differ"));
        }
        length = Some(value);
    }
    Ok(length)
}

/// The pseudo-header fields of a request (RFC 9114 §4.3.1).
#[derive(Default)]
struct Pseudo {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    protocol: Option<String>,
}

impl Pseudo {
    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        fn once<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), &'static str> {
            let value = value.ok_or("a pseudo-header field is invalid")?;
            match slot.replace(value) {
                None => Ok(()),
                Some(_) => Err("a pseudo-header field occurs twice"),
            }
        }
        match name {
            b":method" => once(&mut self.method, Method::from_bytes(value).ok()),
            b":scheme" => once(&mut self.scheme, Scheme::try_from(value).ok()),
            b":authority" => once(&mut self.authority, Authority::try_from(value).ok()),
            b":path" => {
                // Older versions of `http` accept a path that would extend the host.
                let is_path = value.first() == Some(&b'/') || value == b"*";
                let path = PathAndQuery::try_from(value).ok();
                once(&mut self.path, path.filter(|_| is_path))
            }
            b":protocol" => {
                let protocol = std::str::from_utf8(value).ok().map(str::to_owned);
                once(&mut self.protocol, protocol)
            }
            _ => Err("a pseudo-header field is unknown"),
        }
    }

    fn into_target(
        self,
        headers: &HeaderMap,
    ) -> Result<(Method, Uri, Option<hyper::ext::Protocol>), Error> {
        let method = self
            .method
            .ok_or_else(|| Error::malformed("`:method` is missing"))?;
        let is_connect = method == Method::CONNECT;
        if self.authority.as_ref().is_some_and(has_user) {
            return Err(Error::malformed("`:authority` has a user"));
        }
        match self.protocol {
            // RFC 9114 §4.4.
            None if is_connect => {
                if self.scheme.is_some() || self.path.is_some() {
                    return Err(Error::malformed("a CONNECT has `:scheme` or `:path`"));
                }
                let authority = self
                    .authority
                    .ok_or_else(|| Error::malformed("`:authority` is missing"))?;
                return Ok((method, authority.into(), None));
            }
            Some(_) if !is_connect => {
                return Err(Error::malformed("`:protocol` requires the method CONNECT"));
            }
            _ => {}
        }
        let (Some(scheme), Some(path)) = (self.scheme, self.path) else {
            return Err(Error::malformed("`:scheme` or `:path` is missing"));
        };
        // RFC 9110 §7.1.
        if path == "*" && method != Method::OPTIONS {
            return Err(Error::malformed("the path `*` requires the method OPTIONS"));
        }
        let authority = match (self.authority, headers.get(header::HOST)) {
            (Some(authority), Some(host)) if authority.as_str() != host => {
                return Err(Error::malformed("`:authority` and `host` differ"));
            }
            (Some(authority), _) => authority,
            (None, Some(host)) => Authority::try_from(host.as_bytes())
                .ok()
                .filter(|host| !has_user(host))
                .ok_or_else(|| Error::malformed("`host` is invalid"))?,
            (None, None) => return Err(Error::malformed("`:authority` is missing")),
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|_| Error::malformed("the request target is invalid"))?;
        let protocol = self.protocol.map(|protocol| protocol.as_str().into());
        Ok((method, uri, protocol))
    }
}

fn has_user(authority: &Authority) -> bool {
    authority.as_str().contains('@')
}

/// Encodes the head of a response. Fields that HTTP/3 does not have are left out.
pub(crate) fn encode_response(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut section = Vec::with_capacity(256);
    encode::begin(&mut section);
    encode::field(&mut section, b":status", status.as_str().as_bytes(), false);
    encode_fields(&mut section, headers);
    section
}

/// Encodes the head of a request. A CONNECT without `:protocol` has the authority alone (RFC 9114 §4.4).
#[cfg(feature = "client")]
pub(crate) fn encode_request(request: &http::request::Parts) -> Vec<u8> {
    let mut section = Vec::with_capacity(256);
    encode::begin(&mut section);
    let mut pseudo = |name: &str, value: &str| {
        encode::field(&mut section, name.as_bytes(), value.as_bytes(), false);
    };
    pseudo(":method", request.method.as_str());
    let protocol = request.extensions.get::<hyper::ext::Protocol>();
    if request.method != Method::CONNECT || protocol.is_some() {
        pseudo(":scheme", request.uri.scheme_str().unwrap_or("https"));
        pseudo(
            ":path",
            request
                .uri
                .path_and_query()
                .map_or("/", PathAndQuery::as_str),
        );
    }
    if let Some(authority) = request.uri.authority() {
        pseudo(":authority", authority.as_str());
    }
    if let Some(protocol) = protocol {
        pseudo(":protocol", protocol.as_str());
    }
    encode_fields(&mut section, &request.headers);
    section
}

/// Decodes the head of a response of at most `max_size` bytes, counted as in RFC 9114 §4.2.2.
///
/// # Errors
///
/// The same as of [`decode_request`].
#[cfg(feature = "client")]
pub(crate) fn decode_response(
    section: &[u8],
    max_size: usize,
) -> Result<(StatusCode, HeaderMap), Error> {
    let mut status = None;
    let headers = decode_section(section, max_size, |name, value| {
        if name != b":status" || status.is_some() {
            return Err("a pseudo-header field of a response is invalid");
        }
        status = StatusCode::from_bytes(value).ok();
        match status {
            // RFC 9114 §4.5.
            Some(StatusCode::SWITCHING_PROTOCOLS) | None => Err("`:status` is invalid"),
            Some(_) => Ok(()),
        }
    });
    let headers = headers.map_err(|invalid| match invalid {
        Invalid::TooLarge => Error::malformed("the head of the response is too large"),
        Invalid::Error(error) => error,
    })?;
    match status {
        Some(status) => Ok((status, headers)),
        None => Err(Error::malformed("`:status` is missing")),
    }
}

/// Encodes trailers.
pub(crate) fn encode_trailers(trailers: &HeaderMap) -> Vec<u8> {
    let mut section = Vec::with_capacity(64);
    encode::begin(&mut section);
    encode_fields(&mut section, trailers);
    section
}

fn encode_fields(section: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        if !is_of_the_connection(name) {
            let name = name.as_str().as_bytes();
            encode::field(section, name, value.as_bytes(), value.is_sensitive());
        }
    }
}
