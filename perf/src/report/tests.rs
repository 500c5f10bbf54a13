//! The page as a browser shows it: every plot must have drawn every series. Skipped where there is no Chromium.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::*;
use crate::profile::Frame;
use crate::result::{Latency, Second, Shard};
use crate::scenario::Published;
use crate::summary::tests::{result, run};

#[derive(Deserialize)]
struct Check {
    plots: usize,
    series: Vec<Series>,
}

#[derive(Debug, Deserialize)]
struct Series {
    title: String,
    series: String,
    pixels: u64,
}

/// Two scenarios: one with everything that a report can show, one with little.
fn report() -> Report {
    let brokers = [("floor", 240.0), ("shardmq", 480.0), ("mosquitto", 6603.0), ("my own", 2000.0)];
    let mut runs = Vec::new();
    for round in 0..2 {
        for core_count in 1..=2 {
            for (broker, cost) in brokers {
                let mut run = run(broker, round, cost * 0.9f64.powi(core_count));
                run.broker_core_count = core_count as usize;
                let figures = run.figures.as_mut().unwrap();
                // A curve that lies under another one would not be seen.
                let ns = |share: u64| share * cost as u64;
                figures.latency = Some(Latency {
                    count: 10,
                    min: ns(20),
                    mean: ns(50),
                    p50: ns(40),
                    p90: ns(60),
                    p95: ns(90),
                    p99: ns(200),
                    p999: ns(900),
                    p9999: ns(4000),
                    max: ns(9000),
                });
                let second = |at: u64| Second {
                    at_s: at as f64,
                    received: at * 1000 + cost as u64,
                    p50_ns: 9000,
                    p99_ns: ns(200),
                };
                figures.series = (1..5).map(second).collect();
                figures.shards = vec![Shard { shard: 0, utilization: Some(0.5), ..Shard::default() }];
                runs.push(run);
            }
        }
    }
    runs[3].verdict.lost = 7;
    let mut full = result("everything", runs);
    full.scenario.published = vec![Published { who: "TBMQ".into(), rate: Some(3e6), ..Published::default() }];
    full.profiles.insert("shardmq".into(), Frame { name: "all".into(), samples: 10, children: Vec::new() });
    let mut few = run("shardmq", 0, 15.0);
    few.figures.as_mut().unwrap().latency = None;
    Report { results: vec![full, result("little", vec![few])], ..Report::default() }
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut candidates = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    candidates.find(|candidate| candidate.is_file())
}

/// The page after its scripts ran.
fn dom(chromium: &Path, page: &Path, profile: &Path) -> String {
    let output = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--virtual-time-budget=10000",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--window-size=1500,1000", "--dump-dom"])
        .arg(format!("file://{}#check", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_plot_is_drawn() {
    let Some(chromium) = chromium() else {
        eprintln!("skipped: no chromium in PATH (Debian: apt-get install chromium)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    write_html(&report(), &page).unwrap();
    let dom = dom(&chromium, &page, &dir.path().join("profile"));

    let (_, check) = dom.split_once("<pre id=\"plot-check\">").expect("the page's script ran to its end");
    let (check, _) = check.split_once("</pre>").unwrap();
    let check: Check = serde_json::from_str(check).unwrap();
    // The overview; cost, multiple, rate, latency, two series and three by cores; and cost and rate of the second.
    assert_eq!(check.plots, 1 + 9 + 2);
    let empty: Vec<&Series> = check.series.iter().filter(|series| series.pixels < 10).collect();
    assert!(empty.is_empty(), "nothing is drawn: {empty:?}");
    assert!(check.series.iter().any(|series| series.title.contains("by cores") && series.series == "my own"));
    for shown in ["7 lost", "Where shardmq spends its time", "TBMQ", "Figures of each shard"] {
        assert!(dom.contains(shown), "{shown}");
    }
}

#[test]
fn the_page_is_self_contained_and_holds_the_data() {
    let mut report = Report { results: vec![result("p2p", vec![run("a", 0, 100.0)])], ..Report::default() };
    report.results[0].scenario.about = "</script><b>{{style}}".into();
    let page = html(&report).unwrap();
    assert!(page.contains("\\u003c/script>\\u003cb>{{style}}"));
    assert!(page.contains("Copyright (c) 2022 Leon Sorokin") && page.contains("uPlot"));
    assert!(!page.contains("{{data}}") && !page.contains("{{script}}"));
    for reference in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.contains(reference), "{reference}");
    }
}
