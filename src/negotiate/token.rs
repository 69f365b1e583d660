//! The grammar of `Upgrade` and `Connection`: tokens and comma-separated lists.

/// Returns `true` if `bytes` is a `token` (RFC 9110 §5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns the members of a comma-separated list (`#element`, RFC 9110 §5.6.1), without surrounding white
/// space.
///
/// Empty members are legal, and are skipped.
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
    fn is_token_accepts_only_token_characters() {
        for token in ["a", "foo", "HTTP", "h2c", "x-y_z.1", "!#$%&'*+-.^_`|~"] {
            assert!(is_token(token.as_bytes()), "{token}");
        }
        for other in ["", " ", "a b", "a/b", "a,b", "\"a\"", "a:", "é", "a\0"] {
            assert!(!is_token(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn members_skips_empty_members_and_trims_only_spaces_and_tabs() {
        let list: Vec<_> = members(b" ,a,\t b/1 ,,c\x0b, ").collect();
        assert_eq!(list, [&b"a"[..], b"b/1", b"c\x0b"]);
        assert_eq!(members(b"").count(), 0);
        assert_eq!(members(b" , ,").count(), 0);
    }
}
