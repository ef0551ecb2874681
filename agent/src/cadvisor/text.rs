//! Samples as Prometheus text. Pure.

use super::{Amount, DESCRIPTORS, Kind, LABELS, Sample, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const SECOND: u64 = 1_000_000_000;

/// All of `samples`, metric by metric. Source: Prometheus' "Exposition formats".
pub(super) fn render(samples: &[Sample]) -> String {
    let mut families: BTreeMap<&str, Vec<(&Sample, &Value)>> = BTreeMap::new();
    for sample in samples {
        for value in &sample.values {
            families.entry(value.name).or_default().push((sample, value));
        }
    }
    let mut text = String::new();
    for (name, more, help) in DESCRIPTORS {
        let Some(members) = families.get(name) else { continue };
        let kind = members.first().map_or(Kind::Gauge, |(_, value)| value.kind);
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {word}");
        for (sample, value) in members {
            let own = more.iter().copied().zip(&value.more);
            let _ = writeln!(text, "{name}{{{}}} {}", labels(sample, own), amount(value.amount));
        }
    }
    text
}

fn labels<'a>(sample: &'a Sample, own: impl Iterator<Item = (&'static str, &'a String)>) -> String {
    let mut all: Vec<(&str, &String)> = LABELS.into_iter().zip(&sample.labels).chain(own).collect();
    all.sort_unstable_by_key(|(key, _)| *key);
    let one = |(key, value): (&str, &String)| format!("{key}=\"{}\"", escaped(value));
    all.into_iter().map(one).collect::<Vec<_>>().join(",")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn amount(amount: Amount) -> String {
    match amount {
        Amount::Count(count) => count.to_string(),
        Amount::Nanoseconds(nanoseconds) => format!("{}.{:09}", nanoseconds / SECOND, nanoseconds % SECOND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_told_once_with_all_its_members() {
        let sample = |pod: &str, nanoseconds| {
            let mut sample = Sample::new(["/keel/a", "", "x\"y", "default", pod, ""]);
            let used = Amount::Nanoseconds(nanoseconds);
            sample.add(Kind::Counter, "container_cpu_usage_seconds_total", &["total"], used);
            sample
        };
        let text = render(&[sample("web", 1_500_000_000), sample("db", 7)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "# TYPE container_cpu_usage_seconds_total counter");
        assert_eq!(
            lines[2],
            "container_cpu_usage_seconds_total{container=\"\",cpu=\"total\",id=\"/keel/a\",\
             image=\"x\\\"y\",name=\"\",namespace=\"default\",pod=\"web\"} 1.500000000"
        );
        assert!(lines[3].ends_with("pod=\"db\"} 0.000000007"), "{text}");
        assert_eq!(lines.len(), 4);
    }
}
