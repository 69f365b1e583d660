//! The `Retry-After` of a response (RFC 9110 §10.2.3).

use http::{
    HeaderMap,
    header::{DATE, HeaderName, RETRY_AFTER},
};
use std::time::{Duration, SystemTime};

/// Returns the time to wait, or `None` without a valid `Retry-After`.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    // The clocks of the server and of this machine may differ.
    let now = date(headers, DATE).unwrap_or(now);
    Some(at.duration_since(now).unwrap_or_default())
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn seconds_and_dates_are_read() {
        const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 7);
        for (value, date, expected) in [
            ("120", None, Some(120)),
            ("0", None, Some(0)),
            (" 5 ", None, Some(5)),
            ("99999999999999999999999", None, Some(u64::MAX)),
            (AT, None, Some(7)),
            // The server's clock rules.
            (AT, Some("Sun, 06 Nov 1994 08:49:00 GMT"), Some(37)),
            (AT, Some("yesterday"), Some(7)),
            // In the past.
            (AT, Some("Sun, 06 Nov 1994 08:50:00 GMT"), Some(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None, Some(7)),
            ("", None, None),
            ("-5", None, None),
            ("+5", None, None),
            ("1.5", None, None),
            ("soon", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_static(date));
            }
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{value:?}, {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
