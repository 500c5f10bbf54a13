//! The account of the standards' statements: each one has a case or a reason why no test can show it, and
//! `docs/mqtt-conformance.md` says so. `just conformance-docs` renews the document.

use std::fmt::Write;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::suite::case::Case;

const STATEMENTS: &str = include_str!("statements.tsv");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mqtt-conformance.md");
/// Set to write the document instead of comparing it.
const WRITE_VARIABLE: &str = "CONFORMANCE_DOC_WRITE";

/// A row of `statements.tsv`.
struct Statement {
    standard: &'static str,
    id: &'static str,
    /// `server`, `client` or `both`.
    who: &'static str,
    says: &'static str,
    /// Why no test can show it; empty where cases do.
    untested: &'static str,
}

impl Statement {
    fn all() -> impl Iterator<Item = Statement> {
        STATEMENTS.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [standard, id, who, says, untested] = fields[..] else { panic!("five columns: {line}") };
            Statement { standard, id, who, says, untested }
        })
    }

    /// The statement ids of a case that belong to this statement's standard.
    fn ids<'a>(&self, case: &'a Case) -> impl Iterator<Item = &'a str> {
        ids(case, self.standard)
    }

    fn cases<'a>(&self, cases: &'a [Case]) -> Vec<&'a Case> {
        cases.iter().filter(|case| self.ids(case).any(|id| id == self.id)).collect()
    }
}

const STANDARDS: [(&str, &str); 2] = [("5", "MQTT 5.0"), ("3.1.1", "MQTT 3.1.1")];

fn ids<'a>(case: &'a Case, standard: &str) -> impl Iterator<Item = &'a str> {
    let ids = if standard == "5" { case.ids_v5 } else { case.ids_v311 };
    ids.split_whitespace()
}

/// The tests of the account.
pub fn trials(cases: &[Case]) -> Vec<Trial> {
    let (of_account, of_document) = (cases.to_vec(), cases.to_vec());
    vec![
        Trial::test("statements::every_statement_is_accounted_for", move || {
            let faults = faults(&of_account);
            if faults.is_empty() { Ok(()) } else { Err(Failed::from(faults.join("\n"))) }
        }),
        Trial::test("statements::the_document_is_up_to_date", move || check_document(&of_document)),
    ]
}

fn faults(cases: &[Case]) -> Vec<String> {
    let mut faults = vec![];
    for statement in Statement::all() {
        let is_shown = !statement.cases(cases).is_empty();
        let name = format!("MQTT {} [MQTT-{}]", statement.standard, statement.id);
        match (is_shown, statement.untested.is_empty()) {
            (false, true) => faults.push(format!("{name} has neither a case nor a reason")),
            (true, false) => faults.push(format!("{name} has cases: its reason is out of date")),
            _ => {}
        }
    }
    for case in cases {
        for (standard, _) in STANDARDS {
            for id in ids(case, standard) {
                if !Statement::all().any(|statement| statement.standard == standard && statement.id == id) {
                    faults.push(format!("{} names an unknown statement: MQTT {standard} {id}", case.name));
                }
            }
        }
    }
    faults
}

fn check_document(cases: &[Case]) -> Result<(), Failed> {
    let expected = document(cases);
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(DOCUMENT, expected)?;
        return Ok(());
    }
    match std::fs::read_to_string(Path::new(DOCUMENT)) {
        Ok(found) if found == expected => Ok(()),
        _ => Err("docs/mqtt-conformance.md is out of date: run `just conformance-docs`".into()),
    }
}

fn document(cases: &[Case]) -> String {
    let mut out = String::from(
        "# Conformance to MQTT 5.0 and 3.1.1\n\n\
         Made from the test cases by `just conformance-docs`; a test fails if it is out of date or if a statement is\n\
         unaccounted for. The sentences are ours, the numbers are those of the standards' `[MQTT-x.y.z-n]`.\n\n\
         A case is a function over a connection (`shard/tests/conformance/suite`): bytes in, bytes out. The same table\n\
         runs through the pure core on 1 and 3 shards (`cargo test -p shardmq-shard --test conformance`) and, but for\n\
         the cases marked with `*`, against the real binary over TCP on 1 and 2 shards (`cargo test -p shardmq --test\n\
         conformance`). In both, a strict reader that shares no code with the broker checks every byte that comes\n\
         back: reserved flags, shortest lengths, UTF-8, identifiers, reason codes and properties of each packet, the\n\
         limits of the client, the order of packets. A test's name carries the ids of its statements:\n\
         `mqtt_3_12_4_1_pingreq_is_answered`. MQTT 3.1 runs along with 3.1.1.\n\n\
         | | statements | shown by cases | not testable |\n|---|---|---|---|\n",
    );
    for (standard, title) in STANDARDS {
        let of_standard: Vec<Statement> =
            Statement::all().filter(|statement| statement.standard == standard).collect();
        let untested = of_standard.iter().filter(|statement| !statement.untested.is_empty()).count();
        let total = of_standard.len();
        let _ = writeln!(out, "| {title} | {total} | {} | {untested} |", total - untested);
    }
    for (standard, title) in STANDARDS {
        let _ = write!(out, "\n## {title}\n\n| id | binds | says | cases |\n|---|---|---|---|\n");
        for statement in Statement::all().filter(|statement| statement.standard == standard) {
            let shown: Vec<String> = statement.cases(cases).into_iter().map(link).collect();
            let proof = match statement.untested {
                "" => shown.join(", "),
                reason => format!("none: {reason}"),
            };
            let says = statement.says.replace('|', "\\|");
            let _ = writeln!(out, "| {} | {} | {says} | {proof} |", statement.id, statement.who);
        }
    }
    out
}

/// `file::function`, with a star if it runs in the core alone.
fn link(case: &Case) -> String {
    let star = if case.runs_against_binary() { "" } else { "*" };
    format!("`{}::{}`{star}", case.chapter, case.name)
}
