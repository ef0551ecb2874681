//! Whatever happens in whatever order.

use super::*;
use proptest::prelude::*;

fn policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)]
}

proptest! {
    /// Whatever happens, no container has two runs at once, every effect is about a
    /// container that it makes sense for, and a stopped pod comes to its end.
    #[test]
    fn runs_are_never_doubled_and_a_stop_ends(
        policy in policy(),
        hooks in any::<bool>(),
        events in prop::collection::vec((0..4_usize, 0..7_u8, 0..2_i32, 0..20_u64), 0..60),
    ) {
        let mut plan = plan(policy, &["s", "i"], &["a", "b"]);
        plan.init_containers[0].sidecar = true;
        plan.containers[0].probes.liveness = Some(probe(1, None));
        if hooks {
            plan.containers[0].hooks.pre_stop = Some(Action::Sleep(1));
            plan.init_containers[0].hooks.post_start = Some(Action::Sleep(1));
        }
        let mut machine = machine(&plan);
        let mut clock = 0;
        let mut running = [false; 4];
        let step = |machine: &mut PodMachine, running: &mut [bool; 4], input: Input, clock: u64| {
            if let Input::Ended { index, .. } = &input {
                running[*index] = false;
            }
            for effect in machine.step(input, at(clock)) {
                match effect {
                    Effect::Run { index } => {
                        assert!(!running[index], "{index} runs already");
                        running[index] = true;
                    }
                    Effect::Terminate { index }
                    | Effect::KillContainer { index }
                    | Effect::Abort { index } => {
                        assert!(running[index], "{index} does not run");
                    }
                    Effect::Hook { .. } | Effect::CancelHooks { .. } | Effect::Probe { .. } => {}
                    Effect::Kill | Effect::Finish => {}
                }
            }
        };
        step(&mut machine, &mut running, start(), clock);
        for (index, what, code, later) in events {
            clock += later;
            let input = match what {
                0 | 1 if running[index] => started(index),
                2 | 3 if running[index] => exit(index, code),
                4 => probed(index, ProbeKind::Liveness, code == 0),
                5 => hooked(index, HookKind::PreStop, true),
                6 => hooked(index, HookKind::PostStart, code == 0),
                _ => Input::Tick,
            };
            step(&mut machine, &mut running, input, clock);
        }
        step(&mut machine, &mut running, stop(1), clock);
        for _ in 0..8 {
            clock += 10;
            step(&mut machine, &mut running, Input::Tick, clock);
            for index in 0..4 {
                if running[index] {
                    step(&mut machine, &mut running, exit(index, 137), clock);
                }
            }
        }
        prop_assert_eq!(machine.state().stage, Stage::Finished);
    }
}
