//! The statements of the MQTT standards, and our hard cases, through the pure core: every case at 1 and at 3 shards, in
//! each of its versions. The same table runs against the real binary in `broker/tests/conformance.rs`.

mod core_driver;
mod hard_cases;
mod statements;
mod suite;
#[path = "../support/mod.rs"]
mod support;

use core_driver::CoreDriver;
use libtest_mimic::{Arguments, Trial};
use suite::case::{Real, version_name};
use suite::scene::Scene;

fn main() {
    let cases = suite::cases();
    let mut trials = statements::trials(&cases);
    trials.extend(hard_cases::trials(&cases));
    for case in cases {
        for &version in case.versions_run() {
            for &shards in case.core_shards {
                let name = format!("{}::{}::{shards}_shards", case.test_name(version), version_name(version));
                trials.push(Trial::test(name, move || {
                    // Its own node: the root is there only so that both drivers run the same code.
                    let real = if case.real == Real::Shared { Real::Shared } else { Real::Alone };
                    let driver = Box::new(CoreDriver::new(shards, &case));
                    (case.run)(&mut Scene::new(driver, version, real, 1));
                    Ok(())
                }));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
