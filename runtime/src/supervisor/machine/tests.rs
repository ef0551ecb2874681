use super::*;
use crate::plan::{
    Action, ContainerPlan, HabitPlan, HookPlans, LogPlace, ProbePlan, ProbePlans, Resources, Rootfs,
};

fn container(name: &str) -> ContainerPlan {
    ContainerPlan {
        name: name.into(),
        image: "i".into(),
        image_id: "i".into(),
        rootfs: Rootfs::Layers(Vec::new()),
        spec: oci_spec::runtime::Spec::default(),
        resources: Resources::default(),
        probes: ProbePlans::default(),
        hooks: HookPlans::default(),
        sidecar: false,
        restart: None,
        restart_rules: Vec::new(),
        stop_signal: None,
        message_path: "/dev/termination-log".into(),
        message_from_log: false,
        stdin: false,
        stdin_once: false,
        log: LogPlace::Own,
        ties: Vec::new(),
        image_volumes: Vec::new(),
        processes_of: None,
        ephemeral: false,
        habits: HabitPlan::default(),
        security: crate::plan::ContainerSecurity::default(),
        file_variables: crate::plan::FileVariables::default(),
    }
}

fn plan(policy: RestartPolicy, inits: &[&str], containers: &[&str]) -> PodPlan {
    PodPlan {
        uid: "u".into(),
        namespace: "ns".into(),
        name: "p".into(),
        hostname: "p".into(),
        host_network: false,
        host_ipc: false,
        host_pid: false,
        restart_policy: policy,
        grace_seconds: 30,
        active_deadline_seconds: None,
        cgroup: "c".into(),
        resources: Resources::default(),
        log_dir: "/l".into(),
        log_limits: Default::default(),
        state_dir: "/s".into(),
        memory_volumes: Vec::new(),
        shared_mounts: Vec::new(),
        image_volumes: Vec::new(),
        init_containers: inits.iter().map(|name| container(name)).collect(),
        security: crate::plan::PodSecurity::default(),
        containers: containers.iter().map(|name| container(name)).collect(),
        by_request: false,
    }
}

fn at(seconds: u64) -> Now {
    let wall = Timestamp::from_second(i64::try_from(seconds).expect("small")).expect("a time");
    Now { wall, mono: Duration::from_secs(seconds) }
}

fn machine(plan: &PodPlan) -> PodMachine {
    PodMachine::new(plan, None, 1, at(0))
}

fn start() -> Input {
    Input::Start { addresses: vec!["10.0.0.1".into()] }
}

fn exit(index: usize, exit_code: i32) -> Input {
    let outcome = Outcome { exit_code, signal: None, oom: false, failure: None, message: String::new() };
    Input::Ended { index, outcome }
}

fn stop(seconds: u64) -> Input {
    Input::Stop { grace: Duration::from_secs(seconds) }
}

const fn run(index: usize) -> Effect {
    Effect::Run { index }
}

const OVER: [Effect; 2] = [Effect::Kill, Effect::Finish];

fn last_reason(machine: &PodMachine, index: usize) -> String {
    ended(&machine.container(index).state).expect("ended").reason.clone()
}

#[test]
fn nothing_runs_before_the_start_and_a_second_start_changes_nothing() {
    let mut machine = machine(&plan(RestartPolicy::Always, &[], &["a", "b"]));
    assert!(machine.step(Input::Tick, at(1)).is_empty());
    assert_eq!(machine.step(start(), at(2)), [run(0), run(1)]);
    assert!(machine.step(start(), at(3)).is_empty());
}

#[test]
fn init_containers_run_one_by_one_and_again_until_they_succeed() {
    let mut machine = machine(&plan(RestartPolicy::Always, &["i", "j"], &["a"]));
    assert_eq!(machine.first(), [0]);
    assert_eq!(machine.step(start(), at(0)), [run(0)]);
    assert_eq!(machine.step(exit(0, 1), at(1)), [run(0)]);
    assert_eq!(machine.step(exit(0, 0), at(2)), [run(1)]);
    assert_eq!(machine.step(exit(1, 0), at(3)), [run(2)]);
}

#[test]
fn what_is_added_runs_beside_an_init_container_and_holds_no_end_up() {
    let mut machine = machine(&plan(RestartPolicy::Never, &["i"], &["a"]));
    machine.step(start(), at(0));
    let added = machine.add(&container("d"));
    assert!(machine.step(Input::Tick, at(1)).is_empty());
    assert_eq!(machine.step(Input::StartOne { index: added }, at(1)), [run(added)]);
    assert_eq!(machine.step(exit(0, 0), at(2)), [run(1)]);
    assert_eq!(machine.step(exit(1, 0), at(3)), [Effect::KillContainer { index: added }]);
    assert_eq!(machine.step(exit(added, 137), at(4)), OVER);
}

#[test]
fn a_failed_init_container_that_may_not_run_again_ends_the_pod() {
    let mut machine = machine(&plan(RestartPolicy::Never, &["i"], &["a"]));
    machine.step(start(), at(0));
    assert_eq!(machine.step(exit(0, 1), at(1)), OVER);
    assert!(matches!(machine.state().containers[0].state, ContainerState::Waiting { .. }));
}

#[test]
fn a_crash_runs_again_at_once_and_then_backs_off() {
    let mut machine = machine(&plan(RestartPolicy::Always, &[], &["a"]));
    machine.step(start(), at(0));
    assert_eq!(machine.step(exit(0, 1), at(1)), [run(0)]);
    assert!(machine.step(exit(0, 1), at(2)).is_empty());
    assert_eq!(machine.wake_at(), Some(Duration::from_secs(12)));
    let state = &machine.state().containers[0];
    let ContainerState::Waiting { reason, message, retry_at } = &state.state else { panic!("{state:?}") };
    assert_eq!(reason, "CrashLoopBackOff");
    assert_eq!(message, "back-off 10s restarting failed container=a pod=p_ns(u)");
    assert_eq!(*retry_at, Some(at(12).wall));
    assert!(machine.step(Input::Tick, at(11)).is_empty());
    assert_eq!(machine.step(Input::Tick, at(12)), [run(0)]);
    assert_eq!(machine.state().containers[0].restarts, 2);
    assert_eq!(machine.state().containers[0].container_id, "u.a.2");
}

#[test]
fn success_is_final_but_with_always() {
    for (policy, code, again) in [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::OnFailure, 0, false),
        (RestartPolicy::OnFailure, 1, true),
        (RestartPolicy::Never, 1, false),
    ] {
        let mut machine = machine(&plan(policy, &[], &["a"]));
        machine.step(start(), at(0));
        let effects = machine.step(exit(0, code), at(1));
        assert_eq!(effects == [run(0)], again, "{policy:?} {code}");
        assert_eq!(effects == OVER, !again, "{policy:?} {code}");
    }
}

#[test]
fn a_pod_is_over_when_its_last_container_is() {
    let mut machine = machine(&plan(RestartPolicy::Never, &[], &["a", "b"]));
    machine.step(start(), at(0));
    assert!(machine.step(exit(0, 1), at(1)).is_empty());
    assert_eq!(machine.step(exit(1, 0), at(2)), OVER);
    assert_eq!((last_reason(&machine, 0), last_reason(&machine, 1)), ("Error".into(), "Completed".into()));
}

#[test]
fn the_kernels_kill_for_memory_is_named_unless_the_program_survived_it() {
    for (exit_code, reason) in [(137, "OOMKilled"), (1, "OOMKilled"), (0, "Completed")] {
        let mut machine = machine(&plan(RestartPolicy::Never, &[], &["a"]));
        machine.step(start(), at(0));
        let outcome = Outcome { exit_code, signal: None, oom: true, failure: None, message: String::new() };
        machine.step(Input::Ended { index: 0, outcome }, at(1));
        assert_eq!(last_reason(&machine, 0), reason);
    }
}

#[test]
fn stopping_asks_then_kills_when_the_grace_is_over() {
    let mut machine = machine(&plan(RestartPolicy::Always, &[], &["a", "b"]));
    machine.step(start(), at(0));
    assert_eq!(
        machine.step(stop(30), at(1)),
        [Effect::Terminate { index: 0 }, Effect::Terminate { index: 1 }]
    );
    assert!(machine.step(exit(0, 0), at(2)).is_empty(), "nothing runs again");
    assert_eq!(machine.wake_at(), Some(Duration::from_secs(31)));
    assert!(machine.step(stop(60), at(3)).is_empty(), "a later word never lengthens");
    assert_eq!(machine.wake_at(), Some(Duration::from_secs(31)));
    assert_eq!(machine.step(stop(0), at(4)), [Effect::Kill]);
    assert_eq!(machine.step(exit(1, 137), at(5)), [Effect::Finish]);
    assert!(machine.step(stop(0), at(6)).is_empty());
}

#[test]
fn stopping_when_nothing_runs_ends_at_once() {
    let mut created = machine(&plan(RestartPolicy::Always, &[], &["a"]));
    assert_eq!(created.step(stop(30), at(1)), OVER);
    let mut waiting = machine(&plan(RestartPolicy::Always, &[], &["a"]));
    waiting.step(start(), at(0));
    waiting.step(exit(0, 1), at(1));
    waiting.step(exit(0, 1), at(2));
    assert_eq!(waiting.step(stop(30), at(3)), OVER);
    assert_eq!(last_reason(&waiting, 0), "Error");
}

#[test]
fn a_passed_deadline_ends_the_pod_and_is_named() {
    let mut plan = plan(RestartPolicy::Always, &[], &["a"]);
    plan.active_deadline_seconds = Some(100);
    let mut machine = machine(&plan);
    machine.step(start(), at(10));
    machine.step(Input::Started { index: 0, pid: 7 }, at(11));
    assert_eq!(machine.wake_at(), Some(Duration::from_secs(110)));
    assert_eq!(machine.step(Input::Tick, at(110)), [Effect::Terminate { index: 0 }]);
    assert_eq!(machine.step(exit(0, 143), at(111)), OVER);
    assert_eq!(last_reason(&machine, 0), "DeadlineExceeded");
}

#[test]
fn a_new_supervisor_goes_on_counting_and_keeps_final_results() {
    let plan = plan(RestartPolicy::OnFailure, &[], &["done", "failed", "ran"]);
    let mut before = machine(&plan);
    before.step(start(), at(0));
    for index in 0..3 {
        before.step(Input::Started { index, pid: 7 }, at(1));
    }
    before.step(exit(0, 0), at(2));
    before.step(exit(1, 1), at(2));
    before.step(exit(1, 1), at(3));
    let mut after = PodMachine::new(&plan, Some(before.state()), 2, at(0));
    assert_eq!(after.first(), [1, 2]);
    assert_eq!(after.step(start(), at(1)), [run(1), run(2)]);
    let restarts: Vec<u32> = after.state().containers.iter().map(|container| container.restarts).collect();
    assert_eq!(restarts, [0, 2, 1]);
    let last = after.state().containers[2].last.as_ref().expect("a result");
    assert_eq!((last.exit_code, last.reason.as_str()), (255, "Unknown"));
}

/// Whatever happens in whatever order, the machine never runs a container twice at once,
/// runs nothing after it was stopped, and a stopped pod whose containers have ended is over.
#[test]
fn every_short_story_ends_well() {
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never] {
        for story in 0..6_u32.pow(5) {
            tell(policy, story);
        }
    }
}

fn tell(policy: RestartPolicy, mut story: u32) {
    let mut machine = machine(&plan(policy, &["i"], &["a", "b"]));
    let mut busy = [false; 3];
    let (mut stopped, mut over) = (false, false);
    let mut now = 0;
    for _ in 0..5 {
        let input = match story % 6 {
            0 => start(),
            1 => stop(5),
            2 => Input::Tick,
            3 => ending(busy, 0),
            4 => ending(busy, 1),
            _ => exit(2, 0),
        };
        story /= 6;
        now += 400;
        if let Input::Ended { index, .. } = &input {
            if !busy[*index] {
                continue;
            }
            busy[*index] = false;
        }
        stopped |= matches!(input, Input::Stop { .. });
        for effect in machine.step(input, at(now)) {
            assert!(!over, "nothing comes after the end");
            if let Effect::Run { index } = effect {
                assert!(!busy[index] && !stopped);
                busy[index] = true;
            }
            over |= effect == Effect::Finish;
        }
        assert_eq!(over, machine.state().stage == Stage::Finished);
        assert!(!over || busy == [false; 3]);
        assert!(!stopped || over || busy.contains(&true));
    }
}

fn ending(busy: [bool; 3], exit_code: i32) -> Input {
    exit(busy.iter().position(|busy| *busy).unwrap_or(0), exit_code)
}

fn probe(failure: u32, grace: Option<u32>) -> ProbePlan {
    let action = Action::Exec(vec!["true".into()]);
    ProbePlan { action, initial_delay: 0, period: 10, timeout: 1, success: 1, failure, grace }
}

fn started(index: usize) -> Input {
    Input::Started { index, pid: 100 }
}

fn probed(index: usize, kind: ProbeKind, well: bool) -> Input {
    let result = if well { Ok(()) } else { Err("no".into()) };
    Input::Probed { index, kind, result }
}

fn hooked(index: usize, hook: HookKind, well: bool) -> Input {
    let result = if well { Ok(()) } else { Err("no".into()) };
    Input::Hooked { index, hook, result }
}

const TERMINATE: Effect = Effect::Terminate { index: 0 };

mod any_order;
mod habits;
mod probes;
mod sidecars;
