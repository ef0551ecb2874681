//! The overview of the node: the agent, its sources, its pods.

use super::sheet::Sheet;
use super::workload::overview_cells;
use super::{pod, symbol};
use crate::client::{AgentStatus, SourceStatus};
use crate::print::{Colour, Paint, Widths, ago, author_name, bytes, cpu_time, human_duration, short_commit};
use crate::stall::MachineStall;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

/// The overview of a node and its pods.
pub(crate) fn node(status: &AgentStatus, pods: &[Pod], paint: Paint, now: Timestamp) -> String {
    let failing = pods.iter().filter(|pod| pod::activity(pod).colour == Colour::Bad).count();
    let refused = status.sources.iter().filter(|source| source_colour(source) == Colour::Bad).count();
    let well = failing == 0 && refused == 0 && status.warnings.is_empty();
    let colour = if well { Colour::Good } else { Colour::Bad };
    let mut sheet = Sheet::default();
    sheet.line(&format!(
        "{} {} - keel {}",
        paint.paint(colour, symbol(if well { Colour::Good } else { Colour::Notice })),
        status.node_name,
        status.version
    ));
    sheet.field("State", &state(failing, refused, status.warnings.len(), paint));
    if let Ok(started) = status.started_at.parse::<Timestamp>() {
        sheet.field("Since", &ago(started, now));
    }
    sheet.field("Main PID", &status.pid.to_string());
    sheet.field("Socket", &status.socket);
    sheet.field("State dir", &status.state_dir);
    sheet.field("Pods", &format!("{} running of {}", status.pods.running, status.pods.total));
    sheet.field("Containers", &format!("{} running", status.containers.running));
    if let Some(memory) = status.memory_bytes {
        sheet.field("Memory", &format!("{} (the agent)", bytes(memory)));
    }
    if let Some(cpu) = status.cpu_nanos {
        sheet.field("CPU", &format!("{} (the agent)", cpu_time(cpu)));
    }
    if !status.stalls.is_empty() {
        let one = |(name, stall): (&String, &MachineStall)| format!("{name} {:.1} %", stall.some_percent);
        let all: Vec<_> = status.stalls.iter().map(one).collect();
        sheet.field("Pressure", &format!("{} (of the last 10 s)", all.join(", ")));
    }
    for pull in &status.pulls {
        sheet.field("Pulling", &super::pull(pull));
    }
    for warning in &status.warnings {
        sheet.field("Warning", &paint.paint(Colour::Notice, warning));
    }
    let sources: String = status.sources.iter().map(|found| source(found, paint, now)).collect();
    let sources = if sources.is_empty() { "no Git source is configured\n".into() } else { sources };
    sheet.section(&format!("{}\n{sources}", paint.paint(Colour::Bold, "Sources")));
    sheet.section(&pod_lines(pods, paint, now));
    sheet.finish()
}

/// `running`, or `degraded` and why.
fn state(failing: usize, refused: usize, warnings: usize, paint: Paint) -> String {
    let count = |count: usize, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    let reasons: Vec<_> = [
        count(failing, "pod fails", "pods fail"),
        count(refused, "source is not in sync", "sources are not in sync"),
        count(warnings, "warning", "warnings"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if reasons.is_empty() {
        paint.paint(Colour::Good, "running")
    } else {
        format!("{} ({})", paint.paint(Colour::Bad, "degraded"), reasons.join(", "))
    }
}

fn source_colour(source: &SourceStatus) -> Colour {
    match source.result.as_str() {
        "Synced" => Colour::Good,
        "" => Colour::Notice,
        _ => Colour::Bad,
    }
}

/// A source: what is in force, and in full what was wrong with the newest attempt.
fn source(source: &SourceStatus, paint: Paint, now: Timestamp) -> String {
    let colour = source_colour(source);
    let result = if source.result.is_empty() { "not looked at yet" } else { &source.result };
    let result = paint.paint(colour, result);
    let since = match source.since.parse::<Timestamp>() {
        Ok(since) => format!(" since {}", ago(since, now)),
        Err(_) => String::new(),
    };
    let dot = paint.paint(colour, symbol(colour));
    let mut sheet = Sheet::default();
    sheet.line(&format!("{dot} {}: {result}{since}", source.name));
    let reference =
        if source.reference.is_empty() { String::new() } else { format!(" ({})", source.reference) };
    sheet.field("From", &format!("{}{reference}", source.url));
    if source.commit.is_empty() {
        sheet.field("In force", "nothing yet");
    } else {
        let committed = source.committed_at.parse::<Timestamp>();
        let age = committed.map(|at| format!(", {} ago", human_duration(now.duration_since(at).as_secs())));
        sheet.field(
            "In force",
            &format!(
                "{} {:?} by {}{}",
                short_commit(&source.commit),
                source.subject,
                author_name(&source.author),
                age.unwrap_or_default()
            ),
        );
    }
    if let Ok(at) = source.last_attempt_at.parse::<Timestamp>() {
        sheet.field("Last look", &ago(at, now));
    }
    for line in source.message.lines() {
        sheet.line(format!("    {line}").trim_end());
    }
    sheet.finish()
}

/// The pods, those that fail first, those that are over last.
fn pod_lines(pods: &[Pod], paint: Paint, now: Timestamp) -> String {
    if pods.is_empty() {
        return String::new();
    }
    let rank = |colour| match colour {
        Colour::Bad => 0,
        Colour::Notice => 1,
        Colour::Good | Colour::Bold => 2,
        Colour::Dim => 3,
    };
    let mut lines: Vec<_> =
        pods.iter().map(|pod| (pod::activity(pod).colour, overview_cells(pod, now))).collect();
    lines.sort_by(|a, b| (rank(a.0), &a.1[0]).cmp(&(rank(b.0), &b.1[0])));
    let mut widths = Widths::default();
    lines.iter().for_each(|(_, cells)| widths.fit(cells));
    let mut text = format!("{}\n", paint.paint(Colour::Bold, "Pods"));
    for (colour, cells) in lines {
        text.push_str(&format!("{} {}\n", paint.paint(colour, symbol(colour)), widths.line(&cells)));
    }
    text
}
