//! The pods of this node, as an agent sees them: one supervisor each, found again after a restart.

mod connection;
mod creation;
mod disk;
mod error;
mod files;
mod handover;
mod inside;
mod interrupt;
mod reclaim;
mod remains;
mod requests;
mod scopes;
mod users;

pub use creation::Created;
pub use disk::{ContainerDisk, DiskUsage, PodDisk};
pub use error::{AddError, CreateError, InsideError, OpenError, PodError, RemoveError};
pub use files::in_files_of;
pub use inside::{Attached, ExecSpec, Execution, Killer, attach, dial, exec, exec_in_terminal};

use crate::apparmor::AppArmor;
use crate::cgroup::{Cgroups, PodStats, Pressure};
use crate::plan::{Resize, Resources};
use crate::seccomp::SeccompFolders;
use crate::state::{PodState, Stage};
use crate::supervisor::protocol::Request;
use crate::systemd::Systemd;
use connection::Link;
use handover::Handover;
use scopes::Scopes;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a removal waits for a supervisor to end before its cgroup is killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The running program, even if its file was replaced meanwhile.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Where everything is, and how a supervisor is started.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Holds `pods/<uid>/`.
    pub state_dir: PathBuf,
    /// Holds `pods/<uid>.sock`.
    pub run_dir: PathBuf,
    /// Holds `<namespace>_<name>_<uid>/`.
    pub log_dir: PathBuf,
    /// Below the root of each hierarchy; holds `pod<uid>/`.
    pub cgroup_root: String,
    /// The profiles that `localhostProfile` of a seccomp profile names.
    pub seccomp_profiles: PathBuf,
    /// The words before the plan's path and the socket's: a program and what makes it a supervisor.
    pub supervisor: Vec<OsString>,
}

impl RuntimeOptions {
    /// The folder of a pod.
    #[must_use]
    pub fn pod_folder(&self, uid: &str) -> PathBuf {
        self.state_dir.join("pods").join(uid)
    }

    /// The cgroup of a pod, where systemd has no say.
    #[must_use]
    pub fn pod_cgroup(&self, uid: &str) -> String {
        format!("{}/pod{uid}", self.cgroup_root)
    }

    /// Where seccomp profiles are, and their filters.
    #[must_use]
    pub fn seccomp(&self) -> SeccompFolders {
        SeccompFolders {
            profiles: self.seccomp_profiles.clone(),
            filters: self.state_dir.join("seccomp-filters"),
        }
    }

    /// The log folder of a pod.
    #[must_use]
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.log_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}

/// The pods of this node.
#[derive(Debug, Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
    /// The last clone takes the connections with it; the pods run on.
    _alive: Arc<DropGuard>,
}

#[derive(Debug)]
struct Shared {
    options: RuntimeOptions,
    cgroups: Cgroups,
    scopes: Scopes,
    handover: Handover,
    apparmor: AppArmor,
    pods: Mutex<BTreeMap<String, Pod>>,
    /// Held while ranges of ids are looked for, and shares of CPU are summed.
    ids: Mutex<()>,
    version: watch::Sender<u64>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct Pod {
    state: Arc<PodState>,
    /// While the supervisor lives.
    link: Option<Link>,
}

impl Shared {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Pod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn link(&self, uid: &str) -> Option<Link> {
        self.pods().get(uid)?.link.clone()
    }

    /// The pod's cgroup, wherever it was made.
    fn group(&self, uid: &str) -> String {
        let of_pod = self.pods().get(uid).map(|pod| pod.state.cgroup.clone());
        of_pod.filter(|group| !group.is_empty()).unwrap_or_else(|| remains::group(&self.options, uid))
    }
}

impl Runtime {
    /// Finds every pod of this node: those that run are attached to again; those whose
    /// supervisor is gone are `Finished` or `Lost`, without a process left; what belongs to
    /// no pod is removed.
    ///
    /// # Errors
    /// If the folders cannot be made or the cgroups not be found.
    pub async fn open(options: RuntimeOptions) -> Result<Self, OpenError> {
        Self::open_beside(options, None).await
    }

    /// Like [`Runtime::open`], where systemd, if given, makes the groups of new pods. It is not
    /// asked where cgroups are not its own (v1).
    ///
    /// # Errors
    /// As [`Runtime::open`].
    pub async fn open_beside(options: RuntimeOptions, systemd: Option<Systemd>) -> Result<Self, OpenError> {
        for folder in [options.state_dir.join("pods"), options.run_dir.join("pods"), options.log_dir.clone()]
        {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&folder);
            made.map_err(|source| OpenError::Folder { path: folder, source })?;
        }
        let cgroups = Cgroups::detect()?;
        let shared = Arc::new(Shared {
            options,
            scopes: Scopes::new(systemd.filter(|_| cgroups.is_v2())),
            handover: Handover::default(),
            apparmor: AppArmor::default(),
            cgroups,
            pods: Mutex::default(),
            ids: Mutex::default(),
            version: watch::Sender::new(0),
            closed: CancellationToken::new(),
        });
        let alive = Arc::new(shared.closed.clone().drop_guard());
        remains::find(&shared).await?;
        Ok(Self { shared, _alive: alive })
    }

    /// Every pod, as last reported, by uid.
    #[must_use]
    pub fn observe(&self) -> BTreeMap<String, Arc<PodState>> {
        self.shared.pods().iter().map(|(uid, pod)| (uid.clone(), Arc::clone(&pod.state))).collect()
    }

    /// Changes whenever [`Runtime::observe`] would.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// The pod's containers are being run. Repeating it is harmless.
    ///
    /// # Errors
    /// [`PodError`] if the pod has no supervisor, or it refuses.
    pub async fn start(&self, uid: &str, addresses: Vec<String>) -> Result<(), PodError> {
        self.ask(uid, Request::Start { addresses }).await?;
        // The state comes after the answer: who looks in between must not start it again.
        if let Some(pod) = self.shared.pods().get_mut(uid)
            && pod.state.stage == Stage::Created
        {
            Arc::make_mut(&mut pod.state).stage = Stage::Started;
        }
        self.shared.changed();
        self.balance(self.shared.group(uid)).await;
        Ok(())
    }

    /// The share of CPU of the pod's tier is what its pods' are in all; systemd keeps those of its
    /// slices itself.
    async fn balance(&self, group: String) {
        if self.shared.scopes.are_used() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let balanced = tokio::task::spawn_blocking(move || {
            let _one_at_a_time = shared.ids.lock().unwrap_or_else(PoisonError::into_inner);
            shared.cgroups.balance(&group);
        });
        let _ = balanced.await;
    }

    /// The pod was asked to end, within the grace; its end is seen in [`Runtime::observe`].
    ///
    /// # Errors
    /// [`PodError`] if the pod has no supervisor, or it refuses.
    pub async fn stop(&self, uid: &str, grace_seconds: u32) -> Result<(), PodError> {
        let grace = Duration::from_secs(u64::from(grace_seconds));
        handover::keep(&self.shared, uid, grace).await;
        self.ask(uid, Request::Stop { grace_seconds }).await
    }

    /// The container has the limits, and its pod those of `pod`; its next runs will have them too.
    ///
    /// # Errors
    /// [`PodError`] if the pod has no supervisor, or the kernel refuses: memory that is used, say.
    pub async fn resize(&self, uid: &str, change: Resize, pod: Resources) -> Result<(), PodError> {
        let Resize { container, limits, restart } = change;
        self.ask(uid, Request::Resize { container, limits, pod, restart }).await?;
        self.balance(self.shared.group(uid)).await;
        Ok(())
    }

    /// The signal was sent to the container's first process.
    ///
    /// # Errors
    /// [`PodError`] if the container does not run, or the signal does not exist.
    pub async fn signal(&self, uid: &str, container: &str, signal: i32) -> Result<(), PodError> {
        self.ask(uid, Request::Signal { container: container.to_owned(), signal }).await
    }

    async fn ask(&self, uid: &str, request: Request) -> Result<(), PodError> {
        let link = self.shared.link(uid).ok_or_else(|| PodError::NotRunning { uid: uid.to_owned() })?;
        link.ask(request).await
    }

    /// Nothing of the pod is left: no process, cgroup, folder, log or socket. A pod that does
    /// not exist is gone.
    ///
    /// # Errors
    /// [`RemoveError`] with everything that could not be removed; the rest was.
    pub async fn remove(&self, uid: &str) -> Result<(), RemoveError> {
        self.end(uid).await;
        let state = self.shared.pods().get(uid).map(|pod| Arc::clone(&pod.state));
        let (shared, owned) = (Arc::clone(&self.shared), uid.to_owned());
        let removed =
            tokio::task::spawn_blocking(move || remains::remove_all(&shared, &owned, state.as_deref()));
        let errors = removed.await.unwrap_or_else(|error| vec![error.to_string()]);
        if !errors.is_empty() {
            return Err(RemoveError { uid: uid.to_owned(), errors });
        }
        let group = self.shared.group(uid);
        self.shared.pods().remove(uid);
        self.shared.changed();
        self.balance(group).await;
        Ok(())
    }

    /// The pod's supervisor has ended, or did not in time.
    async fn end(&self, uid: &str) {
        let Some(link) = self.shared.link(uid) else { return };
        let mut changes = self.changes();
        let _ = link.ask(Request::Stop { grace_seconds: 0 }).await;
        let ended = async {
            while self.shared.link(uid).is_some() {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(END_TIMEOUT, ended).await;
    }

    /// What the whole machine uses of its memory, without what it could drop at once, in bytes.
    #[must_use]
    pub fn machine_working_set(&self) -> Option<u64> {
        self.shared.cgroups.machine_working_set()
    }

    /// How long the pod's processes wait for what they lack; `None` where the kernel keeps no
    /// account.
    #[must_use]
    pub fn pressure(&self, uid: &str) -> Option<Pressure> {
        self.shared.cgroups.pressure(&self.shared.group(uid))
    }

    /// What the pod uses now.
    #[must_use]
    pub fn stats(&self, uid: &str) -> PodStats {
        let (cgroups, group) = (&self.shared.cgroups, self.shared.group(uid));
        let mut stats = PodStats { pod: cgroups.stats(&group), ..PodStats::default() };
        for name in cgroups.children(&group) {
            let child = cgroups.stats(&format!("{group}/{name}"));
            if cgroups.is_v2() && name == "supervisor" {
                stats.supervisor = Some(child);
            } else {
                stats.containers.insert(name, child);
            }
        }
        stats
    }
}
