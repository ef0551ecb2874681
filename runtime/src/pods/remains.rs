//! What is left of pods: found when the agent starts, removed with the pod.

use super::connection::{self, Connection};
use super::{OpenError, Pod, RuntimeOptions, Shared};
use crate::plan::{PodPlan, TIERS};
use crate::state::{PodState, Stage};
use crate::supervisor::{PLAN_FILE, read_status, socket_path};
use crate::systemd::{pod_of_scope, slice_path};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Every pod of this node is known; what belongs to none is removed.
pub(super) async fn find(shared: &Arc<Shared>) -> Result<(), OpenError> {
    let folder = shared.options.state_dir.join("pods");
    // All at once: one that hangs holds up no other.
    let mut asked = JoinSet::new();
    for uid in names(&folder)? {
        let socket = socket_path(&shared.options.run_dir, &uid);
        asked.spawn(async move { (Connection::open(&socket).await, uid) });
    }
    while let Some(answer) = asked.join_next().await {
        let Ok((opened, uid)) = answer else { continue };
        match opened {
            Ok(connection) => {
                connection::serve(shared, connection, None);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                tracing::warn!(uid, "a pod's supervisor hangs, and is ended");
            }
            Err(_) => {}
        }
        let group = group(&shared.options, &uid);
        match read_status(&folder.join(&uid)) {
            Some(mut state) => {
                if state.stage != Stage::Finished {
                    shared.cgroups.kill(&group);
                    state.stage = Stage::Lost;
                }
                shared.pods().insert(uid, Pod { state: Arc::new(state), link: None });
            }
            // Its supervisor never began.
            None => report(&uid, &remove_all(shared, &uid, None)),
        }
    }
    sweep(shared);
    Ok(())
}

/// Sockets and cgroups whose pods have no folder are gone.
fn sweep(shared: &Shared) {
    let known = |uid: &str| shared.pods().contains_key(uid);
    for name in names(&shared.options.run_dir.join("pods")).unwrap_or_default() {
        if name.strip_suffix(".sock").is_some_and(|uid| !known(uid)) {
            let _ = fs::remove_file(shared.options.run_dir.join("pods").join(name));
        }
    }
    let root = &shared.options.cgroup_root;
    for folder in TIERS.iter().map(|tier| format!("{root}/{tier}")).chain([root.clone()]) {
        for name in shared.cgroups.children(&folder) {
            if let Some(uid) = name.strip_prefix("pod").filter(|uid| !known(uid)) {
                let group = format!("{folder}/{name}");
                shared.cgroups.kill(&group);
                let group = shared.cgroups.remove(&group).err().map(|error| chain(&error));
                report(uid, &group.into_iter().chain(remove_all(shared, uid, None)).collect::<Vec<_>>());
            }
        }
    }
    if shared.cgroups.is_v2() {
        sweep_scopes(shared, &slice_path(&shared.options.cgroup_root));
    }
}

/// The same for groups that systemd made, in this slice and those in it. The scope ends with
/// its last process.
fn sweep_scopes(shared: &Shared, slice: &str) {
    for name in shared.cgroups.children(slice) {
        let group = format!("{slice}/{name}");
        if name.ends_with(".slice") {
            sweep_scopes(shared, &group);
        } else if let Some(uid) = pod_of_scope(&shared.options.cgroup_root, &name)
            && !shared.pods().contains_key(uid)
        {
            shared.cgroups.kill(&group);
            report(uid, &remove_all(shared, uid, None));
        }
    }
}

/// The group of a pod that nobody has told of yet: its plan says which.
pub(super) fn group(options: &RuntimeOptions, uid: &str) -> String {
    plan(options, uid).map_or_else(|| options.pod_cgroup(uid), |plan| plan.cgroup)
}

/// What the pod's supervisor was started with, if that is still there.
pub(super) fn plan(options: &RuntimeOptions, uid: &str) -> Option<PodPlan> {
    serde_json::from_slice(&fs::read(options.pod_folder(uid).join(PLAN_FILE)).ok()?).ok()
}

fn report(uid: &str, errors: &[String]) {
    if !errors.is_empty() {
        tracing::warn!(uid, errors = errors.join("; "), "remains of a pod stay");
    }
}

fn names(folder: &Path) -> Result<Vec<String>, OpenError> {
    let fail = |source| OpenError::Folder { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(fail)?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Nothing of the pod is left; goes on after errors, and returns them.
pub(super) fn remove_all(shared: &Shared, uid: &str, state: Option<&PodState>) -> Vec<String> {
    let mut errors = Vec::new();
    let group = shared.group(uid);
    if !shared.cgroups.children(&group).is_empty() || !shared.cgroups.processes(&group).is_empty() {
        shared.cgroups.kill(&group);
    }
    if let Err(error) = shared.cgroups.remove(&group) {
        errors.push(chain(&error));
    }
    let folder = shared.options.pod_folder(uid);
    let state = state.cloned().or_else(|| read_status(&folder));
    let mut paths = vec![socket_path(&shared.options.run_dir, uid)];
    if let Some(state) = state {
        paths.push(shared.options.pod_logs(&state.namespace, &state.name, uid));
    }
    // Last: as long as it is there, a restart finds the rest again.
    paths.push(folder);
    for path in paths {
        if let Err(error) = remove_path(&path) {
            errors.push(format!("{}: {error}", path.display()));
        }
    }
    errors
}

fn remove_path(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
