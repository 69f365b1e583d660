//! Heads of responses and of requests, as text.

use super::text;

/// A parsed response head.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub lines: Vec<(String, String)>,
}

impl Head {
    pub(super) fn parse(head: &[u8]) -> Self {
        let head = text(head);
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().expect("a status line");
        assert!(status.starts_with("HTTP/1."), "{head:?}");
        let status = status[9..12].parse().expect("a status");
        let lines = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a field");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Self { status, lines }
    }

    /// Returns the values of a field, joined with commas.
    pub fn get(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .lines
            .iter()
            .filter(|line| line.0 == name)
            .map(|line| line.1.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Returns the sorted names of all fields except `date`.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.lines.iter().map(|line| line.0.as_str()).collect();
        names.retain(|name| *name != "date");
        names.sort_unstable();
        names
    }

    #[track_caller]
    pub fn assert_upgraded(&self, protocol: &str) {
        assert_eq!(self.status, 101, "{self:?}");
        assert_eq!(self.get("upgrade").as_deref(), Some(protocol), "{self:?}");
        let connection = self.get("connection").unwrap_or_default();
        assert!(
            connection.split(", ").any(|option| option == "upgrade"),
            "{self:?}"
        );
        assert_eq!(self.get("content-length"), None, "{self:?}");
        assert_eq!(self.get("transfer-encoding"), None, "{self:?}");
    }

    /// Asserts that the response is neither a 101 nor has handshake fields.
    #[track_caller]
    pub fn assert_no_handshake(&self) {
        assert_ne!(self.status, 101, "{self:?}");
        assert_eq!(self.get("upgrade"), None, "{self:?}");
        let connection = self.get("connection").unwrap_or_default();
        assert!(!connection.contains("upgrade"), "{self:?}");
    }
}

/// Joins the lines of a request head with CRLF and adds the blank line.
pub fn head(lines: &[&str]) -> String {
    let mut head = lines.join("\r\n");
    head.push_str("\r\n\r\n");
    head
}

/// Returns the head of an upgrade request that offers `protocols`, with more header lines.
pub fn offer(protocols: &str, more: &[&str]) -> String {
    let upgrade = format!("Upgrade: {protocols}");
    let mut lines = vec![
        "GET / HTTP/1.1",
        "Host: test",
        "Connection: Upgrade",
        &upgrade,
    ];
    lines.extend(more);
    head(&lines)
}
