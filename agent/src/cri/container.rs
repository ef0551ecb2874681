//! Containers: created, started, stopped, removed, listed, changed.

use super::book::{Container, Sandbox};
use super::sandbox::{internal, new_id};
use super::{Cri, filter, pod, spec, state, v1};
use jiff::Timestamp;
use runtime::image::Image;
use runtime::plan::{ContainerPlan, Devices, ImageVolume, address, image_key};
use runtime::pods::{AddError, PodError};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// How long after its grace a container may take to end.
const END_PATIENCE: Duration = Duration::from_secs(60);

fn refused(error: &PodError) -> Status {
    match error {
        PodError::NotRunning { .. } | PodError::Ended => {
            Status::failed_precondition("the pod sandbox is not ready")
        }
        PodError::Refused { message } => Status::failed_precondition(message.clone()),
    }
}

impl Cri {
    pub(super) async fn create_container(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Result<String, Status> {
        let sandbox = self.book.sandbox(&request.pod_sandbox_id)?;
        let mut config =
            request.config.ok_or_else(|| Status::invalid_argument("the configuration is missing"))?;
        if config.metadata.as_ref().is_none_or(|metadata| metadata.name.is_empty()) {
            return Err(Status::invalid_argument("the container's metadata.name is missing"));
        }
        let wanted = config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
        let (image, image_ref) = self.image_for(&wanted).await?;
        let id = new_id()?;
        let image_id = image.id.clone();
        let mut images = BTreeMap::from([(id.clone(), image)]);
        self.mounted_images(&id, &mut config, &mut images).await?;
        let plan = self.container_plan(&id, &sandbox, &config, &images)?;
        make_missing_folders(&config).await?;
        let log_path = spec::log_path(&sandbox.config, &config);
        let container = Container {
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            created_at: state::nanoseconds(Timestamp::now()),
            image_id,
            image_ref,
            log_path: log_path.map(|path| path.display().to_string()).unwrap_or_default(),
            resources: config.linux.as_ref().and_then(|linux| linux.resources.clone()),
            config,
        };
        self.add(&sandbox, container, &plan).await?;
        self.events.container_created(self, &id);
        Ok(id)
    }

    /// The images that are mounted as volumes are among `images`, and `config` says which they are.
    async fn mounted_images(
        &self,
        id: &str,
        config: &mut v1::ContainerConfig,
        images: &mut BTreeMap<String, Image>,
    ) -> Result<(), Status> {
        for (index, mount) in config.mounts.iter_mut().enumerate() {
            let Some(wanted) = spec::mounted_image(mount).map(str::to_owned) else { continue };
            let (image, _) = self.image_for(&wanted).await?;
            if let Some(shown) = &mut mount.image {
                shown.image_ref.clone_from(&image.id);
            }
            images.insert(image_key(&spec::volume_name(id, index)), image);
        }
        Ok(())
    }

    async fn add(&self, sandbox: &Sandbox, container: Container, plan: &ContainerPlan) -> Result<(), Status> {
        let added = self.node.runtime.add_container(&sandbox.id, plan).await;
        added.map_err(|error| match error {
            AddError::Pod(error) => refused(&error),
            AddError::Seccomp(_) | AddError::AppArmor(_) => {
                Status::invalid_argument(crate::chain::chain(&error))
            }
            AddError::WritePlan { .. } => internal(&error),
        })?;
        let id = container.id.clone();
        if let Err(error) = self.book.put_container(container) {
            // Without a record nobody could remove it later.
            let _ = self.node.runtime.remove_container(&sandbox.id, &id).await;
            return Err(internal(&error));
        }
        Ok(())
    }

    fn container_plan(
        &self,
        id: &str,
        sandbox: &Sandbox,
        config: &v1::ContainerConfig,
        images: &BTreeMap<String, Image>,
    ) -> Result<ContainerPlan, Status> {
        let mut pod = pod::pod(&sandbox.id, &sandbox.config)?;
        let (container, volumes) = spec::container(id, config)?;
        if let Some(spec) = &mut pod.spec {
            spec.containers = vec![container];
            spec.volumes = Some(volumes);
        }
        let mut plan = self.plan(&pod, &sandbox.config, images)?;
        let mut container =
            plan.containers.pop().ok_or_else(|| Status::internal("the plan has no container"))?;
        container.image_volumes = image_volumes(plan.image_volumes, id, config);
        let folder = self.node.runtime.pod_folder(&sandbox.id);
        let pids = self.node.facts.default_pids;
        spec::complete(&mut container, config, &sandbox.config, &folder, pids)?;
        address::fill_in(&mut container.spec, &sandbox.addresses);
        Ok(container)
    }

    /// The container's program runs, or has run.
    pub(super) async fn start_container(&self, id: &str) -> Result<(), Status> {
        let container = self.book.container(id)?;
        let runtime = &self.node.runtime;
        let mut changes = runtime.changes();
        let started = runtime.start_container(&container.sandbox, &container.id).await;
        started.map_err(|error| refused(&error))?;
        loop {
            changes.borrow_and_update();
            let pod = self.seen(&container.sandbox);
            let seen = state::container_state(pod.as_ref(), &container.id);
            match seen.state {
                v1::ContainerState::ContainerRunning => return Ok(()),
                v1::ContainerState::ContainerExited
                    if matches!(seen.reason.as_str(), "StartError" | "ContainerCannotRun") =>
                {
                    return Err(Status::unknown(seen.message));
                }
                v1::ContainerState::ContainerExited => return Ok(()),
                v1::ContainerState::ContainerCreated | v1::ContainerState::ContainerUnknown => {}
            }
            if state::sandbox_state(pod.as_ref()) != v1::PodSandboxState::SandboxReady {
                return Err(Status::failed_precondition("the pod sandbox is not ready"));
            }
            changes.changed().await.map_err(|error| internal(&error))?;
        }
    }

    /// The container does not run any more. One that is not known does not either.
    pub(super) async fn stop_container(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let Some(container) = self.book.find_container(id) else { return Ok(()) };
        let grace = u32::try_from(timeout.max(0)).unwrap_or(u32::MAX);
        self.end(&container, grace).await
    }

    async fn end(&self, container: &Container, grace_seconds: u32) -> Result<(), Status> {
        let runtime = &self.node.runtime;
        let mut changes = runtime.changes();
        let runs = || {
            let pod = self.seen(&container.sandbox);
            let state = state::container_state(pod.as_ref(), &container.id).state;
            state == v1::ContainerState::ContainerRunning
        };
        if !runs() {
            return Ok(());
        }
        match runtime.stop_container(&container.sandbox, &container.id, grace_seconds).await {
            // It ended by itself, and its pod with it.
            Ok(()) | Err(PodError::NotRunning { .. } | PodError::Ended) => {}
            Err(error) => return Err(refused(&error)),
        }
        let ended = async {
            while runs() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let patience = Duration::from_secs(u64::from(grace_seconds)) + END_PATIENCE;
        let waited = tokio::time::timeout(patience, ended).await;
        waited.map_err(|_| Status::deadline_exceeded("the container's processes do not end"))
    }

    /// Nothing is left of the container but its log. One that is not known is gone.
    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Status> {
        let Some(container) = self.book.find_container(id) else { return Ok(()) };
        self.end(&container, 0).await?;
        let removed = self.node.runtime.remove_container(&container.sandbox, &container.id).await;
        removed.map_err(|error| refused(&error))?;
        self.book.remove_container(&container);
        self.events.container_removed(self, &container);
        Ok(())
    }

    pub(super) fn container_status(
        &self,
        request: &v1::ContainerStatusRequest,
    ) -> Result<v1::ContainerStatusResponse, Status> {
        let container = self.book.container(&request.container_id)?;
        let pod = self.seen(&container.sandbox);
        let info = request.verbose.then(|| {
            let pid = state::container_state(pod.as_ref(), &container.id).pid;
            let text = serde_json::json!({
                "sandboxID": container.sandbox,
                "pid": pid.unwrap_or(0),
                "cgroup": pod.as_ref().map(|pod| format!("{}/{}", pod.cgroup, container.id)),
            });
            HashMap::from([("info".to_owned(), text.to_string())])
        });
        let status = Some(state::container_status(&container, pod.as_ref()));
        Ok(v1::ContainerStatusResponse { status, info: info.unwrap_or_default() })
    }

    pub(super) fn list_containers(&self, wanted: Option<&v1::ContainerFilter>) -> Vec<v1::Container> {
        let observed = self.node.runtime.observe();
        let wanted = wanted.cloned().unwrap_or_default();
        let fits = |item: &v1::Container| {
            filter::id_fits(&item.id, &wanted.id)
                && filter::id_fits(&item.pod_sandbox_id, &wanted.pod_sandbox_id)
                && wanted.state.as_ref().is_none_or(|state| state.state == item.state)
                && filter::labels_fit(&item.labels, &wanted.label_selector)
        };
        let all = self.book.containers();
        let mut items: Vec<_> = all
            .iter()
            .map(|container| state::container_item(container, observed.get(&container.sandbox)))
            .filter(fits)
            .collect();
        // The newest first.
        items.sort_by_key(|item| std::cmp::Reverse(item.created_at));
        items
    }

    /// The limits of the container are these from now on.
    pub(super) async fn update_resources(
        &self,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Result<(), Status> {
        let container = self.book.container(&request.container_id)?;
        let Some(linux) = request.linux else { return Ok(()) };
        // Which devices it may use stays.
        let limits = spec::resources(&linux, self.node.facts.default_pids, &Devices::All);
        let (runtime, known) = (self.node.runtime.clone(), Arc::clone(&container));
        let limited =
            tokio::task::spawn_blocking(move || runtime.limit_container(&known.sandbox, &known.id, &limits));
        limited.await.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
        let resources = merged(container.resources.clone().unwrap_or_default(), &linux);
        let container = Container { resources: Some(resources), ..(*container).clone() };
        self.book.put_container(container).map_err(|error| internal(&error))
    }

    pub(super) async fn reopen_log(&self, id: &str) -> Result<(), Status> {
        let container = self.book.container(id)?;
        let reopened = self.node.runtime.reopen_log(&container.sandbox, &container.id).await;
        reopened.map_err(|error| refused(&error))
    }
}

/// The volumes of the container, in the order of its mounts, with what of them it mounts.
fn image_volumes(volumes: Vec<ImageVolume>, id: &str, config: &v1::ContainerConfig) -> Vec<ImageVolume> {
    let sub_paths = |volume: &ImageVolume| {
        let mounts = config.mounts.iter().enumerate();
        let own = mounts.filter(|(index, _)| volume.path.ends_with(spec::volume_name(id, *index)));
        own.map(|(_, mount)| PathBuf::from(&mount.image_sub_path))
            .filter(|path| !path.as_os_str().is_empty())
            .collect()
    };
    let complete = |volume: ImageVolume| {
        let sub_paths = sub_paths(&volume);
        ImageVolume { executable: true, sub_paths, ..volume }
    };
    volumes.into_iter().map(complete).collect()
}

/// What is not said stays as it was.
fn merged(
    mut before: v1::LinuxContainerResources,
    now: &v1::LinuxContainerResources,
) -> v1::LinuxContainerResources {
    let pairs = [
        (&mut before.cpu_period, now.cpu_period),
        (&mut before.cpu_quota, now.cpu_quota),
        (&mut before.cpu_shares, now.cpu_shares),
        (&mut before.memory_limit_in_bytes, now.memory_limit_in_bytes),
        (&mut before.oom_score_adj, now.oom_score_adj),
        (&mut before.memory_swap_limit_in_bytes, now.memory_swap_limit_in_bytes),
    ];
    for (old, new) in pairs {
        if new != 0 {
            *old = new;
        }
    }
    before.unified.extend(now.unified.clone());
    before
}

/// What is to be mounted and does not exist becomes a folder, as every runtime has it.
async fn make_missing_folders(config: &v1::ContainerConfig) -> Result<(), Status> {
    for mount in config.mounts.iter().filter(|mount| !mount.host_path.is_empty()) {
        if tokio::fs::metadata(&mount.host_path).await.is_err() {
            tokio::fs::create_dir_all(&mount.host_path)
                .await
                .map_err(|error| Status::invalid_argument(format!("{}: {error}", mount.host_path)))?;
        }
    }
    Ok(())
}
