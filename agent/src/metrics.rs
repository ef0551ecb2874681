//! The agent's metrics, in Prometheus text. Names that Kubernetes' dashboards
//! know are kept; what is ours begins with `keel_`.

mod announce;
mod dns;
mod images;
mod ingress;
mod policies;

pub(crate) use announce::AnnounceMetrics;
pub(crate) use images::ImageMetrics;
pub(crate) use ingress::IngressMetrics;
pub(crate) use policies::PolicyMetrics;

use netstack::DnsCounters;
use prometheus::{
    Counter, CounterVec, Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, Opts,
    Registry, TextEncoder,
};
use std::sync::Arc;

/// Every metric of one agent. Made once, passed to whoever counts.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Pods with at least one running container.
    pub(crate) running_pods: Gauge,
    /// Containers by `container_state`.
    pub(crate) containers: GaugeVec,
    /// From the agent's first sight of a pod to its containers running, seconds.
    pub(crate) pod_start: Histogram,
    /// One pass of a controller, seconds, by `controller`.
    pub(crate) reconcile: HistogramVec,
    /// One look of the node loop at all its pods, seconds.
    pub(crate) node_pass: Histogram,
    /// Asked of the runtime, by `operation_type`.
    pub(crate) operations: CounterVec,
    /// Failed, by `operation_type`.
    pub(crate) operation_errors: CounterVec,
    /// Seconds by `operation_type`.
    pub(crate) operation_seconds: HistogramVec,
    /// 1 for the commit in force, by `source`, `url`, `reference`, `commit`.
    pub(crate) revision_info: GaugeVec,
    /// 1 if the newest sync succeeded, by `source` and `result`.
    pub(crate) sync_result: GaugeVec,
    /// Unix time of the newest look, by `source`.
    pub(crate) sync_time: GaugeVec,
    /// One look at a source, seconds, by `source`.
    pub(crate) sync_seconds: HistogramVec,
    /// Unix time at which a `certificate` ends.
    pub(crate) certificate_expiration: GaugeVec,
    /// What is fetched of images, and given to peers.
    pub(crate) images: ImageMetrics,
    /// What is served of Ingresses.
    pub(crate) ingress: IngressMetrics,
    /// Of the node's name server.
    pub(crate) dns: Arc<DnsCounters>,
    /// Addresses that the world hears of from here.
    pub(crate) announce: AnnounceMetrics,
    /// Network policies, and what they drop.
    pub(crate) policies: PolicyMetrics,
    /// For how long the store's disk has done nothing of what it was asked, seconds.
    pub(crate) disk_stuck: Gauge,
    /// By `resource` and `tasks`, seconds.
    stalled: GaugeVec,
    process: ProcessMetrics,
}

/// The agent itself, under the names that every Prometheus client library uses.
#[derive(Debug, Clone)]
struct ProcessMetrics {
    resident_bytes: Gauge,
    cpu_seconds: Gauge,
    open_files: Gauge,
}

impl ProcessMetrics {
    fn new(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            resident_bytes: make.gauge("process_resident_memory_bytes", "Resident memory of the agent.")?,
            cpu_seconds: make.gauge("process_cpu_seconds_total", "CPU time of the agent.")?,
            open_files: make.gauge("process_open_fds", "Open descriptors of the agent.")?,
        })
    }

    /// Sets each to what the kernel says now.
    fn look(&self) {
        let Some(usage) = crate::usage::of_self() else { return };
        self.resident_bytes.set(usage.resident_bytes);
        self.cpu_seconds.set(usage.cpu_seconds);
        self.open_files.set(usage.open_files);
    }
}

/// From 0.5 ms to about 65 s.
fn buckets() -> Vec<f64> {
    (0..18).map(|power| 0.0005 * f64::from(1u32 << power)).collect()
}

struct Maker(Registry);

impl Maker {
    fn add<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> prometheus::Result<C> {
        let collector = made?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }
    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Gauge::new(name, help))
    }
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }
    fn counter(&self, name: &str, help: &str) -> prometheus::Result<Counter> {
        self.add(Counter::new(name, help))
    }
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        self.add(CounterVec::new(Opts::new(name, help), labels))
    }
    fn histogram(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets())))
    }
    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<HistogramVec> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets()), labels))
    }
}

/// What never changes while the agent runs, told as the labels of a 1.
fn constants(make: &Maker, node_name: &str) -> prometheus::Result<()> {
    let node = make.gauges("kubelet_node_name", "The node's name.", &["node"])?;
    node.with_label_values(&[node_name]).set(1.0);
    let build = make.gauges("keel_build_info", "The version of keel.", &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    Ok(())
}

fn sync_result(make: &Maker) -> prometheus::Result<GaugeVec> {
    make.gauges("keel_git_last_sync_result", "1 for the newest sync's result.", &["source", "result"])
}

fn sync_time(make: &Maker) -> prometheus::Result<GaugeVec> {
    make.gauges("keel_git_last_sync_timestamp_seconds", "When a source was last looked at.", &["source"])
}

fn certificate_expiration(make: &Maker) -> prometheus::Result<GaugeVec> {
    let name = "keel_certificate_expiration_timestamp_seconds";
    make.gauges(name, "When a certificate of this node ends.", &["certificate"])
}

fn disk_stuck(make: &Maker) -> prometheus::Result<Gauge> {
    let help = "How long the store's disk has done nothing of what it was asked; 0 while it works.";
    make.gauge("keel_store_disk_stuck_seconds", help)
}

fn stalled(make: &Maker) -> prometheus::Result<GaugeVec> {
    let help = "How long some or all programs of the machine had to wait.";
    make.gauges("keel_pressure_stalled_seconds_total", help, &["resource", "tasks"])
}

impl Metrics {
    /// All metrics, registered, at zero.
    ///
    /// # Errors
    /// If two metrics share a name: a mistake in this file.
    pub(crate) fn new(node_name: &str) -> prometheus::Result<Self> {
        let make = Maker(Registry::new());
        constants(&make, node_name)?;
        Ok(Self {
            running_pods: make.gauge("kubelet_running_pods", "Pods that have a running container.")?,
            containers: make.gauges(
                "kubelet_running_containers",
                "Containers by state.",
                &["container_state"],
            )?,
            pod_start: make.histogram(
                "kubelet_pod_start_duration_seconds",
                "From the first sight of a pod to its containers running.",
            )?,
            reconcile: make.histograms(
                "keel_reconcile_duration_seconds",
                "One pass of a controller.",
                &["controller"],
            )?,
            node_pass: make
                .histogram("kubelet_pleg_relist_duration_seconds", "One look at all pods of the node.")?,
            operations: make.counters(
                "kubelet_runtime_operations_total",
                "Asked of the runtime.",
                &["operation_type"],
            )?,
            operation_errors: make.counters(
                "kubelet_runtime_operations_errors_total",
                "Asked of the runtime, and failed.",
                &["operation_type"],
            )?,
            operation_seconds: make.histograms(
                "kubelet_runtime_operations_duration_seconds",
                "How long the runtime took.",
                &["operation_type"],
            )?,
            revision_info: make.gauges(
                "keel_git_revision_info",
                "The commit in force.",
                &["source", "url", "reference", "commit"],
            )?,
            sync_result: sync_result(&make)?,
            sync_time: sync_time(&make)?,
            sync_seconds: make.histograms(
                "keel_git_sync_duration_seconds",
                "One look at a source.",
                &["source"],
            )?,
            certificate_expiration: certificate_expiration(&make)?,
            images: ImageMetrics::new(&make)?,
            ingress: IngressMetrics::new(&make)?,
            dns: dns::register(&make)?,
            announce: AnnounceMetrics::new(&make)?,
            policies: PolicyMetrics::new(&make)?,
            disk_stuck: disk_stuck(&make)?,
            stalled: stalled(&make)?,
            process: ProcessMetrics::new(&make)?,
            registry: make.0,
        })
    }

    /// Runs `work`, and counts it as one runtime operation.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) async fn operation<T, E>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let timer = self.operation_seconds.with_label_values(&[name]).start_timer();
        self.operations.with_label_values(&[name]).inc();
        let result = work.await;
        timer.observe_duration();
        if result.is_err() {
            self.operation_errors.with_label_values(&[name]).inc();
        }
        result
    }

    /// Everything, in the Prometheus text format 0.0.4.
    pub(crate) fn render(&self) -> Vec<u8> {
        self.process.look();
        for resource in crate::stall::RESOURCES {
            if let Some(stall) = crate::stall::of_machine(resource) {
                self.stalled.with_label_values(&[resource, "some"]).set(stall.some_seconds);
                self.stalled.with_label_values(&[resource, "full"]).set(stall.full_seconds);
            }
        }
        let mut text = Vec::new();
        // Encoding fails only for a family without metrics, which gather() leaves out.
        let _encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendered_text_names_the_node_and_what_was_counted() {
        let metrics = Metrics::new("n1").expect("no name twice");
        metrics.running_pods.set(3.0);
        metrics.sync_result.with_label_values(&["site", "Synced"]).set(1.0);
        let text = String::from_utf8(metrics.render()).expect("text");
        assert!(text.contains("kubelet_node_name{node=\"n1\"} 1"), "{text}");
        assert!(text.contains("kubelet_running_pods 3"), "{text}");
        assert!(text.contains("keel_git_last_sync_result{result=\"Synced\",source=\"site\"} 1"), "{text}");
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }
}
