//! The status of everything that is no Pod.

use super::sheet::Sheet;
use super::{Activity, Branch, Provenance, pod};
use crate::print::{self, Colour, Columns, Paint, pod_summary};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use manifests::{Kind, Object};

/// All that is known of an object.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadReport {
    /// The object.
    pub(crate) object: Object,
    /// Where it came from.
    pub(crate) provenance: Provenance,
    /// What came of it: [`branch`]es.
    pub(crate) children: Vec<Branch>,
    /// About it.
    pub(crate) events: Vec<Event>,
}

/// The status of an object.
pub(crate) fn workload(report: &WorkloadReport, paint: Paint, now: Timestamp) -> String {
    let object = &report.object;
    let activity = activity(object);
    let mut sheet = Sheet::default();
    let namespace = match object.namespace() {
        "" => String::new(),
        namespace => format!(" - namespace {namespace}"),
    };
    let name = print::qualified_name(object.kind(), object.name());
    sheet.line(&format!("{} {name}{namespace}", activity.dot(paint)));
    report.provenance.write(&mut sheet, now);
    sheet.field("Active", &activity.line(paint, now));
    for (head, cell) in details(object, now) {
        sheet.field(&head, &cell);
    }
    if let Object::Revision(revision) = object {
        sheet.field(
            "Commit",
            &format!("{} {:?}", print::short_commit(&revision.spec.commit), revision.spec.subject),
        );
        sheet.field("Author", &revision.spec.author);
        sheet.section(&revision.status.message.lines().map(|line| format!("{line}\n")).collect::<String>());
    }
    for condition in bad_conditions(object) {
        sheet.field("Condition", &paint.paint(Colour::Bad, &condition));
    }
    if !report.children.is_empty() {
        let tree = Branch { text: name, children: report.children.clone() };
        sheet.field("Tree", &tree.render());
    }
    sheet.section(&super::events(&report.events, paint, now));
    sheet.finish()
}

/// A line of the tree under a workload: dot, name and the table's cells.
pub(crate) fn branch(object: &Object, paint: Paint, now: Timestamp) -> Branch {
    let activity = activity(object);
    let cells = print::row(object, Columns::default(), now);
    let name = print::qualified_name(object.kind(), object.name());
    let rest: Vec<_> = cells.iter().skip(1).filter(|cell| !cell.is_empty()).cloned().collect();
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others have no state of their own")]
    let text = match object {
        Object::Pod(_) => rest.join("  "),
        Object::ReplicaSet(set) => {
            let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
            format!(
                "{ready}/{}  {}",
                set.spec.replicas.unwrap_or(1),
                rest.last().cloned().unwrap_or_default()
            )
        }
        Object::Job(_) => rest.join("  "),
        _ => String::new(),
    };
    Branch::leaf(format!("{} {name}  {text}", activity.dot(paint)).trim_end())
}

/// How an object is.
pub(crate) fn activity(object: &Object) -> Activity {
    let created = object.metadata().creation_timestamp.as_ref().map(|at| at.0);
    let ready = |ready: i32, wanted: i32| match ready {
        _ if wanted == 0 => (Colour::Dim, "inactive (0 wanted)".to_owned()),
        ready if ready >= wanted => (Colour::Good, format!("active ({ready} of {wanted} ready)")),
        ready => (Colour::Notice, format!("activating ({ready} of {wanted} ready)")),
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are there, and that is all")]
    let (colour, text) = match object {
        Object::Pod(o) => return pod::activity(o),
        Object::Deployment(o) => {
            let status = o.status.clone().unwrap_or_default();
            ready(status.ready_replicas.unwrap_or(0), o.spec.replicas.unwrap_or(1))
        }
        Object::ReplicaSet(o) => {
            let status = o.status.clone().unwrap_or_default();
            ready(status.ready_replicas.unwrap_or(0), o.spec.replicas.unwrap_or(1))
        }
        Object::DaemonSet(o) => {
            let status = o.status.clone().unwrap_or_default();
            ready(status.number_ready, status.desired_number_scheduled)
        }
        Object::Job(_) => match print::row(object, Columns::default(), Timestamp::UNIX_EPOCH)[1].as_str() {
            "Complete" => (Colour::Dim, "inactive (Complete)".to_owned()),
            "Failed" => (Colour::Bad, "failed (Failed)".to_owned()),
            word => (Colour::Good, format!("active ({word})")),
        },
        Object::CronJob(o) if o.spec.suspend == Some(true) => {
            (Colour::Dim, "inactive (suspended)".to_owned())
        }
        Object::CronJob(o) => (Colour::Good, format!("active (waiting for {})", o.spec.schedule)),
        Object::Revision(o) if o.status.result == "Synced" => (Colour::Good, "active (Synced)".to_owned()),
        Object::Revision(o) => {
            let at = o.status.since.parse().ok();
            return Activity {
                colour: Colour::Bad,
                text: format!("failed ({})", o.status.result),
                since: at,
            };
        }
        _ => (Colour::Good, "active".to_owned()),
    };
    Activity { colour, text, since: created }
}

/// The cells of the wide table that say more than the lines above them.
fn details(object: &Object, now: Timestamp) -> Vec<(String, String)> {
    let columns = Columns { wide: true, ..Columns::default() };
    let heads = print::heads(object.kind(), columns);
    let cells = print::row(object, columns, now);
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others show whatever they have")]
    let wanted = |head: &str| match object.kind() {
        Kind::Pod | Kind::Event | Kind::Revision => false,
        Kind::Deployment | Kind::ReplicaSet | Kind::DaemonSet => {
            ["UP-TO-DATE", "IMAGES", "SELECTOR"].contains(&head)
        }
        Kind::Job | Kind::CronJob => !["NAME", "STATUS", "AGE", "CONTAINERS", "SELECTOR"].contains(&head),
        _ => !["NAME", "AGE"].contains(&head),
    };
    let short = |head: &str| {
        let word = head.split(' ').next_back().unwrap_or(head).to_ascii_lowercase();
        let word = word.split('-').next_back().unwrap_or(&word).to_owned();
        match head {
            "UP-TO-DATE" => "Updated".to_owned(),
            "LAST SCHEDULE" => "Last run".to_owned(),
            "COMPLETIONS" => "Completed".to_owned(),
            "CLUSTER-IP" => "IP".to_owned(),
            "EXTERNAL-IP" => "External".to_owned(),
            "INTERNAL-IP" => "Internal".to_owned(),
            "OS-IMAGE" => "OS".to_owned(),
            "KERNEL-VERSION" => "Kernel".to_owned(),
            "PORT(S)" => "Ports".to_owned(),
            _ => format!("{}{}", word[..1].to_ascii_uppercase(), &word[1..]),
        }
    };
    let named = heads.into_iter().zip(cells);
    named
        .filter(|(head, cell)| wanted(head) && !cell.is_empty() && cell != "<none>")
        .map(|(head, cell)| (short(head), cell))
        .collect()
}

/// Conditions that say what went wrong: `Failed: BackoffLimitExceeded: Job has…`.
fn bad_conditions(object: &Object) -> Vec<String> {
    let line = |kind: &str, reason: Option<&String>, message: Option<&String>| {
        [Some(&kind.to_owned()), reason, message]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(": ")
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others have no bad conditions")]
    match object {
        Object::Job(job) => {
            let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref());
            let bad =
                conditions.unwrap_or_default().iter().filter(|c| c.type_ == "Failed" && c.status == "True");
            bad.map(|c| line(&c.type_, c.reason.as_ref(), c.message.as_ref())).collect()
        }
        Object::Deployment(deployment) => {
            let conditions = deployment.status.as_ref().and_then(|status| status.conditions.as_deref());
            let bad = conditions.unwrap_or_default().iter().filter(|c| {
                let status = (c.type_.as_deref(), c.status.as_deref());
                [(Some("Progressing"), Some("False")), (Some("ReplicaFailure"), Some("True"))]
                    .contains(&status)
            });
            bad.map(|c| line(c.type_.as_deref().unwrap_or_default(), c.reason.as_ref(), c.message.as_ref()))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The one-line summary of a pod in the node's overview.
pub(super) fn overview_cells(pod: &k8s_openapi::api::core::v1::Pod, now: Timestamp) -> Vec<String> {
    let summary = pod_summary(pod);
    let age = print::since(pod.metadata.creation_timestamp.as_ref(), now);
    vec![
        format!(
            "{}/{}",
            pod.metadata.namespace.as_deref().unwrap_or_default(),
            pod.metadata.name.as_deref().unwrap_or_default()
        ),
        format!("{}/{}", summary.ready, summary.total),
        summary.status.clone(),
        summary.restarts_text(now),
        age,
    ]
}
