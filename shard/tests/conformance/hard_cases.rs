//! The account of the hard cases: each row of `hard_cases.tsv` has a test for every version that it names, or belongs to
//! a part of the broker that does not exist yet. `docs/hard-cases.md` says so; `just conformance-docs` renews it.

use std::fmt::Write;
use std::path::Path;

use libtest_mimic::{Failed, Trial};
use protocol::Version;

use crate::suite::case::{Case, version_name};

const ROWS: &str = include_str!("hard_cases.tsv");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Set to write the document instead of comparing it.
const WRITE_VARIABLE: &str = "CONFORMANCE_DOC_WRITE";
/// Tests that are no cases of the table: functions named `hc_lim_2_..` in these files.
const OTHER_TESTS: [&str; 5] = [
    "shard/tests/hard_cases.rs",
    "broker/tests/hard_cases.rs",
    "broker/tests/logs.rs",
    "broker/tests/orderly_stop.rs",
    "broker/tests/panics.rs",
];
/// Chapters whose part of the broker comes later.
const LATER: [&str; 4] = ["HC-TLS", "HC-WS", "HC-PRX", "HC-CLU"];

struct Row {
    id: &'static str,
    versions: Vec<Version>,
    columns: [&'static str; 3],
}

fn rows() -> Vec<Row> {
    let lines = ROWS.lines().skip(1).filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, versions, given, then] = fields[..] else { panic!("four columns: {line}") };
        let named = |name: &str| match name.trim() {
            "31" => vec![Version::V31],
            "311" => vec![Version::V311],
            "5" => vec![Version::V5],
            "all" => vec![Version::V31, Version::V311, Version::V5],
            other => panic!("no version: {other}"),
        };
        Row { id, versions: versions.split(',').flat_map(named).collect(), columns: [versions, given, then] }
    };
    lines.map(row).collect()
}

impl Row {
    fn is_later(&self) -> bool {
        LATER.iter().any(|chapter| self.id.starts_with(chapter))
    }

    fn cases<'a>(&self, cases: &'a [Case]) -> impl Iterator<Item = &'a Case> {
        cases.iter().filter(|case| case.ids_hard.split_whitespace().any(|id| id == self.id))
    }

    /// Functions outside the table that carry the id; they try all versions that differ.
    fn other_tests(&self) -> Vec<String> {
        let prefix = format!("{}_", self.id.to_lowercase().replace('-', "_"));
        let mut found = vec![];
        for file in OTHER_TESTS {
            let text = std::fs::read_to_string(Path::new(ROOT).join(file)).expect("the file is there");
            for line in text.lines() {
                let name = line.trim_start().strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                // A function may carry several ids.
                if let Some(name) = name.filter(|name| format!("{name}_").contains(&prefix)) {
                    found.push(format!("`{file}::{name}`"));
                }
            }
        }
        found
    }

    fn versions_without_test(&self, cases: &[Case]) -> Vec<Version> {
        if self.is_later() || !self.other_tests().is_empty() {
            return vec![];
        }
        let has = |version: &Version| self.cases(cases).any(|case| case.versions_run().contains(version));
        self.versions.iter().copied().filter(|version| !has(version)).collect()
    }
}

/// The tests of the account.
pub fn trials(cases: &[Case]) -> Vec<Trial> {
    let (of_account, of_document) = (cases.to_vec(), cases.to_vec());
    vec![
        Trial::test("hard_cases::every_row_has_a_test", move || check_account(&of_account)),
        Trial::test("hard_cases::the_document_is_up_to_date", move || check_document(&of_document)),
    ]
}

fn check_account(cases: &[Case]) -> Result<(), Failed> {
    let mut faults = String::new();
    for row in rows() {
        for version in row.versions_without_test(cases) {
            let _ = writeln!(faults, "{} has no test in {}", row.id, version_name(version));
        }
    }
    for case in cases {
        for id in case.ids_hard.split_whitespace().filter(|id| rows().iter().all(|row| row.id != *id)) {
            let _ = writeln!(faults, "{} names an unknown row: {id}", case.name);
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.into()) }
}

fn check_document(cases: &[Case]) -> Result<(), Failed> {
    let path = Path::new(ROOT).join("docs/hard-cases.md");
    let expected = document(cases);
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(path, expected)?;
        return Ok(());
    }
    match std::fs::read_to_string(path) {
        Ok(found) if found == expected => Ok(()),
        _ => Err("docs/hard-cases.md is out of date: run `just conformance-docs`".into()),
    }
}

fn document(cases: &[Case]) -> String {
    let mut out = String::from(
        "# Hard cases\n\n\
         Situations in which brokers in the field go wrong: where statements of the standard meet each other, where\n\
         state crosses a reconnect, a shard or a limit, and where the standard leaves a choice that we have made\n\
         (*choice*). Made from `shard/tests/conformance/hard_cases.tsv` and the tests by `just conformance-docs`; a test\n\
         fails if a row has no test for a version that it names. \"close\" means to close the connection without a\n\
         packet (3.x); codes are hexadecimal and for 5.\n\n\
         Cases of the table (`shard/tests/conformance/suite/hard`) run through the pure core and, but for those marked\n\
         with `*`, against the real binary. A test's name carries the id: `hc_con_1_first_packet_is_no_connect`.\n\n\
         | id | versions | given, when | then | tests |\n|---|---|---|---|---|\n",
    );
    for row in rows() {
        let mut tests: Vec<String> = row
            .cases(cases)
            .map(|case| format!("`{}`{}", case.name, if case.runs_against_binary() { "" } else { "*" }))
            .collect();
        tests.extend(row.other_tests());
        let tests = if row.is_later() { "later, with that part".to_owned() } else { tests.join(", ") };
        let [versions, given, then] = row.columns.map(|column| column.replace('|', "\\|"));
        let _ = writeln!(out, "| {} | {versions} | {given} | {then} | {tests} |", row.id);
    }
    out
}
