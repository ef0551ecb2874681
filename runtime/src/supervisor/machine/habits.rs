//! What a container has taken over from systemd's services: it says itself when it is ready and
//! that it lives, and may be started only so often.

use super::{Effect, Now, PodMachine, waiting_for};
use crate::state::{ContainerState, Stage};
use crate::supervisor::news::News;
use manifests::habits::{Habits, StartLimit};
use std::collections::VecDeque;
use std::time::Duration;

/// A status is told on at most this often: each goes to the disk and to the agent.
const TEXT_PERIOD: Duration = Duration::from_secs(1);

/// The reason of a container that has been started too often.
pub(super) const START_LIMIT: &str = "StartLimitHit";

/// The habits of one container, and how far it is with them.
#[derive(Debug, Clone, Default)]
pub(super) struct HabitState {
    notify: bool,
    start_timeout: Option<Duration>,
    limit: Option<StartLimit>,
    /// Between two signs of life; as the container itself has changed it.
    watchdog: Option<Duration>,
    wanted_watchdog: Option<Duration>,
    said_ready: bool,
    /// All is done that comes before its word.
    waits: bool,
    ready_by: Option<Duration>,
    alive_by: Option<Duration>,
    /// Why it is being ended.
    why: Option<&'static str>,
    /// The latest starts.
    starts: VecDeque<Duration>,
    /// It will not be started again.
    is_over: bool,
    /// Said, and not told on yet.
    text: Option<String>,
    text_at: Duration,
}

impl HabitState {
    pub(super) fn new(wanted: &Habits) -> Self {
        Self {
            notify: wanted.notify,
            start_timeout: wanted.start_timeout,
            limit: wanted.start_limit,
            wanted_watchdog: wanted.watchdog,
            ..Self::default()
        }
    }

    /// A run begins.
    pub(super) fn begin(&mut self, now: Duration) {
        (self.said_ready, self.waits, self.why, self.text) = (false, false, None, None);
        (self.watchdog, self.alive_by) = (self.wanted_watchdog, None);
        self.ready_by = self.start_timeout.filter(|_| self.notify).map(|timeout| now + timeout);
        if let Some(limit) = self.limit {
            self.starts.push_back(now);
            while self.starts.len() > usize::try_from(limit.burst).unwrap_or(usize::MAX) {
                self.starts.pop_front();
            }
        }
    }

    /// Its start and hook are done: true unless it has yet to say that it is ready.
    pub(super) fn is_let_on(&mut self, now: Duration) -> bool {
        self.waits = self.notify && !self.said_ready;
        if !self.waits {
            self.ready_by = None;
            self.alive_by = self.watchdog.map(|period| now + period);
        }
        !self.waits
    }

    /// It is being ended: nothing more is asked of it.
    pub(super) fn leave(&mut self) {
        (self.ready_by, self.alive_by, self.waits) = (None, None, false);
    }

    /// Why it was ended, if its own habits were the cause.
    pub(super) fn take_cause(&mut self) -> Option<&'static str> {
        self.leave();
        self.why.take()
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        let text = self.text.as_ref().map(|_| self.text_at);
        [self.ready_by, self.alive_by, text].into_iter().flatten().min()
    }

    /// True if a start at `at` would be one too many.
    fn is_too_often(&self, at: Duration) -> Option<StartLimit> {
        let limit = self.limit?;
        let counted = self.starts.iter().filter(|start| at.saturating_sub(**start) < limit.interval).count();
        (counted >= usize::try_from(limit.burst).unwrap_or(usize::MAX)).then_some(limit)
    }

    fn take(&mut self, news: &News, now: Duration) {
        self.said_ready |= news.ready;
        self.watchdog = news.watchdog.or(self.watchdog);
        if self.alive_by.is_some() && (news.alive || news.watchdog.is_some()) {
            self.alive_by = self.watchdog.map(|period| now + period);
        }
        if news.stuck && self.alive_by.is_some() {
            self.alive_by = Some(now);
        }
        if let Some(more) = news.extend {
            // Only ever later, as systemd has it.
            self.ready_by = self.ready_by.map(|at| at.max(now + more));
        }
        if news.text.is_some() {
            self.text.clone_from(&news.text);
        }
    }
}

impl PodMachine {
    pub(super) fn notified(&mut self, index: usize, news: &News, now: Now) -> Vec<Effect> {
        if self.slots[index].busy {
            self.slots[index].habits.take(news, now.mono);
            if self.slots[index].habits.waits && self.slots[index].habits.said_ready {
                self.begin_probes(index, now);
            }
            if news.stopping {
                self.slots[index].habits.leave();
                self.slots[index].probes = super::Probes::default();
                self.container_mut(index).ready = false;
            }
        }
        self.advance(now)
    }

    /// What containers have said too long ago, or not at all.
    pub(super) fn habits_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for index in 0..self.slots.len() {
            let habits = &mut self.slots[index].habits;
            let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now.mono);
            let (late, dead) = (is_due(habits.ready_by), is_due(habits.alive_by));
            if let Some(text) = habits.text.take_if(|_| habits.text_at <= now.mono) {
                habits.text_at = now.mono + TEXT_PERIOD;
                self.container_mut(index).status_text = text;
            }
            let name = &self.container(index).name;
            if late {
                let message = format!("Container {name} did not say READY=1 in time, will be restarted");
                self.fail(index, ("StartTimeout", message), now);
                self.end(index, Some(now.mono + self.grace), effects);
            } else if dead {
                let message = format!("Container {name} gave no sign of life in time, will be restarted");
                self.fail(index, ("Watchdog", message), now);
                self.abort(index, now.mono + self.grace, effects);
            }
        }
    }

    fn fail(&mut self, index: usize, (reason, message): (&'static str, String), now: Now) {
        self.notice(true, reason, message, now);
        self.slots[index].habits.leave();
        self.slots[index].habits.why = Some(reason);
        self.container_mut(index).ready = false;
    }

    /// What a container that would run again at `at` is instead, if that were too often.
    pub(super) fn over_limit(&mut self, index: usize, at: Duration, now: Now) -> Option<ContainerState> {
        let limit = self.slots[index].habits.is_too_often(at)?;
        self.slots[index].habits.is_over = true;
        let name = &self.container(index).name;
        let message = format!(
            "container {name} was started {} times within {:?}: it stays as it is until the next revision",
            limit.burst, limit.interval
        );
        self.notice(true, START_LIMIT, message.clone(), now);
        Some(waiting_for(START_LIMIT, message))
    }

    /// False for containers that nothing is asked of while the pod is not running.
    pub(super) fn habits_wake_at(&self) -> Option<Duration> {
        let is_started = self.state.stage == Stage::Started;
        is_started.then(|| self.slots.iter().filter_map(|slot| slot.habits.wake_at()).min()).flatten()
    }
}
