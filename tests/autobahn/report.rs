//! Reads the reports of the suite.

use crate::{Compression, SECTIONS};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The name of this crate in the reports.
pub(crate) const AGENT: &str = "tower-upgrade";

/// The result of each case, by its number: `[9, 1, 6]` for `9.1.6`.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<Vec<u32>, Outcome>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    behavior: String,
    behavior_close: String,
    /// The name of the file with the details.
    #[serde(rename = "reportfile")]
    file: PathBuf,
}

/// The explanations in the file with the details.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    description: String,
    expectation: String,
    result: String,
    result_close: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    NonStrict,
    Informational,
    Failed,
}

impl Report {
    /// Reads the report that the suite has written to a folder.
    pub(crate) fn read(folder: &Path) -> Self {
        let index = fs::read_to_string(folder.join("index.json"));
        let index = index.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self::parse(&index, folder)
    }

    fn parse(index: &str, folder: &Path) -> Self {
        let mut agents: BTreeMap<String, BTreeMap<String, Outcome>> =
            serde_json::from_str(index).expect("a report");
        let cases = agents.remove(AGENT).unwrap_or_default().into_iter();
        Self(
            cases
                .map(|(case, mut outcome)| {
                    outcome.file = folder.join(outcome.file);
                    let parts = case.split('.').map(|part| part.parse().expect("a number"));
                    (parts.collect(), outcome)
                })
                .collect(),
        )
    }

    pub(crate) fn merge(reports: impl IntoIterator<Item = Self>) -> Self {
        Self(reports.into_iter().flat_map(|report| report.0).collect())
    }

    /// Prints a table with a row for each section. Panics if a case failed, is missing, or is `NON-STRICT`.
    pub(crate) fn check(&self, side: &str, compression: Compression) {
        let table = self.table();
        println!("\nAutobahn test suite: {side}\n{table}");
        let wrong = self.wrong(compression);
        assert!(wrong.is_empty(), "{side}:\n{}", wrong.join("\n"));
    }

    fn section(&self, number: u32) -> impl Iterator<Item = (&Vec<u32>, &Outcome)> {
        self.0.range(vec![number]..vec![number + 1])
    }

    fn table(&self) -> String {
        let mut table = format!(
            "{:40}{:>6}{:>6}{:>12}{:>15}{:>8}\n",
            "section", "cases", "OK", "NON-STRICT", "INFORMATIONAL", "FAILED"
        );
        for section in SECTIONS {
            let count = |verdict| {
                let cases = self.section(section.number);
                cases
                    .filter(|(_, outcome)| outcome.verdict() == verdict)
                    .count()
            };
            let _ = writeln!(
                table,
                "{:>2} {:37}{:>6}{:>6}{:>12}{:>15}{:>8}",
                section.number,
                section.name,
                self.section(section.number).count(),
                count(Verdict::Ok),
                count(Verdict::NonStrict),
                count(Verdict::Informational),
                count(Verdict::Failed),
            );
        }
        table
    }

    /// Describes each case that failed, is missing, or is `NON-STRICT`.
    fn wrong(&self, compression: Compression) -> Vec<String> {
        let mut wrong = Vec::new();
        for section in SECTIONS {
            let ran = self.section(section.number).count();
            let cases = compression.cases(section);
            if ran != cases {
                wrong.push(format!(
                    "section {}: {ran} of {cases} cases ran",
                    section.number
                ));
            }
        }
        for (case, outcome) in &self.0 {
            match outcome.verdict() {
                Verdict::Failed | Verdict::NonStrict => {
                    wrong.push(format!("{}: {}", id(case), outcome.describe()));
                }
                Verdict::Ok | Verdict::Informational => {}
            }
        }
        wrong
    }
}

impl Outcome {
    /// Returns the worse of the verdicts about the messages and about the close.
    fn verdict(&self) -> Verdict {
        let both = [self.behavior.as_str(), self.behavior_close.as_str()];
        let allowed = ["OK", "NON-STRICT", "INFORMATIONAL"];
        if !both.iter().all(|behavior| allowed.contains(behavior)) {
            Verdict::Failed
        } else if both.contains(&"NON-STRICT") {
            Verdict::NonStrict
        } else if both.contains(&"INFORMATIONAL") {
            Verdict::Informational
        } else {
            Verdict::Ok
        }
    }

    fn describe(&self) -> String {
        let verdicts = format!("{}, close {}", self.behavior, self.behavior_close);
        let details = fs::read_to_string(&self.file).unwrap_or_default();
        let Ok(details) = serde_json::from_str::<Details>(&details) else {
            return verdicts;
        };
        format!(
            "{verdicts}\n  {}\n  expected: {}\n  result: {}\n  close: {}\n  {}",
            details.description,
            details.expectation,
            details.result,
            details.result_close,
            self.file.with_extension("html").display(),
        )
    }
}

fn id(case: &[u32]) -> String {
    let parts: Vec<_> = case.iter().map(u32::to_string).collect();
    parts.join(".")
}
