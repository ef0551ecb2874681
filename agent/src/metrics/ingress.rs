//! What is served of Ingresses, under ingress-nginx's names.

use super::Maker;
use crate::ingress::ShownCertificate;
use netstack::ingress::{Observer, Seen};
use prometheus::{CounterVec, GaugeVec, HistogramVec};
use std::io;

/// Requests and certificates of Ingresses.
#[derive(Debug, Clone)]
pub(crate) struct IngressMetrics {
    requests: CounterVec,
    seconds: HistogramVec,
    connections: GaugeVec,
    expiration: GaugeVec,
    class: String,
}

impl IngressMetrics {
    pub(super) fn new(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            requests: make.counters(
                "nginx_ingress_controller_requests",
                "Requests of clients.",
                &["controller_class", "namespace", "ingress", "service", "method", "status"],
            )?,
            seconds: make.histograms(
                "nginx_ingress_controller_request_duration_seconds",
                "From the head of a request to the last byte of its answer.",
                &["namespace", "ingress", "service"],
            )?,
            connections: make.gauges(
                "nginx_ingress_controller_nginx_process_connections",
                "Connections of clients.",
                &["state"],
            )?,
            expiration: make.gauges(
                "nginx_ingress_controller_ssl_expire_time_seconds",
                "When the certificate of a host ends.",
                &["host", "namespace", "secret_name"],
            )?,
            class: String::new(),
        })
    }

    /// The same, of the Ingresses of `class`.
    pub(crate) fn of_class(&self, class: &str) -> Self {
        Self { class: class.to_owned(), ..self.clone() }
    }

    /// These certificates are shown, and no others.
    #[allow(clippy::cast_precision_loss, reason = "seconds of some centuries")]
    pub(crate) fn expirations(&self, shown: &[ShownCertificate]) {
        self.expiration.reset();
        for ShownCertificate { host, secret: (namespace, name), certificate } in shown {
            if let Ok((_, read)) = x509_parser::parse_x509_certificate(certificate.der()) {
                let end = read.validity().not_after.timestamp();
                self.expiration.with_label_values(&[host, namespace, name]).set(end as f64);
            }
        }
    }
}

impl Observer for IngressMetrics {
    fn request(&self, seen: &Seen) {
        let (namespace, name) =
            seen.ingress.as_ref().map_or(("", ""), |one| (one.namespace.as_str(), one.name.as_str()));
        let (service, status) = (seen.service.as_str(), seen.status.to_string());
        self.requests
            .with_label_values(&[self.class.as_str(), namespace, name, service, seen.method, &status])
            .inc();
        self.seconds.with_label_values(&[namespace, name, service]).observe(seen.took.as_secs_f64());
    }

    fn connections(&self, change: i8) {
        self.connections.with_label_values(&["active"]).add(change.into());
    }

    fn accept_failed(&self, error: &io::Error) {
        tracing::warn!(%error, "a connection to an Ingress cannot be accepted");
    }
}
