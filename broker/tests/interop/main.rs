//! Third parties as judges: every client library runs one table of features, in every version that it speaks, against
//! the real binary at 1 and 2 shards. A row that a library does not report has failed.
//!
//! A test is called `LIBRARY::VERSION::N_shards::ROW`.

mod judges;
#[path = "rumqttc/table.rs"]
mod rumqttc_table;
mod run;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::sync::Arc;

use judges::JUDGES;
use libtest_mimic::{Arguments, Trial};
use run::Run;
use table::TABLE;

/// Libraries mostly wait, so more of them than cores run at a time.
const RUNS_AT_ONCE: usize = 6;

fn main() {
    if rumqttc_table::is_wanted() {
        return rumqttc_table::main();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(RUNS_AT_ONCE);
    let mut trials = vec![];
    for shards in [1, 2] {
        for judge in JUDGES {
            for &version in judge.versions {
                let run = Arc::new(Run::new(judge, version, shards));
                for (number, row) in TABLE.iter().enumerate() {
                    if row.has(version) && judge.shows(row.name, version) {
                        let name = format!("{}::v{version}::{shards}_shards::{}", judge.name, row.name);
                        let run = run.clone();
                        trials.push((number, Trial::test(name, move || Ok(run.verdict(row.name)?))));
                    }
                }
            }
        }
    }
    // The rows of one run wait for it together. The first row of each run comes first, so that several runs go on.
    trials.sort_by_key(|(number, _)| *number);
    let trials = trials.into_iter().map(|(_, trial)| trial).collect();
    libtest_mimic::run(&arguments, trials).exit();
}
