//! What can be given back of the disk without ending a pod.

use super::Runtime;
use crate::state::{PodState, Stage};
use std::fs;
use std::path::Path;

impl Runtime {
    /// Logs of runs that are over, and writable layers of pods that are, are gone. The log of each
    /// container's newest run stays. Blocks.
    pub fn reclaim(&self) {
        // What clients of the CRI asked for is theirs to remove.
        for (uid, state) in self.observe().into_iter().filter(|(_, state)| !state.by_request) {
            let options = &self.shared.options;
            old_logs(&options.pod_logs(&state.namespace, &state.name, &uid), &state);
            if state.stage == Stage::Finished {
                // Gone or not: the next look sees how much is free.
                let _ = fs::remove_dir_all(options.pod_folder(&uid).join("layers"));
            }
        }
    }
}

fn old_logs(folder: &Path, state: &PodState) {
    for container in state.init_containers.iter().chain(&state.containers) {
        let Ok(files) = fs::read_dir(folder.join(&container.name)) else { continue };
        for file in files.flatten() {
            let name = file.file_name();
            let run = name.to_str().and_then(|name| name.split('.').next()?.parse::<u32>().ok());
            if run.is_some_and(|run| run < container.restarts) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}
