//! `status.json`: what a pod's next supervisor, or an agent without one, has to know.

use crate::state::PodState;
use std::fs;
use std::io;
use std::path::Path;

/// The file's name in the pod's folder.
const STATUS_FILE: &str = "status.json";

/// The last state written in a pod's folder; `None` if there is none that can be read.
pub(crate) fn read_status(folder: &Path) -> Option<PodState> {
    serde_json::from_slice(&fs::read(folder.join(STATUS_FILE)).ok()?).ok()
}

/// The file is either the old one or the whole new one.
pub(super) fn write_status(folder: &Path, state: &PodState) -> io::Result<()> {
    let new = folder.join("status.json.new");
    fs::write(&new, serde_json::to_vec(state)?)?;
    fs::rename(new, folder.join(STATUS_FILE))
}
