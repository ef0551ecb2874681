//! Readiness and life by a container's own word, and starts that are counted.

use super::*;
use crate::supervisor::news::News;
use manifests::habits::{Habits, StartLimit};

fn one(wanted: Habits) -> PodMachine {
    let mut plan = plan(RestartPolicy::Always, &[], &["web"]);
    plan.containers[0].habits.wanted = wanted;
    machine(&plan)
}

fn says(news: News) -> Input {
    Input::Notified { index: 0, news }
}

fn notify() -> Habits {
    Habits { notify: true, ..Habits::default() }
}

fn seconds(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count))
}

#[test]
fn it_is_ready_when_it_says_so() {
    let mut machine = one(notify());
    machine.step(start(), at(0));
    machine.step(started(0), at(1));
    assert!(!machine.container(0).started && !machine.container(0).ready);
    let ready = News { ready: true, text: Some("Up".into()), ..News::default() };
    machine.step(says(ready), at(2));
    assert!(machine.container(0).started && machine.container(0).ready);
    assert_eq!(machine.container(0).status_text, "Up");
    machine.step(says(News { stopping: true, ..News::default() }), at(3));
    assert!(!machine.container(0).ready);
    machine.step(exit(0, 0), at(4));
    assert_eq!(machine.container(0).status_text, "");
    machine.step(started(0), at(5));
    assert!(!machine.container(0).ready, "the next run has not said anything yet");
}

#[test]
fn a_word_that_comes_before_the_start_is_known_counts() {
    let mut machine = one(notify());
    machine.step(start(), at(0));
    machine.step(says(News { ready: true, ..News::default() }), at(1));
    assert!(!machine.container(0).ready);
    machine.step(started(0), at(1));
    assert!(machine.container(0).ready);
}

#[test]
fn a_start_that_takes_too_long_is_ended_unless_it_asks_for_more_time() {
    let mut machine = one(Habits { start_timeout: seconds(5), ..notify() });
    machine.step(start(), at(0));
    machine.step(started(0), at(1));
    assert_eq!(machine.wake_at(), seconds(5));
    machine.step(says(News { extend: seconds(10), ..News::default() }), at(3));
    assert_eq!(machine.wake_at(), seconds(13));
    assert!(machine.step(Input::Tick, at(12)).is_empty());
    assert_eq!(machine.step(Input::Tick, at(13)), [Effect::Terminate { index: 0 }]);
    machine.step(exit(0, 143), at(14));
    assert_eq!(machine.container(0).last.as_ref().expect("ended").reason, "StartTimeout");
}

#[test]
fn a_watchdog_waits_for_signs_of_life_from_readiness_on() {
    let mut machine = one(Habits { watchdog: seconds(2), ..notify() });
    machine.step(start(), at(0));
    machine.step(started(0), at(1));
    assert_eq!(machine.wake_at(), None);
    machine.step(says(News { ready: true, ..News::default() }), at(10));
    assert_eq!(machine.wake_at(), seconds(12));
    machine.step(says(News { alive: true, ..News::default() }), at(11));
    assert_eq!(machine.wake_at(), seconds(13));
    machine.step(says(News { watchdog: seconds(5), ..News::default() }), at(12));
    assert_eq!(machine.wake_at(), seconds(17));
    assert_eq!(machine.step(Input::Tick, at(17)), [Effect::Abort { index: 0 }]);
    assert!(!machine.container(0).ready);
    // It has the pod's grace to leave its picture.
    assert_eq!(machine.wake_at(), seconds(47));
    assert_eq!(machine.step(Input::Tick, at(47)), [Effect::KillContainer { index: 0 }]);
    let effects = machine.step(exit(0, 134), at(48));
    assert_eq!(effects, [Effect::Run { index: 0 }]);
    assert_eq!(machine.container(0).last.as_ref().expect("ended").reason, "Watchdog");
    assert_eq!(machine.state().notices[0].reason, "Watchdog");
}

#[test]
fn a_container_can_say_that_it_is_stuck() {
    let mut machine = one(Habits { watchdog: seconds(60), ..Habits::default() });
    machine.step(start(), at(0));
    machine.step(started(0), at(1));
    let effects = machine.step(says(News { stuck: true, ..News::default() }), at(2));
    assert_eq!(effects, [Effect::Abort { index: 0 }]);
}

#[test]
fn a_chatterer_is_told_on_once_a_second() {
    let mut machine = one(Habits::default());
    machine.step(start(), at(0));
    machine.step(started(0), at(1));
    let said = |text: &str| says(News { text: Some(text.into()), ..News::default() });
    machine.step(said("one"), at(5));
    machine.step(said("two"), at(5));
    machine.step(said("three"), at(5));
    assert_eq!((machine.container(0).status_text.as_str(), machine.wake_at()), ("one", seconds(6)));
    machine.step(Input::Tick, at(6));
    assert_eq!((machine.container(0).status_text.as_str(), machine.wake_at()), ("three", None));
}

#[test]
fn what_is_started_too_often_stays_failed() {
    let limit = StartLimit { burst: 3, interval: Duration::from_secs(60) };
    let delays = manifests::habits::Delays { first: seconds(1), factor: Some(1000), most: None };
    let mut machine = one(Habits { start_limit: Some(limit), delays, ..Habits::default() });
    assert_eq!(machine.step(start(), at(0)), [Effect::Run { index: 0 }]);
    for round in 0..2 {
        machine.step(started(0), at(round * 2));
        assert!(machine.step(exit(0, 1), at(round * 2)).is_empty());
        assert_eq!(machine.step(Input::Tick, at(round * 2 + 1)), [Effect::Run { index: 0 }]);
    }
    machine.step(started(0), at(5));
    assert!(machine.step(exit(0, 1), at(5)).is_empty());
    let ContainerState::Waiting { reason, message, retry_at } = &machine.container(0).state else {
        panic!("{:?}", machine.state());
    };
    assert_eq!((reason.as_str(), retry_at), ("StartLimitHit", &None));
    assert!(message.contains("3 times within 60s"), "{message}");
    assert_eq!(machine.wake_at(), None);
    assert!(machine.step(Input::Tick, at(10_000)).is_empty(), "not ever");
    let effects = machine.step(Input::Stop { grace: Duration::from_secs(1) }, at(10_001));
    assert_eq!(effects, [Effect::Kill, Effect::Finish]);
    assert_eq!(ended(&machine.container(0).state).expect("ended").exit_code, 1);
}

#[test]
fn starts_that_are_long_ago_do_not_count() {
    let limit = StartLimit { burst: 2, interval: Duration::from_secs(10) };
    let mut machine = one(Habits { start_limit: Some(limit), ..Habits::default() });
    machine.step(start(), at(0));
    for round in 1..5 {
        machine.step(started(0), at(round * 1000));
        assert_eq!(machine.step(exit(0, 1), at(round * 1000 + 20)), [Effect::Run { index: 0 }], "{round}");
    }
}
