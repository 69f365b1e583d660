use super::*;
use http::header::SEC_WEBSOCKET_EXTENSIONS;

/// The default: no context takeover.
const NONE: Terms = Terms {
    own_takeover: false,
    peer_takeover: false,
    window_bits: 15,
};
const BOTH: Terms = Terms {
    own_takeover: true,
    peer_takeover: true,
    window_bits: 15,
};
const SMALL: Terms = Terms {
    window_bits: 10,
    ..BOTH
};

fn headers(lines: &[&'static str]) -> HeaderMap {
    let line = |line: &&'static str| (SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(line));
    lines
        .iter()
        .map(line)
        .fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
}

fn brief(agreed: Agreed) -> String {
    let takeover = |takeover| if takeover { "takeover" } else { "no" };
    let Agreed {
        own_takeover,
        peer_takeover,
        own_window_bits,
        peer_window_bits,
    } = agreed;
    format!(
        "{} {own_window_bits}, {} {peer_window_bits}",
        takeover(own_takeover),
        takeover(peer_takeover)
    )
}

fn accepted(lines: &[&'static str], terms: Terms) -> Option<(String, String)> {
    let (answer, agreed) = accept(&headers(lines), terms)?;
    let answer = answer.to_str().unwrap();
    let params = answer.strip_prefix("permessage-deflate").unwrap();
    Some((params.to_owned(), brief(agreed)))
}

#[test]
fn w7_valid_offers_are_accepted() {
    const NO_TAKEOVER: &str = "; server_no_context_takeover; client_no_context_takeover";
    for (offer, terms, answer, agreed) in [
        ("", NONE, NO_TAKEOVER, "no 15, no 15"),
        ("", BOTH, "", "takeover 15, takeover 15"),
        // The client cannot limit its window, which the server therefore does not keep.
        (
            "",
            SMALL,
            "; client_no_context_takeover",
            "takeover 10, no 15",
        ),
        // Chromium and Firefox.
        (
            "; client_max_window_bits",
            NONE,
            NO_TAKEOVER,
            "no 15, no 15",
        ),
        (
            "; client_max_window_bits",
            BOTH,
            "",
            "takeover 15, takeover 15",
        ),
        (
            "; client_max_window_bits",
            SMALL,
            "; client_max_window_bits=10",
            "takeover 10, takeover 10",
        ),
        (
            "; client_max_window_bits=9",
            BOTH,
            "; client_max_window_bits=9",
            "takeover 15, takeover 9",
        ),
        (
            "; client_max_window_bits=8",
            BOTH,
            "; client_max_window_bits=8",
            "takeover 15, takeover 8",
        ),
        (
            "; client_max_window_bits=12",
            SMALL,
            "; client_max_window_bits=10",
            "takeover 10, takeover 10",
        ),
        (
            "; server_no_context_takeover",
            BOTH,
            "; server_no_context_takeover",
            "no 15, takeover 15",
        ),
        (
            "; client_no_context_takeover",
            BOTH,
            "; client_no_context_takeover",
            "takeover 15, no 15",
        ),
        (
            "; server_max_window_bits=9",
            BOTH,
            "; server_max_window_bits=9",
            "takeover 9, takeover 15",
        ),
        (
            "; server_max_window_bits=12; client_max_window_bits",
            SMALL,
            "; server_max_window_bits=10; client_max_window_bits=10",
            "takeover 10, takeover 10",
        ),
        (
            "; server_max_window_bits=15",
            NONE,
            "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
            "no 15, no 15",
        ),
        (
            "; server_max_window_bits=\"10\"",
            BOTH,
            "; server_max_window_bits=10",
            "takeover 10, takeover 15",
        ),
    ] {
        let offer: &str = Box::leak(format!("permessage-deflate{offer}").into_boxed_str());
        let expected = Some((answer.to_owned(), agreed.to_owned()));
        assert_eq!(accepted(&[offer], terms), expected, "{offer}");
    }
}

#[test]
fn w7_invalid_offers_are_declined() {
    for param in [
        "unknown",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=010",
        "server_max_window_bits=+9",
        "server_max_window_bits=a",
        // zlib cannot limit its window to 8 bits.
        "server_max_window_bits=8",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits; client_max_window_bits=10",
        "server_max_window_bits=10; server_max_window_bits=10",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "Server_no_context_takeover",
    ] {
        let offer: &str = Box::leak(format!("permessage-deflate; {param}").into_boxed_str());
        assert_eq!(accepted(&[offer], BOTH), None, "{offer}");
    }
    for offer in [
        "",
        "x",
        "x-webkit-deflate-frame",
        "permessage-deflat",
        "Permessage-Deflate",
    ] {
        assert_eq!(accepted(&[offer], BOTH), None, "{offer}");
    }
    assert_eq!(accepted(&[], BOTH), None);
    // A malformed line declines all.
    assert_eq!(accepted(&["permessage-deflate", "a b"], BOTH), None);
}

#[test]
fn w7_first_acceptable_offer_is_accepted() {
    for lines in [
        &[
            "permessage-deflate; unknown, x, permessage-deflate; server_max_window_bits=9, permessage-deflate",
        ][..],
        &[
            "x; y=1",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=9",
        ],
    ] {
        let (answer, _) = accepted(lines, BOTH).unwrap();
        assert_eq!(answer, "; server_max_window_bits=9", "{lines:?}");
    }
}

#[cfg(feature = "client")]
mod client {
    use super::*;

    fn checked(answer: &'static str, terms: Terms) -> Result<String, &'static str> {
        let agreed = check_answer(&headers(&[answer]), terms)?;
        Ok(agreed.map_or_else(|| "none".into(), brief))
    }

    #[test]
    fn w7_client_offers_its_terms() {
        for (terms, expected) in [
            (
                NONE,
                "; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
            ),
            (BOTH, "; client_max_window_bits"),
            (
                SMALL,
                "; server_max_window_bits=10; client_max_window_bits=10",
            ),
        ] {
            assert_eq!(offer(terms), format!("permessage-deflate{expected}"));
        }
    }

    #[test]
    fn w7_valid_answers_are_accepted() {
        for (answer, terms, agreed) in [
            ("", BOTH, "none"),
            ("permessage-deflate", BOTH, "takeover 15, takeover 15"),
            (
                "permessage-deflate; server_no_context_takeover",
                NONE,
                "no 15, no 15",
            ),
            (
                "permessage-deflate; server_no_context_takeover",
                BOTH,
                "takeover 15, no 15",
            ),
            (
                "permessage-deflate; client_no_context_takeover",
                BOTH,
                "no 15, takeover 15",
            ),
            (
                "permessage-deflate; client_max_window_bits=8",
                BOTH,
                "takeover 8, takeover 15",
            ),
            (
                "permessage-deflate; server_max_window_bits=9",
                BOTH,
                "takeover 15, takeover 9",
            ),
            (
                "permessage-deflate; server_max_window_bits=10",
                SMALL,
                "takeover 10, takeover 10",
            ),
            (
                "permessage-deflate; server_max_window_bits=8; client_max_window_bits=9",
                SMALL,
                "takeover 9, takeover 8",
            ),
        ] {
            assert_eq!(checked(answer, terms).as_deref(), Ok(agreed), "{answer}");
        }
        assert_eq!(check_answer(&HeaderMap::new(), BOTH), Ok(None));
    }

    #[test]
    fn w7_invalid_answers_fail() {
        for (answer, terms, message) in [
            ("x", BOTH, "an extension that was not offered"),
            (
                "permessage-deflate, x",
                BOTH,
                "an extension that was not offered",
            ),
            (
                "permessage-deflate, permessage-deflate",
                BOTH,
                "more than once",
            ),
            ("permessage-deflate; a b", BOTH, "malformed"),
            ("permessage-deflate; unknown", BOTH, "an invalid parameter"),
            (
                "permessage-deflate; client_max_window_bits",
                BOTH,
                "an invalid parameter",
            ),
            (
                "permessage-deflate; client_max_window_bits=16",
                BOTH,
                "an invalid parameter",
            ),
            (
                "permessage-deflate; server_max_window_bits=7",
                BOTH,
                "an invalid parameter",
            ),
            (
                "permessage-deflate; server_no_context_takeover=1",
                BOTH,
                "an invalid parameter",
            ),
            (
                "permessage-deflate",
                NONE,
                "ignored server_no_context_takeover",
            ),
            (
                "permessage-deflate",
                SMALL,
                "ignored server_max_window_bits",
            ),
            (
                "permessage-deflate; server_max_window_bits=11",
                SMALL,
                "ignored server_max_window_bits",
            ),
            (
                "permessage-deflate; server_max_window_bits=9; client_max_window_bits=11",
                SMALL,
                "raised client_max_window_bits",
            ),
        ] {
            let error = checked(answer, terms).unwrap_err();
            assert!(error.contains(message), "{answer}: {error}");
        }
    }
}
