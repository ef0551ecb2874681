//! Containers that another OCI runtime makes from the same specification.
//!
//! What is ours stays ours: the root and the sources of its mounts, resolved so that no link
//! leads out; the cgroup, which it is born into; its streams, its supervision and its end. The
//! runtime gets them as a bundle, creates the container, and starts it when it is told to.

use super::child;
use super::error::{Failure, Step};
use super::target::Root;
use super::{ChildEnds, ChildOutput, Exec, ExecStreams, Launch, mounts, rootfs, user};
use crate::cgroup::Cgroups;
use crate::plan::Handler;
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::{descriptors, signals};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::execve;
use oci_spec::runtime::{
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType as Namespace, Mount, Process, Spec,
};
use rustix::fs::Mode;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The folder, in the pod's, of files with the numbers of containers' first processes. Not in the
/// bundle, which only the container sees where its root is the host's.
const PIDS_FOLDER: &str = "oci-pids";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Launch<'_> {
    /// The runtime's name of this run.
    fn foreign_id(&self) -> String {
        format!("{}-{}-{}", self.pod.uid, self.container.name, self.run)
    }

    /// The words of the runtime's command line up to its own command.
    fn foreign_words(&self, handler: &Handler) -> Vec<String> {
        let own = || self.pod.state_dir.join("oci").display().to_string();
        let root = handler.root.as_ref().map_or_else(own, |root| root.display().to_string());
        let mut words = vec![handler.name.clone(), "--root".to_owned(), root];
        words.extend(handler.arguments.iter().cloned());
        words
    }

    /// The first process of the container that the runtime has created, if it has.
    pub(crate) fn foreign_pid(&self) -> Option<i32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()
    }

    fn pid_file(&self) -> PathBuf {
        self.pod.state_dir.join(PIDS_FOLDER).join(self.foreign_id())
    }

    /// The runtime was told to start the container's program; it is a process of its own, whose
    /// pipes are the container's no more.
    pub(crate) fn start_foreign(&self) -> io::Result<()> {
        let Some(handler) = &self.pod.security.handler else { return Ok(()) };
        let mut words = self.foreign_words(handler);
        words.extend(["start".to_owned(), self.foreign_id()]);
        match clone3(0, None)? {
            Cloned::Parent { .. } => Ok(()),
            Cloned::Child => {
                let _ = become_runtime(handler, &words);
                exit_now(1)
            }
        }
    }
}

/// Becomes the runtime, or reports why not and ends.
pub(super) fn run(
    launch: &Launch<'_>,
    handler: &Handler,
    cgroups: &Cgroups,
    ends: ChildEnds,
    report: io::Result<OwnedFd>,
) -> ! {
    let failed = child::enter(cgroups, &launch.group()).and_then(|()| create(launch, handler, ends));
    if let (Ok(report), Err(failure)) = (report, &failed) {
        let _ = rustix::io::write(&report, failure.encode().as_bytes());
    }
    exit_now(128)
}

/// Becomes the runtime, which creates the container from a bundle; or says why not.
fn create(launch: &Launch<'_>, handler: &Handler, ends: ChildEnds) -> Result<Infallible, Failure> {
    let ChildEnds { gate: _gate, report: _report, stdin, output } = ends;
    child::set_input(stdin)?;
    let ChildOutput::Pipes(_) = &output else {
        let no_terminal = Err(io::Error::from(io::ErrorKind::Unsupported));
        return no_terminal.step(|| format!("give a container of {} a terminal", handler.name));
    };
    let _streams = child::set_outputs(output)?;
    rustix::process::umask(Mode::empty());
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).step(|| "make mounts private".to_owned())?;
    rootfs::mount(launch)?;
    let bundle = launch.layer();
    let mut spec = launch.container.spec.clone();
    place_mounts(launch, &mut spec)?;
    let process = spec.process().clone().ok_or_else(child::missing_process)?;
    let root = Root::open(&bundle.join(rootfs::ROOT))?;
    spec.set_process(Some(resolved(launch, &root, process, None)?));
    spec.set_annotations(None);
    if let Some(root) = spec.root_mut() {
        root.set_path(PathBuf::from(rootfs::ROOT));
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_namespaces(Some(namespaces(launch)));
    }
    let file = bundle.join("config.json");
    let text = serde_json::to_vec(&spec).map_err(io::Error::from);
    text.and_then(|text| fs::write(&file, text)).step(|| format!("write {}", file.display()))?;
    let pid_file = launch.pid_file();
    let made = pid_file.parent().map_or(Ok(()), fs::create_dir_all);
    made.step(|| format!("make a place for {}", pid_file.display()))?;
    let mut words = launch.foreign_words(handler);
    let path = |path: &Path| path.display().to_string();
    words.extend(["create".to_owned(), "--bundle".to_owned(), path(&bundle)]);
    words.extend(["--pid-file".to_owned(), path(&pid_file), launch.foreign_id()]);
    become_runtime(handler, &words)
}

/// The pod's own namespaces, in which this process is, and new ones for what is the container's.
fn namespaces(launch: &Launch<'_>) -> Vec<LinuxNamespace> {
    let new = |kind| LinuxNamespaceBuilder::default().typ(kind).build().ok();
    let own = |kind, name: &str| {
        LinuxNamespaceBuilder::default().typ(kind).path(format!("/proc/self/ns/{name}")).build().ok()
    };
    let mut all = vec![new(Namespace::Mount)];
    if !launch.pod.host_pid {
        all.push(new(Namespace::Pid));
    }
    if !launch.pod.host_network {
        all.push(own(Namespace::Network, "net"));
        all.push(own(Namespace::Uts, "uts"));
    }
    if !launch.pod.host_ipc {
        all.push(own(Namespace::Ipc, "ipc"));
    }
    all.into_iter().flatten().collect()
}

/// What is to be bound is at places of its own in the bundle, where no link leads elsewhere any
/// more; the options that only we know are gone.
fn place_mounts(launch: &Launch<'_>, spec: &mut Spec) -> Result<(), Failure> {
    let mut all = spec.mounts().clone().unwrap_or_default();
    // The container has a group, and the runtime none to show.
    all.retain(|mount| !matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")));
    if launch.termination_log().exists() && !launch.container.message_path.is_empty() {
        let mut log = Mount::default();
        log.set_destination(PathBuf::from(&launch.container.message_path))
            .set_typ(Some("bind".to_owned()))
            .set_source(Some(launch.termination_log()))
            .set_options(Some(vec!["bind".to_owned(), "rprivate".to_owned()]));
        all.push(log);
    }
    for (index, mount) in all.iter_mut().enumerate() {
        if let Some(place) = mounts::place(mount, &launch.layer().join(format!("mount{index}")))? {
            mount.set_source(Some(place));
        }
        if let Some(options) = mount.options_mut() {
            options.retain(|option| !option.starts_with("x-evenkeel."));
        }
    }
    spec.set_mounts(Some(all));
    Ok(())
}

/// The process with its user by number, as the image's own files have it.
fn resolved(
    launch: &Launch<'_>,
    root: &Root,
    mut process: Process,
    other: Option<&str>,
) -> Result<Process, Failure> {
    let identity = user::resolve_in(root, launch.container, &process, other)?;
    let mut user = process.user().clone();
    user.set_uid(identity.uid.as_raw())
        .set_gid(identity.gid.as_raw())
        .set_additional_gids(Some(identity.groups.clone()));
    process.set_user(user);
    let mut env = process.env().clone().unwrap_or_default();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    process.set_env(Some(env));
    // A host that has not the right to less keeps what it has.
    process.set_oom_score_adj(process.oom_score_adj().map(|score| score.max(0)));
    process.set_apparmor_profile(launch.container.security.apparmor.clone());
    Ok(process)
}

/// Becomes the runtime, which runs one more process in the container.
pub(super) fn exec(exec: &Exec<'_>, handler: &Handler, streams: ExecStreams) -> Result<Infallible, Failure> {
    let ExecStreams::Three(three) = streams else {
        let no_terminal = Err(io::Error::from(io::ErrorKind::Unsupported));
        return no_terminal.step(|| format!("give a process of {} a terminal", handler.name));
    };
    super::exec::set_streams(&three)?;
    let own = exec.launch.container.spec.process().as_ref().ok_or_else(child::missing_process)?;
    let root = Root::open(&PathBuf::from(format!("/proc/{}/root", exec.target)))?;
    let process = resolved(&exec.launch, &root, exec.process(own), exec.user)?;
    let file = exec.launch.layer().join(format!("process-{}.json", std::process::id()));
    let text = serde_json::to_vec(&process).map_err(io::Error::from);
    text.and_then(|text| fs::write(&file, text)).step(|| format!("write {}", file.display()))?;
    let mut words = exec.launch.foreign_words(handler);
    words.extend(["exec", "--process"].map(str::to_owned));
    words.extend([file.display().to_string(), exec.launch.foreign_id()]);
    become_runtime(handler, &words)
}

/// Where hybrid hosts have the tree of v2 beside those of v1.
const HYBRID: &str = "/sys/fs/cgroup/unified";

/// Runtimes refuse hosts that have both kinds of cgroups; here they see v1 alone, which is the one
/// that limits the container.
fn hide_hybrid() -> Result<(), Failure> {
    if !Path::new(HYBRID).exists() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).step(|| "make a mount namespace".to_owned())?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).step(|| "make mounts private".to_owned())?;
    // A folder that nothing is mounted at hides itself.
    let _ = unmount(HYBRID, UnmountFlags::DETACH);
    Ok(())
}

fn become_runtime(handler: &Handler, words: &[String]) -> Result<Infallible, Failure> {
    hide_hybrid()?;
    signals::reset();
    descriptors::close_on_exec_from(3).step(|| "close descriptors".to_owned())?;
    let c_string = |text: &[u8]| CString::new(text).unwrap_or_default();
    let arguments: Vec<CString> = words.iter().map(|word| c_string(word.as_bytes())).collect();
    let program = c_string(handler.path.as_os_str().as_bytes());
    let Err(error) = execve(&program, &arguments, &[c_string(PATH.as_bytes())]);
    Err(Failure::exec(&handler.path.display().to_string(), io::Error::from(error)))
}
