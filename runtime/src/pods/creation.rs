//! A pod's supervisor comes to be.

use super::connection::{self, Connection};
use super::{CreateError, OWN_PROGRAM, Runtime, handover, users};
use crate::plan::PodPlan;
use crate::state::Stage;
use crate::supervisor::gate::{GO, PLACED};
use crate::supervisor::{PLAN_FILE, READY, socket_path};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a supervisor may take to make its namespaces.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

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

impl Runtime {
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
}

/// The plan is on disk in the folder, for nobody else to read.
pub(super) fn write_json(folder: &Path, path: &Path, plan: &impl serde::Serialize) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    let new = path.with_extension("json.new");
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut file = io::BufWriter::new(file);
    serde_json::to_writer(&mut file, plan)?;
    file.flush()?;
    std::fs::rename(new, path)
}
