//! When a CronJob starts what, in sentences.

use super::runs::{Due, latest_due};
use crate::controllers::world::{Habits, World};
use jiff::{SignedDuration, Timestamp};
use manifests::cron::Schedule;
use manifests::{Kind, ObjectKey};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn cron_job(spec: &Value) -> Value {
    let mut whole = json!({
        "schedule": "*/5 * * * *", "concurrencyPolicy": "Allow",
        "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1,
        "jobTemplate": {
            "metadata": {"labels": {"app": "tick"}, "annotations": {"team": "blue"}},
            "spec": {
                "parallelism": 1, "completions": 1, "backoffLimit": 0,
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]}}
            }
        }
    });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    json!({"metadata": {"name": "tick"}, "spec": whole})
}

fn world(seed: u64, serve: bool) -> World {
    let mut world = World::new(seed);
    world.habits = Habits { serve, fail_percent: 0 };
    world
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn jobs(world: &World) -> Vec<String> {
    world.state.list(Kind::Job, None).map(|object| object.name().to_owned()).collect()
}

fn unfinished(world: &World) -> usize {
    let ended = |job: &Value| {
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Complete" || condition["type"] == "Failed")
    };
    world.state.list(Kind::Job, None).filter(|object| !ended(&object.to_json().unwrap())).count()
}

fn name_at(time: &str) -> String {
    format!("tick-{}", at(time).as_second() / 60)
}

#[test]
fn a_job_is_made_at_its_minute_and_named_by_it() {
    let mut world = world(1, false);
    let key = world.put(Kind::CronJob, cron_job(&json!({})));
    world.run_for(299);
    assert!(jobs(&world).is_empty());
    world.run_for(1);
    world.assert_silent();
    assert_eq!(jobs(&world), [name_at("2026-01-01T00:05:00Z")]);
    let job = world.json(&ObjectKey::new(Kind::Job, "default", name_at("2026-01-01T00:05:00Z")));
    let annotations = &job["metadata"]["annotations"];
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], json!("2026-01-01T00:05:00Z"));
    assert_eq!((&annotations["team"], &job["metadata"]["labels"]["app"]), (&json!("blue"), &json!("tick")));
    let status = &world.json(&key)["status"];
    assert_eq!(status["lastScheduleTime"], json!("2026-01-01T00:05:00Z"));
    assert_eq!(status["lastSuccessfulTime"], json!("2026-01-01T00:05:00Z"));
    assert_eq!(status.get("active"), None);
}

#[test]
fn only_the_latest_jobs_are_kept() {
    let mut world = world(1, false);
    world.put(Kind::CronJob, cron_job(&json!({})));
    world.run_for(3600);
    let kept = ["2026-01-01T00:50:00Z", "2026-01-01T00:55:00Z", "2026-01-01T01:00:00Z"];
    assert_eq!(jobs(&world), kept.map(name_at));
    assert_eq!(world.pods().len(), 3, "the pods of the others went with them");
}

#[test]
fn policies_differ_in_what_becomes_of_a_run_that_is_not_done() {
    for (policy, expected) in [("Allow", 4), ("Forbid", 1), ("Replace", 1)] {
        let mut world = world(1, true);
        let key = world.put(Kind::CronJob, cron_job(&json!({"concurrencyPolicy": policy})));
        world.run_for(1200);
        world.assert_silent_but_notes();
        assert_eq!(jobs(&world).len(), expected, "{policy}");
        let active = world.json(&key)["status"]["active"].as_array().unwrap().len();
        assert_eq!(active, expected, "{policy}");
        let first = name_at("2026-01-01T00:05:00Z");
        assert_eq!(jobs(&world)[0] == first, policy != "Replace", "{policy}");
    }
}

#[test]
fn of_many_missed_runs_only_the_latest_is_made_up_for() {
    let mut world = world(1, false);
    let key = world.put(Kind::CronJob, cron_job(&json!({})));
    world.now += SignedDuration::from_secs(7 * 3600 + 120);
    world.reconcile(&key);
    assert_eq!(jobs(&world), [name_at("2026-01-01T07:00:00Z")]);
    assert!(!world.notes.contains(&"TooManyMissedTimes".to_owned()));
    world.rest();
    world.now += SignedDuration::from_hours(24 * 400);
    world.reconcile(&key);
    assert!(world.notes.contains(&"TooManyMissedTimes".to_owned()));
    assert_eq!(jobs(&world).len(), 2);
}

#[test]
fn a_run_is_not_started_after_its_deadline() {
    for (late, started) in [(60, 1), (61, 0)] {
        let mut world = world(1, false);
        let key = world.put(Kind::CronJob, cron_job(&json!({"startingDeadlineSeconds": 60})));
        world.now = at("2026-01-01T00:05:00Z") + SignedDuration::from_secs(late);
        world.reconcile(&key);
        assert_eq!(jobs(&world).len(), started, "{late} s late");
        assert_eq!(world.notes.contains(&"MissSchedule".to_owned()), started == 0);
        world.run_until(at("2026-01-01T00:10:00Z"));
        assert!(jobs(&world).contains(&name_at("2026-01-01T00:10:00Z")));
    }
}

#[test]
fn a_suspended_cron_job_starts_nothing() {
    let mut world = world(1, false);
    world.put(Kind::CronJob, cron_job(&json!({"suspend": true})));
    world.run_for(3600);
    world.assert_silent();
    assert!(jobs(&world).is_empty());
}

#[test]
fn a_schedule_follows_its_time_zone() {
    let mut world = world(1, false);
    world.put(Kind::CronJob, cron_job(&json!({"schedule": "30 9 * * *", "timeZone": "Asia/Kolkata"})));
    world.run_for(24 * 3600);
    assert_eq!(jobs(&world), [name_at("2026-01-01T04:00:00Z")]);
}

#[test]
fn a_schedule_that_is_none_is_told() {
    let mut world = world(1, false);
    let key = world.put(Kind::CronJob, cron_job(&json!({"schedule": "at noon"})));
    world.reconcile(&key);
    assert_eq!(world.notes, ["UnparseableSchedule"]);
    let key = world.put(Kind::CronJob, cron_job(&json!({"timeZone": "Mars/Olympus"})));
    world.reconcile(&key);
    assert_eq!(world.notes, ["UnparseableSchedule", "UnknownTimeZone"]);
}

#[test]
fn with_forbid_two_never_run_at_once_and_no_minute_has_two_jobs() {
    for seed in 0..20 {
        let mut world = world(seed, false);
        world.habits.fail_percent = 20;
        let spec = json!({
            "schedule": "* * * * *", "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 100, "failedJobsHistoryLimit": 100
        });
        world.put(Kind::CronJob, cron_job(&spec));
        let mut old = world.state.clone();
        for step in 0..300 {
            if step % 9 == 0 {
                old = world.state.clone();
            }
            world.step(&old);
            assert!(unfinished(&world) <= 1, "{} run; seed {seed}, step {step}", unfinished(&world));
        }
        world.run_for(300);
        let scheduled: BTreeSet<_> = world
            .state
            .list(Kind::Job, None)
            .map(|job| job.annotation("batch.kubernetes.io/cronjob-scheduled-timestamp").map(str::to_owned))
            .collect();
        let all = jobs(&world).len();
        assert!(all > 4 && scheduled.len() == all, "seed {seed}: {all} jobs at {scheduled:?}");
    }
}

#[test]
fn the_latest_due_run_is_found_however_long_ago_the_last_one_was() {
    let schedules = ["* * * * *", "*/7 * * * *", "0 3 * * *", "15 10 * * 1", "0 0 29 2 *"];
    for text in schedules {
        let schedule = Schedule::parse(text, None).unwrap();
        let start = at("2020-01-01T00:00:30Z");
        for minutes in [1, 59, 60 * 5, 60 * 24 * 9, 60 * 24 * 400, 60 * 24 * 365 * 6] {
            let now = start + SignedDuration::from_mins(minutes);
            let found = latest_due(&schedule, start, now);
            let Some(Due { at, missed_too_many }) = found else {
                assert!(schedule.next_after(start).is_none_or(|next| next > now), "{text}, {minutes} min");
                continue;
            };
            assert!(start < at && at <= now, "{text}, {minutes} min: {at}");
            assert!(
                schedule.next_after(at).is_none_or(|next| next > now),
                "{text}, {minutes} min: not the latest"
            );
            assert_eq!(missed_too_many, counts(&schedule, start, now) > 100, "{text}, {minutes} min");
        }
    }
}

fn counts(schedule: &Schedule, start: Timestamp, now: Timestamp) -> usize {
    let next = |after: &Timestamp| schedule.next_after(*after).filter(|at| *at <= now);
    std::iter::successors(schedule.next_after(start), next).take(102).count()
}
