//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1).

use crate::negotiate::token;
use http::{HeaderMap, header};
use std::borrow::Cow;

/// An extension with its parameters, in the order of the header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    pub(super) params: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// Parses all lines of the header.
///
/// Returns `None` if a line does not follow the grammar.
pub(super) fn parse(headers: &HeaderMap) -> Option<Vec<Extension<'_>>> {
    let mut extensions = Vec::new();
    for line in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let rest = line.to_str().ok()?;
        Scanner { rest }.list(&mut extensions)?;
    }
    Some(extensions)
}

/// The rest of a line. White space may surround every token and separator (RFC 2616 §2.1, "implied *LWS").
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn list(mut self, extensions: &mut Vec<Extension<'a>>) -> Option<()> {
        loop {
            // Empty members are legal.
            while self.eat(',') {}
            if self.rest.is_empty() {
                return Some(());
            }
            extensions.push(self.extension()?);
            if !self.rest.is_empty() && !self.eat(',') {
                return None;
            }
        }
    }

    fn extension(&mut self) -> Option<Extension<'a>> {
        let name = self.token()?;
        let mut params = Vec::new();
        while self.eat(';') {
            let name = self.token()?;
            let value = match self.eat('=') {
                true => Some(self.value()?),
                false => None,
            };
            params.push((name, value));
        }
        Some(Extension { name, params })
    }

    /// Reads a token, or a quoted string that contains a token.
    fn value(&mut self) -> Option<Cow<'a, str>> {
        if !self.eat('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                char => value.push(char),
            }
        }
        self.rest = chars.as_str();
        self.skip_space();
        token::is_token(value.as_bytes()).then_some(Cow::Owned(value))
    }

    fn token(&mut self) -> Option<&'a str> {
        self.skip_space();
        let is_end = |char: char| !char.is_ascii() || !token::is_token(&[char as u8]);
        let end = self.rest.find(is_end).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_space();
        (!token.is_empty()).then_some(token)
    }

    fn eat(&mut self, separator: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(separator) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_static(line);
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        headers
    }

    fn parsed(lines: &[&'static str]) -> Option<String> {
        let headers = headers(lines);
        let extensions = parse(&headers)?;
        let extensions = extensions.iter().map(|Extension { name, params }| {
            let params = params.iter().map(|(name, value)| match value {
                Some(value) => format!(";{name}={value}"),
                None => format!(";{name}"),
            });
            format!("{name}{}", params.collect::<String>())
        });
        Some(extensions.collect::<Vec<_>>().join(","))
    }

    #[test]
    fn extensions_of_all_lines_are_parsed_in_order() {
        for (lines, expected) in [
            (&[][..], ""),
            (&[""], ""),
            (&[" , ,"], ""),
            (&["a"], "a"),
            (&["a,b ; c"], "a,b;c"),
            (&["a", "", "b"], "a,b"),
            (&[",a;b=c;d,\t a; b = \"c\" ; d ,"], "a;b=c;d,a;b=c;d"),
            (&[r#"a;b="\c\d""#], "a;b=cd"),
            (&["a;b;b=1"], "a;b;b=1"),
        ] {
            assert_eq!(parsed(lines).as_deref(), Some(expected), "{lines:?}");
        }
    }

    #[test]
    fn malformed_lines_are_rejected() {
        for line in [
            "a b",
            "a;",
            "a;;b",
            "a;=b",
            "a;b=",
            "a;b=c=d",
            "a;b c",
            ";a",
            "=",
            "\"a\"",
            "a;b=\"c",
            "a;b=\"c\\",
            "a;b=\"\"",
            "a;b=\"c d\"",
            "a;b=\"c,d\"",
            "a;b=\"c\"d",
            "a/b",
            "a;b=(c)",
        ] {
            assert_eq!(parsed(&["x", line]), None, "{line}");
        }
        let mut headers = headers(&["a"]);
        let name = header::SEC_WEBSOCKET_EXTENSIONS;
        headers.append(name, HeaderValue::from_bytes(b"a\xe9").unwrap());
        assert_eq!(parse(&headers), None);
    }
}
