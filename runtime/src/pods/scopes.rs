//! Pods' groups where systemd makes them.

use crate::plan::PodPlan;
use crate::systemd::{Place, Scope, ScopeError, Systemd};
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// systemd, as long as it does what pods need.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    systemd: Mutex<Option<Systemd>>,
}

impl Scopes {
    pub(super) fn new(systemd: Option<Systemd>) -> Self {
        Self { systemd: Mutex::new(systemd) }
    }

    fn systemd(&self) -> Option<Systemd> {
        self.systemd.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether supervisors have to wait for their groups.
    pub(super) fn are_used(&self) -> bool {
        self.systemd().is_some()
    }

    /// The plan, with the group that the pod will really have.
    pub(super) fn placed<'a>(&self, root: &str, plan: &'a PodPlan) -> Cow<'a, PodPlan> {
        if !self.are_used() {
            return Cow::Borrowed(plan);
        }
        let cgroup = Place::of(root, &plan.cgroup).group;
        Cow::Owned(PodPlan { cgroup, ..plan.clone() })
    }

    /// True if the process is in the pod's scope, false if there is to be none. `group` is the one that the pod would have without.
    ///
    /// # Errors
    /// [`ScopeError`]; where systemd does not even listen, also after connecting anew.
    pub(super) async fn adopt(
        &self,
        root: &str,
        group: &str,
        plan: &PodPlan,
        pid: u32,
    ) -> Result<bool, ScopeError> {
        let Some(systemd) = self.systemd() else { return Ok(false) };
        let place = Place::of(root, group);
        let description = format!("Pod {}/{}", plan.namespace, plan.name);
        let scope = Scope {
            name: &place.scope,
            slice: &place.slice,
            description: &description,
            pid,
            limits: &plan.resources,
            grace: Duration::from_secs(u64::from(plan.grace_seconds)),
        };
        match systemd.start_scope(&scope).await {
            Err(error) if error.is_disconnection() => {
                let Ok(Some(again)) = Systemd::detect().await else { return Err(error) };
                *self.systemd.lock().unwrap_or_else(PoisonError::into_inner) = Some(again.clone());
                again.start_scope(&scope).await.map(|()| true)
            }
            result => result.map(|()| true),
        }
    }

    /// From now on groups are made without systemd; said once.
    pub(super) fn give_up(&self, error: &ScopeError) {
        let held = self.systemd.lock().unwrap_or_else(PoisonError::into_inner).take();
        if held.is_some() {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "systemd makes no scopes for pods: their cgroups are made without it"
            );
        }
    }
}
