//! Reads the OpenMetrics text format, and insists on its rules.

use std::collections::{BTreeMap, HashSet};

/// A scrape that keeps the rules.
pub struct Exposition {
    /// Name and labels, as they are written, to the value.
    series: BTreeMap<String, f64>,
    families: HashSet<String>,
}

impl Exposition {
    /// Panics with the line that breaks a rule.
    pub fn parse(text: &str) -> Exposition {
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        let mut exposition = Exposition { series: BTreeMap::new(), families: HashSet::new() };
        let mut family = ("", "");
        let mut lines = body.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect(line);
                assert!(!text.trim().is_empty(), "no help: {line}");
                assert!(exposition.families.insert(name.to_owned()), "a family comes twice: {line}");
                let next = lines.next().expect("a TYPE follows a HELP");
                let of_type = next.strip_prefix(&format!("# TYPE {name} ")).expect(next);
                assert!(["counter", "gauge", "histogram"].contains(&of_type), "{next}");
                family = (name, of_type);
                continue;
            }
            assert!(!line.starts_with('#'), "a comment that belongs to nothing: {line}");
            let (series, value) = line.rsplit_once(' ').expect(line);
            let name = series.split('{').next().expect("split gives one part");
            let suffix = name.strip_prefix(family.0).unwrap_or_else(|| panic!("not below its HELP: {line}"));
            let allowed: &[&str] = match family.1 {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "a {} has no such name: {line}", family.1);
            check_labels(series);
            let value: f64 = value.parse().expect(line);
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert!(
                exposition.series.insert(series.to_owned(), value).is_none(),
                "a series comes twice: {line}"
            );
        }
        exposition.check_histograms();
        exposition
    }

    /// Sum of the series of that name whose labels contain all of these (`qos="1"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is_meant = |series: &str| {
            series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
        };
        let mut values =
            self.series.iter().filter(|(series, _)| is_meant(series)).map(|(_, value)| value).peekable();
        assert!(values.peek().is_some(), "there is no {name} {labels:?}");
        values.sum()
    }

    /// Whether there is such a family or series.
    pub fn knows(&self, name: &str) -> bool {
        self.families.contains(name)
            || self.series.keys().any(|series| series.split('{').next() == Some(name))
    }

    /// Series that this one does not have, or that fell although they only grow.
    pub fn lost_since(&self, before: &Exposition) -> Vec<String> {
        let fell = |series: &str, value: f64| {
            let is_counter = series.split('{').next().is_some_and(|name| name.ends_with("_total"));
            self.series.get(series).is_none_or(|now| is_counter && *now < value)
        };
        before.series.iter().filter(|(series, value)| fell(series, **value)).map(|(s, _)| s.clone()).collect()
    }

    fn check_histograms(&self) {
        let mut buckets: BTreeMap<Series, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in &self.series {
            let (name, labels) = split(series);
            if let Some(name) = name.strip_suffix("_bucket") {
                let (bounds, labels): (Vec<&str>, Vec<&str>) =
                    labels.into_iter().partition(|label| label.starts_with("le="));
                let bound = bounds
                    .first()
                    .and_then(|label| label.trim_start_matches("le=").trim_matches('"').parse().ok());
                buckets.entry((name, labels)).or_default().push((bound.expect(series), *value));
            }
        }
        for (series, count) in &self.series {
            let (name, labels) = split(series);
            let Some(name) = name.strip_suffix("_count") else { continue };
            let mut buckets = buckets.remove(&(name, labels)).expect(series);
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "buckets are sums: {series}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
        }
        assert!(buckets.is_empty(), "buckets without a count: {buckets:?}");
    }
}

/// Name and labels.
type Series<'a> = (&'a str, Vec<&'a str>);

fn split(series: &str) -> Series<'_> {
    match series.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end_matches('}').split(',').collect()),
        None => (series, Vec::new()),
    }
}

fn check_labels(series: &str) {
    let Some((_, labels)) = series.split_once('{') else { return };
    let labels = labels.strip_suffix('}').expect(series);
    let mut seen = HashSet::new();
    for label in labels.split("\",") {
        let (key, value) = label.split_once("=\"").expect(series);
        assert!(seen.insert(key), "a label comes twice: {series}");
        assert!(key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_')), "{series}");
        assert!(!value.trim_end_matches('"').contains(['"', '\n']), "{series}");
    }
}
