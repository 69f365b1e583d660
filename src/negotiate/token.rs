//! The grammar that `Upgrade` and `Connection` share: tokens and comma lists.

/// Whether `bytes` is a `token` (RFC 9110 §5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The members of a comma list (`#element`, RFC 9110 §5.6.1), without the white space around them.
///
/// Empty members are legal and carry nothing, so they are left out.
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',')
        .map(trim_ows)
        .filter(|member| !member.is_empty())
}

/// Trims optional white space: spaces and tabs only (RFC 9110 §5.6.3).
fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for token in ["a", "foo", "HTTP", "h2c", "x-y_z.1", "!#$%&'*+-.^_`|~"] {
            assert!(is_token(token.as_bytes()), "{token}");
        }
        for other in ["", " ", "a b", "a/b", "a,b", "\"a\"", "a:", "é", "a\0"] {
            assert!(!is_token(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn lists_skip_what_is_empty_and_trim_only_white_space() {
        let list: Vec<_> = members(b" ,a,\t b/1 ,,c\x0b, ").collect();
        assert_eq!(list, [&b"a"[..], b"b/1", b"c\x0b"]);
        assert_eq!(members(b"").count(), 0);
        assert_eq!(members(b" , ,").count(), 0);
    }
}
