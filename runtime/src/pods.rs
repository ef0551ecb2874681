//! The pods of this node, as an agent sees them: one supervisor each, found again after a restart.

mod connection;
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

pub use disk::{ContainerDisk, DiskUsage, PodDisk};
pub use error::{AddError, CreateError, InsideError, OpenError, PodError, RemoveError};
pub use files::in_files_of;
pub use inside::{Attached, ExecSpec, Execution, Killer, attach, dial, exec, exec_in_terminal};

use crate::apparmor::AppArmor;
use crate::cgroup::{Cgroups, PodStats, Pressure};
use crate::plan::{PodPlan, Resize, Resources};
use crate::seccomp::SeccompFolders;
use crate::state::{PodState, Stage};
use crate::supervisor::gate::{GO, PLACED};
use crate::supervisor::protocol::Request;
use crate::supervisor::{PLAN_FILE, READY, socket_path};
use crate::systemd::Systemd;
use connection::{Connection, Link};
use handover::Handover;
use scopes::Scopes;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a supervisor may take to make its namespaces.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
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

/// A sandbox that waits for its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The supervisor's process.
    pub supervisor_pid: i32,
    /// The pod's network namespace.
    pub netns: PathBuf,
}

impl Created {
    fn of(pid: i32) -> Self {
        Self { supervisor_pid: pid, netns: PathBuf::from(format!("/proc/{pid}/ns/net")) }
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

    /// The pod has a supervisor with namespaces of its own, and waits for its start. A pod
    /// that has one already is left as it is; one that was lost goes on with its counts. For
    /// one pod, one call at a time.
    ///
    /// # Errors
    /// [`CreateError`], with nothing left running.
    pub async fn create(&self, plan: &PodPlan) -> Result<Created, CreateError> {
        if let Some(pod) = self.shared.pods().get(&plan.uid) {
            if pod.state.stage == Stage::Finished {
                return Err(CreateError::Finished { uid: plan.uid.clone() });
            }
            if pod.link.is_some() {
                return Ok(Created::of(pod.state.supervisor_pid));
            }
        }
        let mut plan = plan.clone();
        self.compile_filters(&mut plan)?;
        self.choose_profiles(&mut plan).await?;
        self.allot_users(&mut plan)?;
        match self.bring_up(&plan).await {
            // It does not want to, and will not for the next pod either.
            Err(CreateError::Scope(error)) if error.is_lasting() => {
                self.shared.scopes.give_up(&error);
                self.bring_up(&plan).await
            }
            result => result,
        }
    }

    async fn bring_up(&self, plan: &PodPlan) -> Result<Created, CreateError> {
        let (uid, options) = (&plan.uid, &self.shared.options);
        let folder = options.pod_folder(uid);
        let placed = self.shared.scopes.placed(&options.cgroup_root, plan);
        write_json(&folder, &folder.join(PLAN_FILE), &placed)
            .map_err(|source| CreateError::WritePlan { path: folder.join(PLAN_FILE), source })?;
        let (mut child, gate) = self.spawn(&placed, &folder)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let greeted = match self.let_on(plan, &child, gate).await {
            Ok(()) => self.greet(uid, &mut child).await,
            Err(error) => Err(error),
        };
        match greeted {
            Ok(connection) => {
                connection::serve(&self.shared, connection, Some(child));
                Ok(Created::of(pid))
            }
            Err(error) => {
                let _ = child.kill().await;
                self.clear_cgroup(uid, &placed.cgroup).await;
                Err(error)
            }
        }
    }

    /// Every container's plan names the filter of its system calls.
    fn compile_filters(&self, plan: &mut PodPlan) -> Result<(), CreateError> {
        let folders = self.shared.options.seccomp();
        let foreign = plan.security.handler.is_some();
        for container in plan.init_containers.iter_mut().chain(&mut plan.containers) {
            let filled = if foreign { folders.spell_out(container) } else { folders.fill_in(container) };
            filled.map_err(|source| CreateError::Seccomp { container: container.name.clone(), source })?;
        }
        Ok(())
    }

    /// Every container's plan names its profile of AppArmor, if it has one.
    async fn choose_profiles(&self, plan: &mut PodPlan) -> Result<(), CreateError> {
        for container in plan.init_containers.iter_mut().chain(&mut plan.containers) {
            let filled = self.shared.apparmor.fill_in(container).await;
            filled.map_err(|source| CreateError::AppArmor { container: container.name.clone(), source })?;
        }
        Ok(())
    }

    /// A pod with users of its own knows which of the host's ids they are.
    fn allot_users(&self, plan: &mut PodPlan) -> Result<(), CreateError> {
        if plan.security.own_users && plan.security.first_id.is_none() {
            let _one_at_a_time = self.shared.ids.lock().unwrap_or_else(PoisonError::into_inner);
            let first = users::allot(&self.shared.options, &plan.uid).map_err(CreateError::Users)?;
            plan.security.first_id = Some(first);
        }
        Ok(())
    }

    /// The supervisor has what others made or kept for it, if there is anything to wait for.
    async fn let_on(
        &self,
        plan: &PodPlan,
        child: &Child,
        gate: Option<UnixStream>,
    ) -> Result<(), CreateError> {
        let (Some(gate), Some(pid)) = (gate, child.id()) else { return Ok(()) };
        let sockets = handover::find(&self.shared, plan).await;
        let root = &self.shared.options.cgroup_root;
        let is_placed = self.shared.scopes.adopt(root, &plan.cgroup, plan, pid).await?;
        // One that is gone has said why.
        if handover::give(&gate, &sockets).is_ok() {
            let _ = (&gate).write_all(if is_placed { &[PLACED] } else { &[GO] });
        }
        Ok(())
    }

    /// With the other end of its standard input, if it is to wait there.
    fn spawn(&self, plan: &PodPlan, folder: &Path) -> Result<(Child, Option<UnixStream>), CreateError> {
        let waits = self.shared.scopes.are_used() || handover::sockets(plan).next().is_some();
        let (ours, theirs) = if waits {
            let (ours, theirs) = UnixStream::pair().map_err(CreateError::Talk)?;
            (Some(ours), Stdio::from(OwnedFd::from(theirs)))
        } else {
            (None, Stdio::null())
        };
        let options = &self.shared.options;
        let (program, words) = options.supervisor.split_first().ok_or(CreateError::NoSupervisor)?;
        let mut command = Command::new(program);
        if program == OWN_PROGRAM {
            // What a list of processes shows; the path would tell nobody anything.
            command.arg0("keel");
        }
        command
            .args(words)
            .arg(folder.join(PLAN_FILE))
            .arg(socket_path(&options.run_dir, &plan.uid))
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map(|child| (child, ours))
            .map_err(|source| CreateError::Spawn { program: program.into(), source })
    }

    async fn greet(&self, uid: &str, child: &mut Child) -> Result<Connection, CreateError> {
        let said = async {
            let mut line = String::new();
            match child.stdout.take() {
                Some(stdout) => BufReader::new(stdout).read_line(&mut line).await.map(|_| line),
                None => Ok(line),
            }
        };
        let line = match tokio::time::timeout(READY_TIMEOUT, said).await {
            Ok(line) => line.map_err(CreateError::Talk)?,
            Err(_) => return Err(CreateError::Timeout),
        };
        if line.trim_end() != READY {
            return Err(CreateError::Supervisor { message: line.trim_end().to_owned() });
        }
        let path = socket_path(&self.shared.options.run_dir, uid);
        Connection::open(&path).await.map_err(CreateError::Talk)
    }

    async fn clear_cgroup(&self, uid: &str, group: &str) {
        let (cgroups, group) = (self.shared.cgroups.clone(), group.to_owned());
        let cleared = tokio::task::spawn_blocking(move || {
            cgroups.kill(&group);
            cgroups.remove(&group)
        });
        if let Ok(Err(error)) = cleared.await {
            tracing::warn!(uid, error = &error as &dyn std::error::Error, "cgroup of a failed pod stays");
        }
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

/// The plan is on disk in the folder, for nobody else to read.
fn write_json(folder: &Path, path: &Path, plan: &impl serde::Serialize) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    let new = path.with_extension("json.new");
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut file = io::BufWriter::new(file);
    serde_json::to_writer(&mut file, plan)?;
    io::Write::flush(&mut file)?;
    std::fs::rename(new, path)
}
