//! Probes and lifecycle hooks.

use crate::names;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) fn check(container: &Container, at: &Path<'_>, report: &mut Report<'_>) {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (field, probe) in probes {
        let Some(probe) = probe else { continue };
        let at = at.field(field);
        self::probe(probe, &at, report);
        if field != "readinessProbe" && probe.success_threshold.is_some_and(|t| t > 1) {
            let message = format!("successThreshold must be 1 in a {field}");
            report.error(&at.field("successThreshold"), "bad-value", message);
        }
        if field == "readinessProbe" && probe.termination_grace_period_seconds.is_some() {
            let message = "a readiness probe ends nothing, so it has no grace period";
            report.error(&at.field("terminationGracePeriodSeconds"), "not-allowed", message);
        }
    }
    if let Some(lifecycle) = &container.lifecycle {
        for (field, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(handler) = handler {
                let at = at.field("lifecycle");
                self::handler(handler, &at.field(field), report);
            }
        }
    }
}

fn probe(probe: &Probe, at: &Path<'_>, report: &mut Report<'_>) {
    let given = [
        ("exec", probe.exec.is_some()),
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("grpc", probe.grpc.is_some()),
    ];
    exactly_one(&given, at, report);
    if let Some(exec) = &probe.exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        report.error(&at.field("exec"), "missing-field", "field `command` is missing");
    }
    if let Some(http) = &probe.http_get {
        http_get(http, &at.field("httpGet"), report);
    }
    if let Some(tcp) = &probe.tcp_socket {
        port(&tcp.port, &at.field("tcpSocket.port"), report);
    }
    if let Some(grpc) = &probe.grpc {
        report.between(&at.field("grpc.port"), Some(grpc.port), 1, 65_535);
    }
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, number) in numbers {
        report.not_negative(&at.field(field), number);
    }
    let grace = probe.termination_grace_period_seconds;
    report.between(&at.field("terminationGracePeriodSeconds"), grace, 1, i64::MAX);
}

fn handler(handler: &LifecycleHandler, at: &Path<'_>, report: &mut Report<'_>) {
    let given = [
        ("exec", handler.exec.is_some()),
        ("httpGet", handler.http_get.is_some()),
        ("tcpSocket", handler.tcp_socket.is_some()),
        ("sleep", handler.sleep.is_some()),
    ];
    exactly_one(&given, at, report);
    if let Some(http) = &handler.http_get {
        http_get(http, &at.field("httpGet"), report);
    }
    if let Some(tcp) = &handler.tcp_socket {
        port(&tcp.port, &at.field("tcpSocket.port"), report);
    }
}

fn exactly_one(given: &[(&str, bool)], at: &Path<'_>, report: &mut Report<'_>) {
    let names = |only_given: bool| -> Vec<&str> {
        given.iter().filter(|(_, g)| *g || !only_given).map(|(name, _)| *name).collect()
    };
    match names(true)[..] {
        [] => {
            let message = format!("one of {} is missing", names(false).join(", "));
            report.error(at, "missing-handler", message);
        }
        [_] => {}
        [_, second, ..] => {
            let message = format!("only one of {} is allowed", names(true).join(", "));
            report.error(&at.field(second), "several-handlers", message);
        }
    }
}

fn http_get(http: &HTTPGetAction, at: &Path<'_>, report: &mut Report<'_>) {
    port(&http.port, &at.field("port"), report);
    report.one_of(&at.field("scheme"), http.scheme.as_deref(), &["HTTP", "HTTPS"]);
}

/// A number, or the name of one of the container's ports.
pub(super) fn port(port: &IntOrString, at: &Path<'_>, report: &mut Report<'_>) {
    match port {
        IntOrString::Int(number) => report.between(at, Some(*number), 1, 65_535),
        IntOrString::String(name) => report.name(at, name, names::port_name),
    }
}
