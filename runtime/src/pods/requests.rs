//! Single containers of pods that are made by request.

use super::Runtime;
use super::creation::write_json;
use super::error::{AddError, PodError};
use crate::cgroup::{CgroupError, Counters};
use crate::plan::{ContainerPlan, Resources};
use crate::supervisor::protocol::Request;
use crate::supervisor::{CONTAINERS_FOLDER, container_plan_path, socket_path};
use std::path::PathBuf;
use std::sync::Arc;

impl Runtime {
    /// The pod has the container, which waits for its start. Repeating it is harmless.
    ///
    /// # Errors
    /// [`AddError`]; the container is then not there.
    pub async fn add_container(&self, uid: &str, plan: &ContainerPlan) -> Result<(), AddError> {
        let folder = self.pod_folder(uid);
        let path = container_plan_path(&folder, &plan.name);
        let mut plan = plan.clone();
        self.shared.options.seccomp().fill_in(&mut plan)?;
        self.shared.apparmor.fill_in(&mut plan).await?;
        write_json(&folder.join(CONTAINERS_FOLDER), &path, &plan)
            .map_err(|source| AddError::WritePlan { path: path.clone(), source })?;
        let asked = self.ask(uid, Request::AddContainer { container: plan.name.clone() }).await;
        if asked.is_err() {
            // Goes with the pod's folder at the latest.
            let _ = std::fs::remove_file(path);
        }
        Ok(asked?)
    }

    /// The container's program is being started; what comes of it is seen in [`Runtime::observe`].
    ///
    /// # Errors
    /// [`PodError`] if it was started before, or the pod has no supervisor.
    pub async fn start_container(&self, uid: &str, container: &str) -> Result<(), PodError> {
        self.ask(uid, Request::StartContainer { container: container.to_owned() }).await
    }

    /// The container was asked to end, within the grace.
    ///
    /// # Errors
    /// [`PodError`] if the pod does not have it, or no supervisor.
    pub async fn stop_container(
        &self,
        uid: &str,
        container: &str,
        grace_seconds: u32,
    ) -> Result<(), PodError> {
        self.ask(uid, Request::StopContainer { container: container.to_owned(), grace_seconds }).await
    }

    /// The pod does not have the container any more. Of a pod without a supervisor, its folder
    /// does not.
    ///
    /// # Errors
    /// [`PodError`] if it still runs.
    pub async fn remove_container(&self, uid: &str, container: &str) -> Result<(), PodError> {
        match self.ask(uid, Request::RemoveContainer { container: container.to_owned() }).await {
            Ok(()) | Err(PodError::NotRunning { .. } | PodError::Ended) => {}
            Err(error) => return Err(error),
        }
        let _ = std::fs::remove_file(container_plan_path(&self.pod_folder(uid), container));
        if let Some(pod) = self.shared.pods().get_mut(uid) {
            Arc::make_mut(&mut pod.state).containers.retain(|one| one.name != container);
        }
        self.shared.changed();
        Ok(())
    }

    /// What the container writes from now on is in a new log file.
    ///
    /// # Errors
    /// [`PodError`] if it does not run.
    pub async fn reopen_log(&self, uid: &str, container: &str) -> Result<(), PodError> {
        self.ask(uid, Request::ReopenLog { container: container.to_owned() }).await
    }

    /// The limits of a container that is there are these from now on; what is `None` stays.
    ///
    /// # Errors
    /// [`CgroupError`] if the kernel refuses one.
    pub fn limit_container(&self, uid: &str, container: &str, limits: &Resources) -> Result<(), CgroupError> {
        let group = format!("{}/{container}", self.shared.group(uid));
        self.shared.cgroups.limit(&group, limits)
    }

    /// What the controllers of a group count, by its name in [`crate::cgroup::GroupStats`].
    #[must_use]
    pub fn counters(&self, group: &str) -> Counters {
        self.shared.cgroups.counters(group)
    }

    /// The pod's folder.
    #[must_use]
    pub fn pod_folder(&self, uid: &str) -> PathBuf {
        self.shared.options.pod_folder(uid)
    }

    /// The socket of the pod's supervisor, for [`super::exec`] and its like.
    #[must_use]
    pub fn socket(&self, uid: &str) -> PathBuf {
        socket_path(&self.shared.options.run_dir, uid)
    }
}
