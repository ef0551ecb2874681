//! Probes, and hooks after the start and before the end.

use super::*;

const PRE_STOP: Effect = Effect::Hook { index: 0, hook: HookKind::PreStop };

#[test]
fn without_probes_a_container_is_ready_when_it_runs_and_not_when_it_has_ended() {
    let mut machine = machine(&plan(RestartPolicy::Always, &[], &["a"]));
    machine.step(start(), at(0));
    assert!(!machine.container(0).ready);
    machine.step(started(0), at(1));
    assert!(machine.container(0).ready && machine.container(0).started);
    machine.step(exit(0, 1), at(2));
    assert!(!machine.container(0).ready && !machine.container(0).started);
}

#[test]
fn a_failed_liveness_probe_ends_the_container_within_its_grace_and_it_runs_again() {
    let mut plan = plan(RestartPolicy::Always, &[], &["a"]);
    plan.containers[0].probes.liveness = Some(probe(2, Some(5)));
    let mut machine = machine(&plan);
    machine.step(start(), at(0));
    let liveness = Effect::Probe { index: 0, kind: ProbeKind::Liveness };
    assert_eq!(machine.step(started(0), at(1)), std::slice::from_ref(&liveness));
    assert!(machine.step(probed(0, ProbeKind::Liveness, false), at(1)).is_empty());
    assert_eq!(machine.wake_at(), Some(Duration::from_secs(11)));
    assert_eq!(machine.step(Input::Tick, at(11)), [liveness]);
    assert_eq!(machine.step(probed(0, ProbeKind::Liveness, false), at(12)), [TERMINATE]);
    assert_eq!(machine.wake_at(), Some(Duration::from_secs(17)));
    assert_eq!(machine.step(Input::Tick, at(17)), [Effect::KillContainer { index: 0 }]);
    assert_eq!(machine.step(exit(0, 137), at(17)), [run(0)]);
    let told: Vec<_> = machine.state().notices.iter().map(|notice| notice.message.clone()).collect();
    let killing = "Container a failed liveness probe, will be restarted";
    assert_eq!(told, ["Liveness probe failed: no", "Liveness probe failed: no", killing]);
}

#[test]
fn readiness_counts_only_after_the_startup_probe() {
    let mut plan = plan(RestartPolicy::Always, &[], &["a"]);
    plan.containers[0].probes.startup = Some(probe(3, None));
    plan.containers[0].probes.readiness = Some(probe(1, None));
    let mut machine = machine(&plan);
    machine.step(start(), at(0));
    let begun = |kind| [Effect::Probe { index: 0, kind }];
    assert_eq!(machine.step(started(0), at(1)), begun(ProbeKind::Startup));
    assert_eq!(machine.step(probed(0, ProbeKind::Startup, true), at(2)), begun(ProbeKind::Readiness));
    assert!(machine.container(0).started && !machine.container(0).ready);
    machine.step(probed(0, ProbeKind::Readiness, true), at(3));
    assert!(machine.container(0).ready);
    machine.step(Input::Tick, at(12));
    machine.step(probed(0, ProbeKind::Readiness, false), at(13));
    assert!(machine.container(0).started && !machine.container(0).ready);
}

#[test]
fn hooks_come_after_the_start_and_before_the_end() {
    let mut plan = plan(RestartPolicy::Always, &[], &["a"]);
    let action = Action::Sleep(1);
    plan.containers[0].hooks = HookPlans { post_start: Some(action.clone()), pre_stop: Some(action) };
    let mut machine = machine(&plan);
    machine.step(start(), at(0));
    assert_eq!(machine.step(started(0), at(1)), [Effect::Hook { index: 0, hook: HookKind::PostStart }]);
    assert!(!machine.container(0).ready);
    assert!(machine.step(hooked(0, HookKind::PostStart, true), at(2)).is_empty());
    assert!(machine.container(0).ready);
    assert_eq!(machine.step(stop(30), at(10)), [PRE_STOP]);
    assert_eq!(machine.step(hooked(0, HookKind::PreStop, true), at(11)), [TERMINATE]);
    assert_eq!(machine.step(Input::Tick, at(40)), [Effect::Kill]);
    assert_eq!(machine.step(exit(0, 137), at(40)), [Effect::Finish]);
}

#[test]
fn a_hook_that_takes_all_the_grace_leaves_two_seconds() {
    let mut plan = plan(RestartPolicy::Always, &[], &["a"]);
    plan.containers[0].hooks.pre_stop = Some(Action::Sleep(100));
    let mut machine = machine(&plan);
    machine.step(start(), at(0));
    machine.step(started(0), at(1));
    assert_eq!(machine.step(stop(5), at(10)), [PRE_STOP]);
    assert_eq!(machine.step(Input::Tick, at(15)), [Effect::CancelHooks { index: 0 }, TERMINATE]);
    assert_eq!(machine.wake_at(), Some(Duration::from_secs(17)));
    assert_eq!(machine.step(Input::Tick, at(17)), [Effect::Kill]);
}

#[test]
fn a_failed_post_start_hook_ends_the_container() {
    let mut plan = plan(RestartPolicy::Always, &[], &["a"]);
    plan.containers[0].hooks.post_start = Some(Action::Sleep(1));
    let mut machine = machine(&plan);
    machine.step(start(), at(0));
    machine.step(started(0), at(1));
    assert_eq!(machine.step(hooked(0, HookKind::PostStart, false), at(2)), [TERMINATE]);
    assert_eq!(machine.state().notices[0].reason, "FailedPostStartHook");
    assert_eq!(machine.step(exit(0, 143), at(3)), [run(0)]);
}
