use super::*;
use crate::state::{ContainerState, ContainerStatus, Stage, Termination};
use k8s_openapi::api::core::v1::PodCondition;
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ended(exit_code: i32, reason: &str) -> Termination {
    Termination {
        exit_code,
        signal: None,
        reason: reason.into(),
        message: String::new(),
        started_at: at(10),
        finished_at: at(20),
        container_id: "c0".into(),
    }
}

/// What a container may be doing, by the letters of the tables below.
fn container(name: &str, what: char) -> ContainerStatus {
    let waiting = |reason: &str| ContainerState::Waiting {
        reason: reason.into(),
        message: String::new(),
        retry_at: None,
    };
    let (state, last) = match what {
        // New, Running, Good, Bad, Crash loop, and a back-off after a Good end.
        'N' => (waiting("ContainerCreating"), None),
        'R' => (ContainerState::Running { pid: 7, started_at: at(30) }, None),
        'G' => (ContainerState::Terminated(ended(0, "Completed")), None),
        'B' => (ContainerState::Terminated(ended(1, "Error")), None),
        'C' => (waiting("CrashLoopBackOff"), Some(ended(1, "Error"))),
        'L' => (waiting("CrashLoopBackOff"), Some(ended(0, "Completed"))),
        other => panic!("no such state: {other}"),
    };
    let runs = what == 'R';
    ContainerStatus {
        started: runs,
        status_text: String::new(),
        ready: runs,
        name: name.into(),
        image: "host:".into(),
        image_id: "host:".into(),
        container_id: if what == 'N' { String::new() } else { "c1".into() },
        state,
        last,
        restarts: 0,
    }
}

fn pod(policy: &str, init: usize, main: usize) -> Pod {
    let list = |prefix: &str, count: usize| -> Vec<Value> {
        (0..count).map(|index| json!({"name": format!("{prefix}{index}"), "image": "host:"})).collect()
    };
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "generation": 3},
        "spec": {"restartPolicy": policy, "initContainers": list("i", init), "containers": list("m", main)},
    }))
    .unwrap()
}

fn state(stage: Stage, init: &str, main: &str) -> PodState {
    let list = |prefix: &str, what: &str| {
        what.chars().enumerate().map(|(index, what)| container(&format!("{prefix}{index}"), what)).collect()
    };
    PodState {
        uid: "u-1".into(),
        namespace: "shop".into(),
        name: "web".into(),
        supervisor_pid: 1,
        stage,
        created_at: at(1),
        addresses: vec!["10.0.0.7".into(), "fd00::7".into()],
        init_containers: list("i", init),
        containers: list("m", main),
        limits: std::collections::BTreeMap::new(),
        notices: Vec::new(),
        by_request: false,
        cgroup: String::new(),
    }
}

const HOST: &str = "192.0.2.1";

fn status(pod: &Pod, state: Option<&PodState>, problem: Option<&Problem>) -> PodStatus {
    pod_status(pod, state, problem, &[HOST.into()], at(100))
}

fn phase(policy: &str, stage: Stage, init: &str, main: &str) -> String {
    let pod = pod(policy, init.len(), main.len());
    status(&pod, Some(&state(stage, init, main)), None).phase.unwrap()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.as_ref().unwrap().iter().find(|one| one.type_ == kind).unwrap()
}

/// (condition's status, reason)
fn short<'a>(status: &'a PodStatus, kind: &str) -> (&'a str, &'a str) {
    let one = condition(status, kind);
    (&one.status, one.reason.as_deref().unwrap_or_default())
}

/// The phase while the supervisor works, for each restart policy: Always,
/// OnFailure, Never. The rows are those of kubelet_pods_test.go.
#[test]
fn the_phase_is_the_kubelets_for_every_mixture_of_containers() {
    let rows = [
        ("", "N", "Pending", "Pending", "Pending"),
        ("", "R", "Running", "Running", "Running"),
        ("", "G", "Running", "Succeeded", "Succeeded"),
        ("", "B", "Running", "Running", "Failed"),
        ("", "C", "Running", "Running", "Failed"),
        ("", "L", "Running", "Running", "Failed"),
        ("", "RR", "Running", "Running", "Running"),
        ("", "RN", "Pending", "Pending", "Pending"),
        ("", "RG", "Running", "Running", "Running"),
        ("", "RB", "Running", "Running", "Running"),
        ("", "RC", "Running", "Running", "Running"),
        ("", "GG", "Running", "Succeeded", "Succeeded"),
        ("", "GB", "Running", "Running", "Failed"),
        ("", "BB", "Running", "Running", "Failed"),
        ("", "GC", "Running", "Running", "Failed"),
        ("", "NB", "Pending", "Pending", "Pending"),
        ("N", "N", "Pending", "Pending", "Pending"),
        ("R", "N", "Pending", "Pending", "Pending"),
        ("B", "N", "Pending", "Pending", "Failed"),
        ("C", "N", "Pending", "Pending", "Failed"),
        ("L", "N", "Pending", "Pending", "Pending"),
        ("G", "N", "Pending", "Pending", "Pending"),
        ("G", "R", "Running", "Running", "Running"),
        ("G", "G", "Running", "Succeeded", "Succeeded"),
        ("G", "B", "Running", "Running", "Failed"),
        ("GN", "N", "Pending", "Pending", "Pending"),
        ("GB", "N", "Pending", "Pending", "Failed"),
        ("GG", "R", "Running", "Running", "Running"),
    ];
    for (init, main, always, on_failure, never) in rows {
        for (policy, wanted) in [("Always", always), ("OnFailure", on_failure), ("Never", never)] {
            assert_eq!(
                phase(policy, Stage::Started, init, main),
                wanted,
                "{policy} init {init:?} main {main:?}"
            );
        }
    }
}

#[test]
fn a_finished_pod_has_succeeded_or_failed_whatever_its_policy() {
    let rows = [
        ("", "G", "Succeeded"),
        ("", "GG", "Succeeded"),
        ("", "B", "Failed"),
        ("", "GB", "Failed"),
        ("", "C", "Failed"),
        ("", "N", "Failed"),
        ("G", "G", "Succeeded"),
        ("B", "N", "Failed"),
        ("N", "N", "Failed"),
    ];
    for (init, main, wanted) in rows {
        for policy in ["Always", "OnFailure", "Never"] {
            assert_eq!(
                phase(policy, Stage::Finished, init, main),
                wanted,
                "{policy} init {init:?} main {main:?}"
            );
        }
    }
}

#[test]
fn a_pod_without_supervisor_is_pending_and_its_containers_wait() {
    let found = status(&pod("Always", 0, 1), None, None);
    assert_eq!(found.phase.as_deref(), Some("Pending"));
    let reason = |status: &PodStatus| {
        let main = &status.container_statuses.as_ref().unwrap()[0];
        main.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.clone().unwrap()
    };
    assert_eq!(reason(&found), "ContainerCreating");
    assert_eq!(short(&found, "PodReadyToStartContainers"), ("False", ""));
    assert_eq!(short(&found, "Initialized"), ("True", ""));
    assert_eq!(short(&found, "Ready"), ("False", "ContainersNotReady"));
    assert_eq!(short(&found, "PodScheduled"), ("True", ""));
    let message = condition(&found, "ContainersReady").message.as_deref();
    assert_eq!(message, Some("containers with unready status: [m0]"));

    let with_init = status(&pod("Always", 1, 1), None, None);
    assert_eq!(reason(&with_init), "PodInitializing");
    assert_eq!(short(&with_init, "Initialized"), ("False", "ContainersNotInitialized"));
}

#[test]
fn a_running_pod_is_ready_and_has_its_addresses() {
    let found = status(&pod("Always", 1, 1), Some(&state(Stage::Started, "G", "R")), None);
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(short(&found, kind), ("True", ""), "{kind}");
    }
    assert_eq!(found.pod_ip.as_deref(), Some("10.0.0.7"));
    assert_eq!(found.pod_ips.as_ref().unwrap().len(), 2);
    assert_eq!(found.host_ip.as_deref(), Some(HOST));
    assert_eq!(found.observed_generation, Some(3));
    let main = &found.container_statuses.as_ref().unwrap()[0];
    assert!(main.ready && main.started == Some(true));
    assert_eq!(main.container_id.as_deref(), Some("keel://c1"));
    let init = &found.init_container_statuses.as_ref().unwrap()[0];
    assert!(init.ready, "an init container is ready when it is done");

    let mut on_host = pod("Always", 0, 1);
    on_host.spec.as_mut().unwrap().host_network = Some(true);
    let found = status(&on_host, Some(&state(Stage::Started, "", "R")), None);
    assert_eq!(found.pod_ip.as_deref(), Some(HOST));
}

#[test]
fn the_conditions_of_ended_pods_say_why() {
    let done = status(&pod("Never", 1, 1), Some(&state(Stage::Finished, "G", "G")), None);
    assert_eq!(short(&done, "Initialized"), ("True", "PodCompleted"));
    assert_eq!(short(&done, "Ready"), ("False", "PodCompleted"));
    assert_eq!(short(&done, "PodReadyToStartContainers"), ("False", ""));
    let failed = status(&pod("Never", 0, 1), Some(&state(Stage::Finished, "", "B")), None);
    assert_eq!(short(&failed, "ContainersReady"), ("False", "PodFailed"));
    let waiting = status(&pod("Always", 0, 2), Some(&state(Stage::Started, "", "RC")), None);
    assert_eq!(short(&waiting, "Ready"), ("False", "ContainersNotReady"));
    let message = condition(&waiting, "Ready").message.as_deref();
    assert_eq!(message, Some("containers with unready status: [m1]"));
}

#[test]
fn transition_times_are_kept_until_the_condition_changes() {
    let mut pod = pod("Always", 0, 1);
    let started = state(Stage::Started, "", "N");
    pod.status = Some(pod_status(&pod, Some(&started), None, &[], at(100)));
    let running = state(Stage::Started, "", "R");
    let later = pod_status(&pod, Some(&running), None, &[], at(200));
    let time =
        |status: &PodStatus, kind: &str| condition(status, kind).last_transition_time.clone().unwrap().0;
    assert_eq!(time(&later, "PodScheduled"), at(100));
    assert_eq!(time(&later, "Ready"), at(200));
    assert_eq!(later.start_time.as_ref().unwrap().0, at(100));
    pod.status = Some(later.clone());
    assert_eq!(pod_status(&pod, Some(&running), None, &[], at(300)), later, "nothing new changes nothing");
}

#[test]
fn problems_are_shown_where_they_belong() {
    let waiting = |status: &PodStatus, index: usize| {
        let state = status.container_statuses.as_ref().unwrap()[index].state.clone().unwrap();
        let waiting = state.waiting.unwrap();
        (waiting.reason.unwrap(), waiting.message.unwrap_or_default())
    };
    let pod = pod("Always", 0, 2);
    let image = Problem::Container { name: "m1".into(), reason: "ErrImagePull".into(), message: "no".into() };
    let found = status(&pod, None, Some(&image));
    assert_eq!(waiting(&found, 0), ("ContainerCreating".into(), String::new()));
    assert_eq!(waiting(&found, 1), ("ErrImagePull".into(), "no".into()));
    let volume = Problem::Pod { reason: "FailedMount".into(), message: "no".into() };
    assert_eq!(waiting(&status(&pod, None, Some(&volume)), 0), ("FailedMount".into(), "no".into()));
    let network = Problem::Pod { reason: "ContainerCreating".into(), message: "no network".into() };
    let found = status(&pod, Some(&state(Stage::Created, "", "NN")), Some(&network));
    assert_eq!(waiting(&found, 1), ("ContainerCreating".into(), "no network".into()));

    let evicted = Problem::Failed { reason: "Evicted".into(), message: "no memory".into() };
    let found = status(&pod, Some(&state(Stage::Stopping, "", "RR")), Some(&evicted));
    assert_eq!(found.phase.as_deref(), Some("Failed"));
    assert_eq!((found.reason.as_deref(), found.message.as_deref()), (Some("Evicted"), Some("no memory")));
}

#[test]
fn a_deadline_fails_the_pod() {
    let mut late = state(Stage::Finished, "", "G");
    late.containers[0].state = ContainerState::Terminated(ended(143, "DeadlineExceeded"));
    let found = status(&pod("Always", 0, 1), Some(&late), None);
    assert_eq!((found.phase.as_deref(), found.reason.as_deref()), (Some("Failed"), Some("DeadlineExceeded")));
    let message = "Pod was active on the node longer than the specified deadline";
    assert_eq!(found.message.as_deref(), Some(message));
}

#[test]
fn an_ended_pod_stays_ended_when_its_supervisor_is_gone() {
    let mut pod = pod("Never", 0, 1);
    let before = status(&pod, Some(&state(Stage::Finished, "", "B")), None);
    pod.status = Some(before.clone());
    assert_eq!(status(&pod, None, None).phase.as_deref(), Some("Failed"));
    assert_eq!(status(&pod, None, None).container_statuses, before.container_statuses);
}

#[test]
fn restarts_and_the_end_before_are_reported_and_not_forgotten() {
    let mut crashing = state(Stage::Started, "", "C");
    crashing.containers[0].restarts = 4;
    let mut pod = pod("Always", 0, 1);
    let found = status(&pod, Some(&crashing), None);
    let main = &found.container_statuses.as_ref().unwrap()[0];
    let last = main.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((main.restart_count, last.exit_code, last.reason.as_deref()), (4, 1, Some("Error")));
    pod.status = Some(found);
    let after = status(&pod, None, None);
    assert_eq!(after.container_statuses.unwrap()[0].restart_count, 4);
}

#[test]
fn readiness_gates_hold_a_pod_back() {
    let mut pod = pod("Always", 0, 1);
    pod.spec.as_mut().unwrap().readiness_gates =
        Some(vec![serde_json::from_value(json!({"conditionType": "example.org/ok"})).unwrap()]);
    let running = state(Stage::Started, "", "R");
    let found = status(&pod, Some(&running), None);
    assert_eq!(short(&found, "ContainersReady").0, "True");
    assert_eq!(short(&found, "Ready"), ("False", "ReadinessGatesNotReady"));
    let gate =
        PodCondition { type_: "example.org/ok".into(), status: "True".into(), ..PodCondition::default() };
    pod.status = Some(PodStatus { conditions: Some(vec![gate]), ..PodStatus::default() });
    let found = status(&pod, Some(&running), None);
    assert_eq!(short(&found, "Ready").0, "True");
    assert_eq!(short(&found, "example.org/ok").0, "True", "others' conditions are kept");
}

#[test]
fn the_quality_of_service_follows_requests_and_limits() {
    let both = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    let cases = [
        (json!({}), "BestEffort"),
        (json!({"limits": {"ephemeral-storage": "1Gi"}}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (json!({"limits": {"memory": "1Gi"}}), "Burstable"),
        (json!({"limits": both("1", "1Gi")}), "Guaranteed"),
        (json!({"limits": both("1", "1Gi"), "requests": both("1000m", "1024Mi")}), "Guaranteed"),
        (json!({"limits": both("1", "1Gi"), "requests": both("500m", "1Gi")}), "Burstable"),
        (json!({"limits": both("0", "0")}), "BestEffort"),
    ];
    for (resources, wanted) in cases {
        let mut pod = pod("Always", 0, 1);
        let resources_typed = serde_json::from_value(resources.clone()).unwrap();
        pod.spec.as_mut().unwrap().containers[0].resources = Some(resources_typed);
        assert_eq!(qos_class(&pod), wanted, "{resources}");
    }
}

#[test]
fn a_lost_pod_that_something_keeps_from_coming_back_waits_for_it() {
    let pod = pod("Always", 0, 1);
    let others = Problem::Pod { reason: "WaitingForOthers".into(), message: "db".into() };
    let lost = state(Stage::Lost, "", "R");
    let waiting = |status: &PodStatus| {
        let state = status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
        state.waiting.and_then(|waiting| waiting.reason)
    };
    assert_eq!(waiting(&status(&pod, Some(&lost), Some(&others))).as_deref(), Some("WaitingForOthers"));
    assert_eq!(waiting(&status(&pod, Some(&lost), None)), None);
    let running = state(Stage::Started, "", "R");
    assert_eq!(waiting(&status(&pod, Some(&running), Some(&others))), None);
}
