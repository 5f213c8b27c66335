//! Counters, gauges and histograms in Prometheus' text format.
//!
//! Label values are closed sets of words and names that the vault enrolled, never text from an
//! unknown peer: [`SERIES`] bounds the memory all the same.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Most time series; more are not recorded.
pub const SERIES: usize = 4096;

/// Upper bounds of the buckets of a histogram, in seconds.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Labels of a series: name and value.
pub type Labels<'a> = [(&'static str, &'a str)];

/// All series of a process.
#[derive(Debug, Default)]
pub struct Metrics {
    series: Mutex<BTreeMap<Key, Value>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: &'static str,
    labels: String,
}

#[derive(Debug, Clone)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram {
        counts: [u64; BUCKETS.len()],
        count: u64,
        sum: f64,
    },
}

impl Metrics {
    /// Adds to a counter; its name ends in `_total`.
    pub fn add(&self, name: &'static str, labels: &Labels<'_>, more: u64) {
        self.update(name, labels, Value::Counter(0), |value| {
            if let Value::Counter(count) = value {
                *count += more;
            }
        });
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, labels: &Labels<'_>, now: f64) {
        self.update(name, labels, Value::Gauge(0.0), |value| {
            *value = Value::Gauge(now)
        });
    }

    /// Adds an observation to a histogram; its name ends in `_seconds`.
    pub fn observe(&self, name: &'static str, labels: &Labels<'_>, took: Duration) {
        let empty = Value::Histogram {
            counts: [0; BUCKETS.len()],
            count: 0,
            sum: 0.0,
        };
        let seconds = took.as_secs_f64();
        self.update(name, labels, empty, |value| {
            if let Value::Histogram { counts, count, sum } = value {
                for (bucket, bound) in counts.iter_mut().zip(BUCKETS) {
                    *bucket += u64::from(seconds <= bound);
                }
                *count += 1;
                *sum += seconds;
            }
        });
    }

    /// Value of a counter; 0 if nothing was counted.
    pub fn count(&self, name: &'static str, labels: &Labels<'_>) -> u64 {
        let labels = render_labels(labels);
        match self.lock().get(&Key { name, labels }) {
            Some(Value::Counter(count)) => *count,
            _ => 0,
        }
    }

    /// All series as text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut family = "";
        for (key, value) in self.lock().iter() {
            if key.name != family {
                family = key.name;
                // Writing to a string cannot fail.
                let _ = writeln!(text, "# TYPE {family} {}", value.kind());
            }
            value.render(key, &mut text);
        }
        text
    }

    fn update(
        &self,
        name: &'static str,
        labels: &Labels<'_>,
        empty: Value,
        change: impl FnOnce(&mut Value),
    ) {
        let labels = render_labels(labels);
        let mut series = self.lock();
        let key = Key { name, labels };
        if series.len() < SERIES || series.contains_key(&key) {
            change(series.entry(key).or_insert(empty));
        }
    }

    /// A panic elsewhere leaves numbers that are still good enough to show.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Value>> {
        self.series
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram { .. } => "histogram",
        }
    }

    fn render(&self, key: &Key, text: &mut String) {
        let (name, labels) = (key.name, &key.labels);
        let braced = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{labels}}}"),
        };
        let _ = match self {
            Self::Counter(count) => writeln!(text, "{name}{braced} {count}"),
            Self::Gauge(value) => writeln!(text, "{name}{braced} {value}"),
            Self::Histogram { counts, count, sum } => {
                let comma = if labels.is_empty() { "" } else { "," };
                let mut bucket = |bound: &str, count: u64| {
                    let _ = writeln!(
                        text,
                        "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
                    );
                };
                for (bound, count) in BUCKETS.iter().zip(counts) {
                    bucket(&bound.to_string(), *count);
                }
                bucket("+Inf", *count);
                writeln!(
                    text,
                    "{name}_sum{braced} {sum}\n{name}_count{braced} {count}"
                )
            }
        };
    }
}

fn render_labels(labels: &Labels<'_>) -> String {
    let escape = |value: &str| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        value.replace('\n', "\\n")
    };
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_rendered_by_family() {
        let metrics = Metrics::default();
        metrics.add("scuro_a_total", &[("reason", "x\"y")], 2);
        metrics.add("scuro_a_total", &[("reason", "z")], 1);
        metrics.set("scuro_depth", &[], 3.0);
        metrics.observe("scuro_time_seconds", &[], Duration::from_millis(2));
        let text = metrics.render();
        assert_eq!(text.matches("# TYPE scuro_a_total counter").count(), 1);
        assert!(
            text.contains("scuro_a_total{reason=\"x\\\"y\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("scuro_depth 3\n"), "{text}");
        assert!(
            text.contains("scuro_time_seconds_bucket{le=\"0.001\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("scuro_time_seconds_bucket{le=\"0.0025\"} 1\n"),
            "{text}"
        );
        assert_eq!(metrics.count("scuro_a_total", &[("reason", "z")]), 1);
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let metrics = Metrics::default();
        for i in 0..SERIES + 10 {
            metrics.add("scuro_a_total", &[("reason", &i.to_string())], 1);
        }
        assert_eq!(metrics.render().lines().count(), SERIES + 1);
    }
}
