//! Other limits for a container that runs.

use super::machine::Input;
use super::protocol::Reply;
use super::shell::Shell;
use crate::cgroup::CgroupError;
use crate::plan::Resources;

impl Shell {
    /// The container and its pod have these limits, in the kernel and for every later run.
    pub(super) fn resize(&mut self, name: &str, limits: Resources, pod: Resources, restart: bool) -> Reply {
        let Some(index) = (0..self.runs.len()).find(|index| self.container(*index).name == name) else {
            return Reply::Error { message: format!("there is no container {name:?}") };
        };
        if let Err(error) = self.limit(index, &limits, &pod) {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            return Reply::Error { message: format!("{error}{cause}") };
        }
        self.plan_mut(index).resources = limits.clone();
        self.step(Input::Resized { index, limits, restart });
        Reply::Done
    }

    /// A pod that shrinks has to be the last, and one that grows the first: a part cannot have
    /// more than the whole.
    fn limit(&self, index: usize, limits: &Resources, pod: &Resources) -> Result<(), CgroupError> {
        let launch = self.launch(index);
        let whole = || self.cgroups.limit(&launch.pod.cgroup, pod);
        let before = whole();
        self.cgroups.limit(&launch.group(), limits)?;
        if before.is_err() { whole() } else { Ok(()) }
    }
}
