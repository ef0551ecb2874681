//! What the node's name server counts, under CoreDNS' names.

use super::Maker;
use netstack::DnsCounters;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::sync::Arc;

/// The counters, which are told whenever somebody asks.
pub(super) fn register(make: &Maker) -> prometheus::Result<Arc<DnsCounters>> {
    let counters = Arc::new(DnsCounters::default());
    make.0.register(Box::new(Teller(Arc::clone(&counters))))?;
    Ok(counters)
}

struct Teller(Arc<DnsCounters>);

/// Counts are floating-point numbers here, which are exact far beyond any number of questions.
#[allow(clippy::cast_precision_loss, reason = "2^53 questions are many")]
const fn float(count: u64) -> f64 {
    count as f64
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counted(labels: &[(&str, &str)], count: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(count));
    let mut metric = Metric::from_label(labels.iter().map(pair).collect());
    metric.set_counter(counter);
    metric
}

fn pair((name, value): &(&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value((*value).to_owned());
    pair
}

fn counter(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    family(name, help, MetricType::COUNTER, metrics)
}

impl Teller {
    fn durations(&self) -> Metric {
        let (buckets, count, sum) = self.0.durations();
        let mut histogram = Histogram::default();
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum);
        let buckets = buckets.into_iter().map(|(end, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(end);
            bucket.set_cumulative_count(count);
            bucket
        });
        histogram.set_bucket(buckets.collect());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        metric
    }

    fn entries(&self) -> Metric {
        let mut gauge = Gauge::default();
        gauge.set_value(float(self.0.entries()));
        let mut metric = Metric::default();
        metric.set_gauge(gauge);
        metric
    }
}

impl Collector for Teller {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counters = &self.0;
        let requests = counters.requests().into_iter().map(|one| {
            counted(&[("family", one.family), ("proto", one.protocol), ("type", one.kind)], one.count)
        });
        let responses =
            counters.responses().into_iter().map(|(code, count)| counted(&[("rcode", code)], count));
        let (hits, denials) = counters.hits();
        let (forwarded, failed) = counters.forwarded();
        let hits = vec![counted(&[("type", "success")], hits), counted(&[("type", "denial")], denials)];
        let all = vec![
            counter("coredns_dns_requests_total", "Questions, by how they came.", requests.collect()),
            counter("coredns_dns_responses_total", "Answers, by their code.", responses.collect()),
            family(
                "coredns_dns_request_duration_seconds",
                "From reading a question to its answer.",
                MetricType::HISTOGRAM,
                vec![self.durations()],
            ),
            counter("coredns_cache_hits_total", "Answers of others that were known already.", hits),
            counter(
                "coredns_cache_misses_total",
                "Questions that others had to be asked.",
                vec![counted(&[], counters.misses())],
            ),
            counter(
                "coredns_cache_served_stale_total",
                "Answers that were too old, while nobody answered.",
                vec![counted(&[], counters.stale())],
            ),
            family(
                "coredns_cache_entries",
                "Answers of others that are kept.",
                MetricType::GAUGE,
                vec![self.entries()],
            ),
            counter(
                "coredns_forward_max_concurrent_rejects_total",
                "Questions for which too many others waited.",
                vec![counted(&[], counters.dropped())],
            ),
            counter(
                "coredns_autopath_success_total",
                "Search paths that were followed to an answer.",
                vec![counted(&[], counters.autopaths())],
            ),
            counter(
                "keel_dns_forwarded_total",
                "Questions that were passed on, and whether anybody answered.",
                vec![
                    counted(&[("result", "answered")], forwarded.saturating_sub(failed)),
                    counted(&[("result", "failed")], failed),
                ],
            ),
        ];
        all.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
    }
}
