//! What clients said of their sandboxes and containers, in memory and on disk.

use super::v1;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use runtime::pods::Runtime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tonic::Status;

/// In a pod's folder.
const SANDBOX_FILE: &str = "cri-sandbox.json";
const CONTAINERS_FOLDER: &str = "cri-containers";

/// A sandbox that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sandbox {
    /// Also the pod's uid in the runtime.
    pub(super) id: String,
    pub(super) config: v1::PodSandboxConfig,
    pub(super) runtime_handler: String,
    /// Nanoseconds since 1970.
    pub(super) created_at: i64,
    /// Empty with the host's network.
    pub(super) addresses: Vec<String>,
}

/// A container that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Container {
    /// Also its name in the pod.
    pub(super) id: String,
    pub(super) sandbox: String,
    pub(super) config: v1::ContainerConfig,
    /// Nanoseconds since 1970.
    pub(super) created_at: i64,
    pub(super) image_id: String,
    /// A repository digest, or the id.
    pub(super) image_ref: String,
    /// Where its log is; empty for none.
    pub(super) log_path: String,
    /// As changed since.
    pub(super) resources: Option<v1::LinuxContainerResources>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SandboxFile {
    id: String,
    config: String,
    runtime_handler: String,
    created_at: i64,
    addresses: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerFile {
    id: String,
    sandbox: String,
    config: String,
    created_at: i64,
    image_id: String,
    image_ref: String,
    log_path: String,
    resources: Option<String>,
}

/// Every sandbox and container that was asked for and not removed.
#[derive(Debug)]
pub(super) struct Book {
    runtime: Runtime,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    sandboxes: BTreeMap<String, Arc<Sandbox>>,
    containers: BTreeMap<String, Arc<Container>>,
}

impl Book {
    /// Reads what an earlier agent wrote. What cannot be read is gone without.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub(super) fn open(runtime: &Runtime) -> io::Result<Self> {
        let mut entries = Entries::default();
        for (uid, _) in runtime.observe().into_iter().filter(|(_, state)| state.by_request) {
            let folder = runtime.pod_folder(&uid);
            let Some(sandbox) = read_sandbox(&folder.join(SANDBOX_FILE)) else { continue };
            entries.sandboxes.insert(uid, Arc::new(sandbox));
            let listed = match fs::read_dir(folder.join(CONTAINERS_FOLDER)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listed => listed?,
            };
            for entry in listed.flatten() {
                if let Some(container) = read_container(&entry.path()) {
                    entries.containers.insert(container.id.clone(), Arc::new(container));
                }
            }
        }
        Ok(Self { runtime: runtime.clone(), entries: Mutex::new(entries) })
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sandbox is known, and found again after a restart.
    pub(super) fn add_sandbox(&self, sandbox: Sandbox) -> io::Result<()> {
        let file = SandboxFile {
            id: sandbox.id.clone(),
            config: STANDARD.encode(sandbox.config.encode_to_vec()),
            runtime_handler: sandbox.runtime_handler.clone(),
            created_at: sandbox.created_at,
            addresses: sandbox.addresses.clone(),
        };
        write(&self.runtime.pod_folder(&sandbox.id).join(SANDBOX_FILE), &file)?;
        self.entries().sandboxes.insert(sandbox.id.clone(), Arc::new(sandbox));
        Ok(())
    }

    /// The container is known as it is now, and found again after a restart.
    pub(super) fn put_container(&self, container: Container) -> io::Result<()> {
        let resources = container.resources.as_ref();
        let file = ContainerFile {
            id: container.id.clone(),
            sandbox: container.sandbox.clone(),
            config: STANDARD.encode(container.config.encode_to_vec()),
            created_at: container.created_at,
            image_id: container.image_id.clone(),
            image_ref: container.image_ref.clone(),
            log_path: container.log_path.clone(),
            resources: resources.map(|resources| STANDARD.encode(resources.encode_to_vec())),
        };
        write(&self.container_path(&container.sandbox, &container.id), &file)?;
        self.entries().containers.insert(container.id.clone(), Arc::new(container));
        Ok(())
    }

    fn container_path(&self, sandbox: &str, id: &str) -> PathBuf {
        self.runtime.pod_folder(sandbox).join(CONTAINERS_FOLDER).join(format!("{id}.json"))
    }

    /// The sandbox and its containers are known no more; their files go with the pod's folder.
    pub(super) fn remove_sandbox(&self, id: &str) {
        let mut entries = self.entries();
        entries.sandboxes.remove(id);
        entries.containers.retain(|_, container| container.sandbox != id);
    }

    /// The container is known no more.
    pub(super) fn remove_container(&self, container: &Container) {
        // Left behind, it would be found again as a container that never ran.
        let _ = fs::remove_file(self.container_path(&container.sandbox, &container.id));
        self.entries().containers.remove(&container.id);
    }

    pub(super) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.entries().sandboxes.values().cloned().collect()
    }

    pub(super) fn containers(&self) -> Vec<Arc<Container>> {
        self.entries().containers.values().cloned().collect()
    }

    pub(super) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.containers().into_iter().filter(|container| container.sandbox == sandbox).collect()
    }

    /// The sandbox of that id, or of the only id that begins so.
    pub(super) fn find_sandbox(&self, id: &str) -> Option<Arc<Sandbox>> {
        find(&self.entries().sandboxes, id)
    }

    /// The container of that id, or of the only id that begins so.
    pub(super) fn find_container(&self, id: &str) -> Option<Arc<Container>> {
        find(&self.entries().containers, id)
    }

    /// Like [`Book::find_sandbox`].
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Status> {
        self.find_sandbox(id).ok_or_else(|| Status::not_found(format!("there is no pod sandbox {id:?}")))
    }

    /// Like [`Book::find_container`].
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) fn container(&self, id: &str) -> Result<Arc<Container>, Status> {
        self.find_container(id).ok_or_else(|| Status::not_found(format!("there is no container {id:?}")))
    }
}

fn find<T>(all: &BTreeMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = all.get(id) {
        return Some(Arc::clone(found));
    }
    if id.is_empty() {
        return None;
    }
    let mut fitting = all.range(id.to_owned()..).take_while(|(known, _)| known.starts_with(id));
    match (fitting.next(), fitting.next()) {
        (Some((_, one)), None) => Some(Arc::clone(one)),
        (Some(_) | None, _) => None,
    }
}

fn write(path: &Path, file: &impl Serialize) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("json.new");
    let mut opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut opened, &serde_json::to_vec(file)?)?;
    fs::rename(new, path)
}

fn decode<T: Message + Default>(text: &str) -> Option<T> {
    T::decode(STANDARD.decode(text).ok()?.as_slice()).ok()
}

fn read_sandbox(path: &Path) -> Option<Sandbox> {
    let file: SandboxFile = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let SandboxFile { id, config, runtime_handler, created_at, addresses } = file;
    Some(Sandbox { id, config: decode(&config)?, runtime_handler, created_at, addresses })
}

fn read_container(path: &Path) -> Option<Container> {
    let file: ContainerFile = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let ContainerFile { id, sandbox, config, created_at, image_id, image_ref, log_path, resources } = file;
    let resources = resources.and_then(|text| decode(&text));
    let config = decode(&config)?;
    Some(Container { id, sandbox, config, created_at, image_id, image_ref, log_path, resources })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_by_its_beginning_if_that_is_its_alone() {
        let all: BTreeMap<String, Arc<u8>> =
            [("abc1", 1), ("abc2", 2), ("b", 3)].map(|(id, value)| (id.to_owned(), Arc::new(value))).into();
        assert_eq!(find(&all, "abc2").as_deref(), Some(&2));
        assert_eq!(find(&all, "abc").as_deref(), None);
        assert_eq!(find(&all, "b").as_deref(), Some(&3));
        assert_eq!(find(&all, "").as_deref(), None);
        assert_eq!(find(&all, "c").as_deref(), None);
    }
}
