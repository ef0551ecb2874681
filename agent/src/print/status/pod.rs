//! The status of a Pod.

use super::sheet::Sheet;
use super::{Activity, Branch, Provenance};
use crate::client::{ContainerUsage, PodInspection, PodPressure, PullStatus, Stall};
use crate::print::{Colour, Paint, bytes, cpu_time, pod_summary};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Event, Pod};

/// All that is known of a pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodReport {
    /// The object.
    pub(crate) pod: Pod,
    /// Where it came from.
    pub(crate) provenance: Provenance,
    /// What it is on the machine; `None` if nothing of it runs.
    pub(crate) inspection: Option<PodInspection>,
    /// Its images that are on their way.
    pub(crate) pulls: Vec<PullStatus>,
    /// The last lines, oldest first.
    pub(crate) log: Vec<LogLine>,
    /// About it.
    pub(crate) events: Vec<Event>,
}

/// A line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogLine {
    /// When.
    pub(crate) at: Timestamp,
    /// Who.
    pub(crate) container: String,
    /// What, without newline.
    pub(crate) text: String,
}

/// The status of a pod.
pub(crate) fn pod(report: &PodReport, paint: Paint, now: Timestamp) -> String {
    let metadata = &report.pod.metadata;
    let activity = activity(&report.pod);
    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "{} pod/{} - namespace {}",
        activity.dot(paint),
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default()
    ));
    report.provenance.write(&mut sheet, now);
    sheet.field("Active", &activity.line(paint, now));
    for pull in &report.pulls {
        sheet.field("Pulling", &super::pull(pull));
    }
    let status = report.pod.status.clone().unwrap_or_default();
    if let Some(message) = status.message.filter(|message| !message.is_empty()) {
        sheet.field("Message", &message);
    }
    if let Some(ip) = status.pod_ip.filter(|ip| !ip.is_empty()) {
        sheet.field("IP", &ip);
    }
    containers(&report.pod, report.inspection.as_ref(), paint, &mut sheet, now);
    if let Some(inspection) = &report.inspection {
        usage(inspection, &mut sheet);
    }
    sheet.section(&log(&report.log, report.inspection.as_ref(), paint));
    sheet.section(&super::events(&report.events, paint, now));
    sheet.finish()
}

/// How a pod is.
pub(crate) fn activity(pod: &Pod) -> Activity {
    let summary = pod_summary(pod);
    let status = pod.status.clone().unwrap_or_default();
    let word = &summary.status;
    let condition = |kind: &str| {
        let found = status.conditions.iter().flatten().find(|c| c.type_ == kind);
        found.and_then(|c| c.last_transition_time.as_ref()).map(|at| at.0)
    };
    let started = status.start_time.as_ref().map(|at| at.0);
    let ended = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0));
    let (colour, text, since) = match status.phase.as_deref() {
        _ if pod.metadata.deletion_timestamp.is_some() && word == "Terminating" => {
            let asked = pod.metadata.deletion_timestamp.as_ref().map(|at| at.0);
            (Colour::Notice, "deactivating (Terminating)".to_owned(), asked)
        }
        Some("Succeeded") => (Colour::Dim, format!("inactive ({word})"), ended.max()),
        Some("Failed") => (Colour::Bad, format!("failed ({word})"), ended.max()),
        _ if summary.is_failing() => {
            (Colour::Bad, format!("failed ({word})"), condition("Ready").or(started))
        }
        Some("Running") if summary.ready == summary.total => {
            (Colour::Good, "active (running)".to_owned(), condition("Ready").or(started))
        }
        Some("Running") => {
            let text = format!("activating ({word}, {} of {} ready)", summary.ready, summary.total);
            (Colour::Notice, text, started)
        }
        _ => (Colour::Notice, format!("activating ({word})"), started),
    };
    let since = since.or_else(|| pod.metadata.creation_timestamp.as_ref().map(|at| at.0));
    Activity { colour, text, since }
}

/// The line of each container: `Main PID` for the only one, else one line each.
fn containers(
    pod: &Pod,
    inspection: Option<&PodInspection>,
    paint: Paint,
    sheet: &mut Sheet,
    now: Timestamp,
) {
    let status = pod.status.clone().unwrap_or_default();
    let usual = status.container_statuses.unwrap_or_default();
    let init = status.init_container_statuses.unwrap_or_default();
    let added = status.ephemeral_container_statuses.unwrap_or_default();
    let pid = |name: &str| {
        let found = inspection?.containers.iter().find(|container| container.name == name)?;
        found.pid
    };
    if let ([only], []) = (usual.as_slice(), init.as_slice())
        && let Some(pid) = pid(&only.name)
    {
        sheet.field("Main PID", &format!("{pid} ({})", only.name));
    }
    let lines: Vec<String> = init
        .iter()
        .map(|container| (container, " (init)"))
        .chain(usual.iter().map(|container| (container, "")))
        .chain(added.iter().map(|container| (container, " (ephemeral)")))
        .map(|(container, role)| container_line(container, role, pid(&container.name), paint))
        .collect();
    sheet.field(if lines.len() == 1 { "Container" } else { "Containers" }, &lines.join("\n"));
    let said = inspection.map(|inspection| said(inspection, lines.len() > 1)).unwrap_or_default();
    if !said.is_empty() {
        sheet.field("Status", &said);
    }
    let summary = pod_summary(pod);
    sheet.field("Restarts", &restarts(&summary.restarts_text(now), &usual));
}

/// What the containers say of themselves, with their names if they are several.
fn said(inspection: &PodInspection, named: bool) -> String {
    let all = inspection.containers.iter().filter(|container| !container.status_text.is_empty());
    let line = |container: &ContainerUsage| match named {
        true => format!("{}: \"{}\"", container.name, container.status_text),
        false => format!("\"{}\"", container.status_text),
    };
    all.map(line).collect::<Vec<_>>().join("\n")
}

/// `2 (5m ago), last ended with Error, exit code 1`.
fn restarts(count: &str, containers: &[ContainerStatus]) -> String {
    let ended = containers.iter().filter_map(|c| c.last_state.as_ref()?.terminated.as_ref());
    let last = ended.max_by_key(|ended| ended.finished_at.clone());
    match last {
        Some(ended) if count != "0" => {
            let reason = ended.reason.as_deref().unwrap_or("an error");
            let why = ended.message.as_deref().unwrap_or_default().trim();
            let why = why.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
            format!("{count}, last ended with {reason}, exit code {}{why}", ended.exit_code)
        }
        Some(_) | None => count.to_owned(),
    }
}

fn container_line(container: &ContainerStatus, role: &str, pid: Option<i32>, paint: Paint) -> String {
    let state = container.state.clone().unwrap_or_default();
    let (colour, text) = state_text(&state);
    let pid = pid.map(|pid| format!(", PID {pid}")).unwrap_or_default();
    let word = paint.paint(colour, &text);
    format!("{}{role} [{}] {word}{pid}", container.name, container.image)
}

fn state_text(state: &ContainerState) -> (Colour, String) {
    let with = |reason: &str, message: Option<&String>| match message.filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {}", message.trim()),
        None => reason.to_owned(),
    };
    match (&state.running, &state.terminated, &state.waiting) {
        (Some(_), _, _) => (Colour::Good, "running".into()),
        (None, Some(ended), _) => {
            let reason = ended.reason.as_deref().unwrap_or("ended");
            let text = with(&format!("{reason} (exit code {})", ended.exit_code), ended.message.as_ref());
            (if ended.exit_code == 0 { Colour::Dim } else { Colour::Bad }, text)
        }
        (None, None, Some(waiting)) => {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let failing = reason.contains("BackOff") || reason.contains("Err") || reason == "StartLimitHit";
            (if failing { Colour::Bad } else { Colour::Notice }, with(reason, waiting.message.as_ref()))
        }
        (None, None, None) => (Colour::Notice, "waiting".into()),
    }
}

fn usage(inspection: &PodInspection, sheet: &mut Sheet) {
    if let Some(tasks) = inspection.pids {
        sheet.field("Tasks", &tasks.to_string());
    }
    if let Some(memory) = inspection.memory_bytes {
        sheet.field("Memory", &bytes(memory));
    }
    if let Some(network) = inspection.network {
        let (received, sent) = (bytes(network.received_bytes), bytes(network.sent_bytes));
        sheet.field("Network", &format!("{received} in, {sent} out"));
    }
    if let Some(cpu) = inspection.cpu_nanos {
        sheet.field("CPU", &cpu_time(cpu));
    }
    if let Some(pressure) = &inspection.pressure {
        sheet.field("Pressure", &stalls(pressure));
    }
    let mut tree = Branch::leaf(rooted(&inspection.cgroup));
    tree.children.push(Branch::leaf(format!("{} (supervisor)", inspection.supervisor_pid)));
    tree.children.extend(inspection.containers.iter().map(|container| cgroup(container, &inspection.cgroup)));
    sheet.field("CGroup", &tree.render());
}

/// `cpu 12.05%, memory 0.00%, io 0.40% (all waited: 0.10%) of the last 10 s`.
fn stalls(pressure: &PodPressure) -> String {
    let share = |hundredths: u32| format!("{}.{:02}%", hundredths / 100, hundredths % 100);
    let one = |name: &str, stall: Stall| match stall.full {
        0 => format!("{name} {}", share(stall.some)),
        full => format!("{name} {} (all waited: {})", share(stall.some), share(full)),
    };
    let all = [one("cpu", pressure.cpu), one("memory", pressure.memory), one("io", pressure.io)];
    format!("{} of the last 10 s", all.join(", "))
}

fn cgroup(container: &ContainerUsage, pod: &str) -> Branch {
    let short = rooted(&container.cgroup);
    let short = short.strip_prefix(&rooted(pod)).unwrap_or(&short).trim_start_matches('/').to_owned();
    let name = if short.is_empty() { container.name.clone() } else { short };
    let memory = container.memory_bytes.map(|memory| format!(" {}", bytes(memory))).unwrap_or_default();
    let cpu = container.cpu_nanos.map(|cpu| format!(" {}", cpu_time(cpu))).unwrap_or_default();
    let width = container.processes.iter().map(|p| p.pid.to_string().len()).max().unwrap_or(0);
    let process = |process: &crate::client::InspectedProcess| {
        Branch::leaf(format!("{:>width$} {}", process.pid, process.command.trim()))
    };
    Branch {
        text: format!("{name}{memory}{cpu}"),
        children: container.processes.iter().map(process).collect(),
    }
}

fn rooted(cgroup: &str) -> String {
    format!("/{}", cgroup.trim_start_matches('/'))
}

/// `Nov 21 00:01:02 web[4321]: Hello`.
fn log(lines: &[LogLine], inspection: Option<&PodInspection>, paint: Paint) -> String {
    let mut text = String::new();
    for line in lines {
        let pid = inspection
            .and_then(|inspection| inspection.containers.iter().find(|c| c.name == line.container)?.pid)
            .map(|pid| format!("[{pid}]"))
            .unwrap_or_default();
        let head = format!("{} {}{pid}:", line.at.strftime("%b %d %H:%M:%S"), line.container);
        text.push_str(&format!("{} {}\n", paint.paint(Colour::Dim, &head), line.text));
    }
    text
}
