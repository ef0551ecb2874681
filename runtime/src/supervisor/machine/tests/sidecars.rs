//! Init containers that stay.

use super::*;

/// A sidecar `s`, an init container `i` and a container `a`.
fn with_sidecar(policy: RestartPolicy) -> PodPlan {
    let mut plan = plan(policy, &["s", "i"], &["a"]);
    plan.init_containers[0].sidecar = true;
    plan
}

#[test]
fn a_sidecar_begins_first_and_ends_last() {
    let mut machine = machine(&with_sidecar(RestartPolicy::Never));
    assert_eq!(machine.step(start(), at(0)), [run(0)]);
    assert_eq!(machine.step(started(0), at(1)), [run(1)]);
    assert_eq!(machine.step(exit(1, 0), at(2)), [run(2)]);
    machine.step(started(2), at(3));
    // It is started again whatever the policy is, and nobody waits for that.
    assert_eq!(machine.step(exit(0, 1), at(4)), [run(0)]);
    machine.step(started(0), at(5));
    assert_eq!(machine.step(exit(2, 0), at(6)), [TERMINATE]);
    assert_eq!(machine.state().stage, Stage::Stopping);
    assert_eq!(machine.step(exit(0, 143), at(7)), OVER);
    assert_eq!(last_reason(&machine, 2), "Completed");
}

#[test]
fn a_sidecar_outlives_those_it_serves_when_the_pod_is_stopped() {
    let mut machine = machine(&with_sidecar(RestartPolicy::Always));
    machine.step(start(), at(0));
    machine.step(started(0), at(1));
    machine.step(exit(1, 0), at(2));
    machine.step(started(2), at(3));
    assert_eq!(machine.step(stop(30), at(4)), [Effect::Terminate { index: 2 }]);
    assert_eq!(machine.step(exit(2, 143), at(5)), [TERMINATE]);
    assert_eq!(machine.step(exit(0, 143), at(6)), OVER);
}

#[test]
fn a_sidecar_with_a_startup_probe_is_waited_for() {
    let mut plan = with_sidecar(RestartPolicy::Always);
    plan.init_containers[0].probes.startup = Some(probe(3, None));
    let mut machine = machine(&plan);
    machine.step(start(), at(0));
    let begun = Effect::Probe { index: 0, kind: ProbeKind::Startup };
    assert_eq!(machine.step(started(0), at(1)), [begun]);
    assert_eq!(machine.step(probed(0, ProbeKind::Startup, true), at(2)), [run(1)]);
}
