//! The HTML report: one file that needs nothing else. The page's script draws; what it draws comes with it as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::result::{self, Report};
use crate::summary::{self, Row};

#[cfg(test)]
mod tests;
pub mod text;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 4] =
    [include_str!("format.js"), include_str!("plots.js"), include_str!("flame.js"), include_str!("page.js")];
const UPLOT_SCRIPT: &str = include_str!("../../vendor/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("../../vendor/uplot/uPlot.min.css");
const UPLOT_LICENCE: &str = include_str!("../../vendor/uplot/LICENSE");

#[derive(Serialize)]
struct Data<'a> {
    report: &'a Report,
    /// By scenario.
    rows: BTreeMap<&'a str, Vec<Row>>,
    units: BTreeMap<&'a str, String>,
}

pub fn html(report: &Report) -> anyhow::Result<String> {
    let mut data = Data { report, rows: BTreeMap::new(), units: BTreeMap::new() };
    for result in &report.results {
        data.rows.insert(&result.scenario.name, summary::rows(result));
        data.units.insert(&result.scenario.name, result.scenario.unit());
    }
    // Within a script element only "<" could end it.
    let json = serde_json::to_string(&data)?.replace('<', "\\u003c");
    let scripts = SCRIPTS.join("\n");
    let parts = [
        ("{{uplot-licence}}", UPLOT_LICENCE),
        ("{{uplot-style}}", UPLOT_STYLE),
        ("{{uplot-script}}", UPLOT_SCRIPT),
        ("{{style}}", STYLE),
        ("{{script}}", &scripts),
        ("{{data}}", &json),
    ];
    Ok(fill(PAGE, &parts))
}

/// In one pass, so that nothing within a part is taken for a placeholder.
fn fill(page: &str, parts: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = page;
    while let Some(start) = rest.find("{{") {
        let found = parts.iter().find(|(name, _)| rest[start..].starts_with(name));
        let (text, length) = found.map_or(("{{", 2), |(name, text)| (*text, name.len()));
        out.push_str(&rest[..start]);
        out.push_str(text);
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}

pub fn write_html(report: &Report, path: &Path) -> anyhow::Result<()> {
    result::replace(path, &html(report)?)
}
