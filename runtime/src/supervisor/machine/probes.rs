//! When a container is probed, and what the answers come to. Pure.

use crate::plan::{ProbePlan, ProbePlans};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    /// As in the kubelet's events.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What an answer changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet, or nothing new.
    Same,
    /// The startup probe went well.
    Started,
    /// The readiness probe says so.
    Ready(bool),
    /// The container is to be killed, in so many seconds if the probe says how many.
    Kill(Option<u32>),
}

#[derive(Debug, Clone)]
struct Probe {
    plan: ProbePlan,
    /// When it is due; `None` while it runs, or before it begins.
    next_at: Option<Duration>,
    began_at: Duration,
    well: u32,
    failed: u32,
}

impl Probe {
    fn new(plan: &ProbePlan) -> Self {
        Self { plan: plan.clone(), next_at: None, began_at: Duration::ZERO, well: 0, failed: 0 }
    }

    fn begin(&mut self, container_began: Duration, now: Duration) {
        let delay = Duration::from_secs(u64::from(self.plan.initial_delay));
        self.next_at = Some(now.max(container_began + delay));
    }

    /// True when a threshold is reached; which one, the counters say.
    fn count(&mut self, well: bool, now: Duration) -> bool {
        let period = Duration::from_secs(u64::from(self.plan.period));
        self.next_at = Some(now.max(self.began_at + period));
        if well {
            (self.well, self.failed) = (self.well.saturating_add(1), 0);
            self.well >= self.plan.success
        } else {
            (self.well, self.failed) = (0, self.failed.saturating_add(1));
            self.failed >= self.plan.failure
        }
    }
}

/// The probes of one run of a container.
#[derive(Debug, Clone, Default)]
pub(super) struct Probes {
    startup: Option<Probe>,
    readiness: Option<Probe>,
    liveness: Option<Probe>,
    container_began: Duration,
}

impl Probes {
    /// The probes of a container that began at `now`.
    pub(super) fn begin(plans: &ProbePlans, now: Duration) -> Self {
        let new = |plan: &Option<ProbePlan>| plan.as_ref().map(Probe::new);
        let mut probes = Self {
            startup: new(&plans.startup),
            readiness: new(&plans.readiness),
            liveness: new(&plans.liveness),
            container_began: now,
        };
        match &mut probes.startup {
            Some(startup) => startup.begin(now, now),
            None => probes.begin_others(now),
        }
        probes
    }

    /// True if nothing has to go well before the container counts as started.
    pub(super) fn is_started(&self) -> bool {
        self.startup.is_none()
    }

    /// True if nothing has to go well before a started container counts as ready.
    pub(super) fn is_ready(&self) -> bool {
        self.readiness.is_none()
    }

    fn begin_others(&mut self, now: Duration) {
        let began = self.container_began;
        for probe in [&mut self.readiness, &mut self.liveness].into_iter().flatten() {
            probe.begin(began, now);
        }
    }

    fn all(&mut self) -> [(ProbeKind, &mut Option<Probe>); 3] {
        [
            (ProbeKind::Startup, &mut self.startup),
            (ProbeKind::Readiness, &mut self.readiness),
            (ProbeKind::Liveness, &mut self.liveness),
        ]
    }

    /// When the next one is due.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let all = [&self.startup, &self.readiness, &self.liveness];
        all.into_iter().flatten().filter_map(|probe| probe.next_at).min()
    }

    /// Those that are due at `now`; they count as running from then on.
    pub(super) fn due(&mut self, now: Duration) -> Vec<ProbeKind> {
        let mut due = Vec::new();
        for (kind, probe) in self.all() {
            if let Some(probe) = probe
                && probe.next_at.is_some_and(|at| at <= now)
            {
                (probe.next_at, probe.began_at) = (None, now);
                due.push(kind);
            }
        }
        due
    }

    /// Takes an answer into account.
    pub(super) fn answered(&mut self, kind: ProbeKind, well: bool, now: Duration) -> Verdict {
        let found = self.all().into_iter().find(|(one, _)| *one == kind);
        let Some(probe) = found.and_then(|(_, probe)| probe.as_mut()) else { return Verdict::Same };
        let reached = probe.count(well, now);
        let grace = probe.plan.grace;
        match (kind, well, reached) {
            (_, _, false) => Verdict::Same,
            (ProbeKind::Startup, true, true) => {
                self.startup = None;
                self.begin_others(now);
                Verdict::Started
            }
            (ProbeKind::Readiness, well, true) => Verdict::Ready(well),
            (ProbeKind::Liveness, true, true) => Verdict::Same,
            (ProbeKind::Startup | ProbeKind::Liveness, false, true) => {
                // One word is enough.
                *self = Self::default();
                Verdict::Kill(grace)
            }
        }
    }

    /// Nothing more is probed but whether the container is ready.
    pub(super) fn leave_readiness(&mut self) {
        (self.startup, self.liveness) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;

    fn plan(initial_delay: u32, period: u32, success: u32, failure: u32) -> ProbePlan {
        let action = Action::Exec(Vec::new());
        ProbePlan { action, initial_delay, period, timeout: 1, success, failure, grace: Some(7) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn readiness_comes_and_goes_by_its_thresholds() {
        let plans = ProbePlans { readiness: Some(plan(5, 10, 2, 3)), ..ProbePlans::default() };
        let mut probes = Probes::begin(&plans, at(100));
        assert!(probes.is_started() && !probes.is_ready());
        assert_eq!(probes.wake_at(), Some(at(105)));
        assert!(probes.due(at(104)).is_empty());
        assert_eq!(probes.due(at(105)), [ProbeKind::Readiness]);
        assert_eq!(probes.wake_at(), None);
        assert_eq!(probes.answered(ProbeKind::Readiness, true, at(106)), Verdict::Same);
        assert_eq!(probes.wake_at(), Some(at(115)));
        probes.due(at(115));
        assert_eq!(probes.answered(ProbeKind::Readiness, true, at(115)), Verdict::Ready(true));
        for _ in 0..2 {
            assert_eq!(probes.answered(ProbeKind::Readiness, false, at(130)), Verdict::Same);
        }
        assert_eq!(probes.answered(ProbeKind::Readiness, false, at(140)), Verdict::Ready(false));
    }

    #[test]
    fn the_others_wait_for_the_startup_probe() {
        let plans = ProbePlans {
            startup: Some(plan(0, 1, 1, 30)),
            liveness: Some(plan(3, 10, 1, 1)),
            readiness: None,
        };
        let mut probes = Probes::begin(&plans, at(0));
        assert_eq!(probes.due(at(0)), [ProbeKind::Startup]);
        assert_eq!(probes.answered(ProbeKind::Startup, false, at(1)), Verdict::Same);
        assert_eq!(probes.due(at(1)), [ProbeKind::Startup]);
        assert_eq!(probes.answered(ProbeKind::Startup, true, at(2)), Verdict::Started);
        // Its delay counts from the container's start.
        assert_eq!(probes.wake_at(), Some(at(3)));
        assert_eq!(probes.due(at(3)), [ProbeKind::Liveness]);
        assert_eq!(probes.answered(ProbeKind::Liveness, false, at(4)), Verdict::Kill(Some(7)));
        assert_eq!(probes.wake_at(), None);
    }

    #[test]
    fn a_late_answer_does_not_make_probes_pile_up() {
        let plans = ProbePlans { liveness: Some(plan(0, 1, 1, 3)), ..ProbePlans::default() };
        let mut probes = Probes::begin(&plans, at(0));
        probes.due(at(0));
        probes.answered(ProbeKind::Liveness, true, at(9));
        assert_eq!(probes.wake_at(), Some(at(9)));
    }
}
