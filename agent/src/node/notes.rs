//! What users are told when a pod changes: the events that the kubelet would
//! record. Pure.

use manifests::ObjectKey;
use reconciler::controllers::Note;
use runtime::state::{ContainerState, ContainerStatus, PodState, Termination};

/// The events of the change from `before` to `after`.
pub(crate) fn notes(about: &ObjectKey, before: Option<&PodState>, after: &PodState) -> Vec<Note> {
    let old = |name: &str| before?.init_containers.iter().chain(&before?.containers).find(|c| c.name == name);
    let containers = after.init_containers.iter().chain(&after.containers);
    let told = before.and_then(|before| before.notices.last()).map_or(0, |last| last.sequence);
    let notices = after.notices.iter().filter(|notice| notice.sequence > told);
    let notices = notices.map(|notice| Note {
        about: about.clone(),
        warning: notice.warning,
        reason: word(&notice.reason),
        message: notice.message.clone(),
    });
    containers
        .flat_map(|now| container_notes(about, &after.uid, old(&now.name), now))
        .chain(notices)
        .collect()
}

/// The reason of a supervisor's notice, as one of the words that events have.
fn word(reason: &str) -> &'static str {
    const WORDS: [&str; 4] = ["Unhealthy", "Killing", "FailedPostStartHook", "FailedPreStopHook"];
    WORDS.into_iter().find(|word| *word == reason).unwrap_or("Notice")
}

fn container_notes(
    about: &ObjectKey,
    uid: &str,
    before: Option<&ContainerStatus>,
    now: &ContainerStatus,
) -> Vec<Note> {
    let normal = |reason, message| Note { about: about.clone(), warning: false, reason, message };
    let warning = |reason, message| Note { about: about.clone(), warning: true, reason, message };
    if before.is_some_and(|old| old.state == now.state && old.last == now.last) {
        return Vec::new();
    }
    let mut notes = Vec::new();
    let name = &now.name;
    let ended = now.last.as_ref().filter(|last| before.is_none_or(|old| old.last.as_ref() != Some(last)));
    let oom = || format!("Container {name} used more memory than its limit and was killed");
    let cannot = |end: &Termination| format!("{}: container {name}: {}", end.reason, end.message.trim());
    match ended.filter(|_| before.is_some()) {
        Some(end) if end.reason == "OOMKilled" => notes.push(warning("OOMKilling", oom())),
        Some(end) if is_no_start(end) => notes.push(warning("Failed", cannot(end))),
        Some(_) | None => {}
    }
    match &now.state {
        ContainerState::Running { .. } => notes.push(normal("Started", format!("Started container {name}"))),
        ContainerState::Waiting { reason, .. } if reason == "CrashLoopBackOff" => {
            // Without the delay, which differs each time: the same again is counted.
            let pod = format!("{}_{}({uid})", about.name, about.namespace);
            notes.push(warning(
                "BackOff",
                format!("Back-off restarting failed container {name} in pod {pod}"),
            ));
        }
        ContainerState::Waiting { .. } => {}
        ContainerState::Terminated(end) => match end.reason.as_str() {
            "Completed" => {}
            "OOMKilled" => notes.push(warning("OOMKilling", oom())),
            _ if is_no_start(end) => notes.push(warning("Failed", cannot(end))),
            _ => notes.push(normal("Exited", format!("Container {name} exited with code {}", end.exit_code))),
        },
    }
    notes
}

/// The program never ran.
fn is_no_start(end: &Termination) -> bool {
    matches!(end.reason.as_str(), "ContainerCannotRun" | "StartError")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use manifests::Kind;
    use runtime::state::Stage;

    fn pod(state: ContainerState, last: Option<Termination>) -> PodState {
        let container = ContainerStatus {
            name: "web".into(),
            image: "host:".into(),
            image_id: "host:".into(),
            container_id: "1".into(),
            state,
            last,
            restarts: 0,
            started: true,
            status_text: String::new(),
            ready: true,
        };
        PodState {
            limits: std::collections::BTreeMap::new(),
            notices: Vec::new(),
            by_request: false,
            cgroup: String::new(),
            uid: "u".into(),
            namespace: "default".into(),
            name: "a".into(),
            supervisor_pid: 1,
            stage: Stage::Started,
            created_at: Timestamp::UNIX_EPOCH,
            addresses: Vec::new(),
            init_containers: Vec::new(),
            containers: vec![container],
        }
    }

    fn killed() -> Termination {
        Termination {
            exit_code: 137,
            signal: Some(9),
            reason: "OOMKilled".into(),
            message: String::new(),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
            container_id: "1".into(),
        }
    }

    fn reasons(before: Option<&PodState>, after: &PodState) -> Vec<&'static str> {
        let about = ObjectKey::new(Kind::Pod, "default", "a");
        notes(&about, before, after).into_iter().map(|note| note.reason).collect()
    }

    #[test]
    fn each_change_is_told_once() {
        let running = || ContainerState::Running { pid: 7, started_at: Timestamp::UNIX_EPOCH };
        let first = pod(running(), None);
        assert_eq!(reasons(None, &first), ["Started"]);
        assert_eq!(reasons(Some(&first), &first), [""; 0]);
        let waiting = ContainerState::Waiting {
            reason: "CrashLoopBackOff".into(),
            message: String::new(),
            retry_at: None,
        };
        let crashed = pod(waiting, Some(killed()));
        assert_eq!(reasons(Some(&first), &crashed), ["OOMKilling", "BackOff"]);
        let again = pod(running(), Some(killed()));
        assert_eq!(reasons(Some(&crashed), &again), ["Started"]);
    }
}
