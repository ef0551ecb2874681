//! The mounts, masks and read-only paths of a specification.

use super::Launch;
use super::devices;
use super::error::{Failure, Step};
use super::rootfs::{both_empty, new_filesystem};
use super::target::{self, Root};
use super::users;
use crate::cgroup::Cgroups;
use crate::plan::BENEATH_OPTION;
use crate::sys::mount::{set_attributes, set_propagation};
use crate::volume::sub_path;
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, move_mount, open_tree};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `tty`, as every distribution has it and every specification says.
const TERMINALS_GROUP: u32 = 5;

/// Which mount a specification's entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bind,
    /// Waits until the process is in its cgroup.
    Cgroup,
    Filesystem,
}

/// Options sorted by what the kernel does with them.
#[derive(Debug)]
struct Options<'a> {
    attributes: MountAttrFlags,
    /// With what is mounted below the source.
    recursive: bool,
    /// That becomes read-only too.
    read_only_below: bool,
    /// The volume that the source is a path in.
    beneath: Option<&'a Path>,
    /// For the filesystem itself: `key=value`, or a bare key with an empty value.
    data: Vec<(&'a str, &'a str)>,
}

fn kind(mount: &Mount) -> Kind {
    let has = |name: &str| options(mount).iter().any(|option| option == name);
    match mount.typ().as_deref() {
        Some("cgroup" | "cgroup2") => Kind::Cgroup,
        Some("bind") => Kind::Bind,
        Some(_) | None if has("bind") || has("rbind") => Kind::Bind,
        Some(_) | None => Kind::Filesystem,
    }
}

fn options(mount: &Mount) -> &[String] {
    mount.options().as_deref().unwrap_or_default()
}

fn sort_options(mount: &Mount) -> Options<'_> {
    let mut sorted = Options {
        attributes: MountAttrFlags::empty(),
        recursive: false,
        read_only_below: false,
        beneath: None,
        data: Vec::new(),
    };
    for option in options(mount) {
        match option.as_str() {
            "ro" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            "rro" => {
                sorted.attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
                sorted.read_only_below = true;
            }
            "nosuid" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "noatime" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            "strictatime" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            "nodiratime" => sorted.attributes |= MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            "rbind" => sorted.recursive = true,
            // The kernel's own defaults, what `kind` and `propagates` read, and what is always so.
            "bind" | "rw" | "suid" | "dev" | "exec" | "relatime" | "defaults" | "private" | "rprivate"
            | "slave" | "rslave" | "shared" | "rshared" | "newinstance" => {}
            other => match other.strip_prefix(BENEATH_OPTION) {
                Some(root) => sorted.beneath = Some(Path::new(root)),
                None => sorted.data.push(other.split_once('=').unwrap_or((other, ""))),
            },
        }
    }
    sorted
}

/// Trees that stay tied to where they come from, by their place in the specification.
#[derive(Debug, Default)]
pub(super) struct Tied(BTreeMap<usize, OwnedFd>);

/// Whether mounts made later come from the source of a bind, or also go there.
fn propagates(mount: &Mount) -> Option<u64> {
    options(mount).iter().find_map(|option| match option.as_str() {
        "slave" | "rslave" => Some(libc::MS_SLAVE),
        "shared" | "rshared" => Some(libc::MS_SHARED),
        _ => None,
    })
}

/// The binds that mounts made later shall pass through. To be taken before the container's
/// mounts are made private: what is copied after is tied to nothing.
pub(super) fn take_tied(spec: &Spec) -> Result<Tied, Failure> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mut tied = Tied::default();
    for (index, mount) in mounts.iter().enumerate().filter(|(_, mount)| kind(mount) == Kind::Bind) {
        if let Some(propagation) = propagates(mount) {
            let tree = copy(mount)?;
            set_propagation(tree.as_fd(), propagation).step(|| describe(mount))?;
            tied.0.insert(index, tree);
        }
    }
    Ok(tied)
}

/// Everything but cgroups is mounted below `root`, in the order of the specification.
pub(super) fn mount_all(launch: &Launch<'_>, root: &Path, mut tied: Tied) -> Result<(), Failure> {
    let root = Root::open(root)?;
    let mounts = launch.container.spec.mounts().as_deref().unwrap_or_default();
    for (index, mount) in mounts.iter().enumerate() {
        match kind(mount) {
            Kind::Bind => bind(launch, &root, mount, tied.0.remove(&index))?,
            Kind::Filesystem => filesystem(launch, &root, mount)?,
            Kind::Cgroup => {}
        }
    }
    let log = launch.termination_log();
    if !launch.container.message_path.is_empty()
        && log.exists()
        && has_room_for(&root, &launch.container.message_path)
    {
        let tree = open_tree(CWD, &log, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
            .step(|| "open the termination log".to_owned())?;
        users::own(launch.users, &tree, false).step(|| "prepare the termination log".to_owned())?;
        let target = root.file(Path::new(&launch.container.message_path))?;
        move_mount(&tree, "", &target, "", both_empty()).step(|| "mount the termination log".to_owned())?;
    }
    Ok(())
}

/// The usual place needs `/dev`, which an image may lack; another is made.
fn has_room_for(root: &Root, message: &str) -> bool {
    !message.starts_with("/dev/") || root.existing(Path::new("/dev")).is_some()
}

fn describe(mount: &Mount) -> String {
    let from = mount.source().as_deref().unwrap_or(Path::new(""));
    format!("mount {} at {}", from.display(), mount.destination().display())
}

/// What a bind shows is at `place`, made for it, with its attributes. None for other mounts.
pub(super) fn place(mount: &Mount, place: &Path) -> Result<Option<PathBuf>, Failure> {
    if kind(mount) != Kind::Bind {
        return Ok(None);
    }
    let named = || describe(mount);
    let sorted = sort_options(mount);
    let tree = copy(mount)?;
    if is_folder(&tree).step(named)? {
        fs::create_dir(place).step(named)?;
    } else {
        fs::write(place, "").step(named)?;
    }
    if !sorted.attributes.is_empty() {
        set_attributes(tree.as_fd(), sorted.attributes, false).step(named)?;
    }
    if sorted.read_only_below {
        set_attributes(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, true).step(named)?;
    }
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, place, flags).step(named)?;
    Ok(Some(place.to_owned()))
}

/// A copy of the tree at the source of a bind, mounted nowhere.
fn copy(mount: &Mount) -> Result<OwnedFd, Failure> {
    let from = mount.source().as_deref().unwrap_or(Path::new(""));
    let named = || describe(mount);
    let sorted = sort_options(mount);
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if sorted.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let source = open_source(from, &sorted).step(named)?;
    // From the descriptor: the path may lead elsewhere by now.
    open_tree(&source, "", flags | OpenTreeFlags::AT_EMPTY_PATH).step(named)
}

fn bind(launch: &Launch<'_>, root: &Root, mount: &Mount, tied: Option<OwnedFd>) -> Result<(), Failure> {
    let to = mount.destination();
    let named = || describe(mount);
    let sorted = sort_options(mount);
    let tree = match tied {
        Some(tree) => tree,
        None => copy(mount)?,
    };
    let target = if is_folder(&tree).step(named)? { root.folder(to)? } else { root.file(to)? };
    if !sorted.attributes.is_empty() {
        set_attributes(tree.as_fd(), sorted.attributes, false).step(named)?;
    }
    if sorted.read_only_below {
        set_attributes(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, true).step(named)?;
    }
    users::own(launch.users, &tree, sorted.recursive).step(named)?;
    move_mount(&tree, "", &target, "", both_empty()).step(named)
}

/// What is to be bound. Inside a volume no link leads out of it, and a folder that is missing is
/// made: in a volume in memory nobody could make it earlier, and in another a run before may have
/// removed it.
fn open_source(from: &Path, options: &Options<'_>) -> io::Result<OwnedFd> {
    let Some((root, inside)) = options.beneath.and_then(|root| Some((root, from.strip_prefix(root).ok()?)))
    else {
        return match options.beneath {
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => Ok(target::host(from)?),
        };
    };
    let volume = target::host(root)?;
    match sub_path::open(&volume, inside) {
        Err(Errno::NOENT) if !options.attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) => {
            sub_path::make(&volume, inside)?;
            Ok(sub_path::open(&volume, inside)?)
        }
        found => Ok(found?),
    }
}

fn is_folder(fd: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

fn filesystem(launch: &Launch<'_>, root: &Root, mount: &Mount) -> Result<(), Failure> {
    let to = mount.destination();
    let kind = mount.typ().as_deref().unwrap_or("tmpfs");
    let sorted = sort_options(mount);
    let target = root.folder(to)?;
    let root_id = launch.users.map(|users| users.on_host(0).to_string());
    let terminals = launch.users.map(|users| users.on_host(TERMINALS_GROUP).to_string());
    let mut data = sorted.data;
    match (kind, &root_id, &terminals) {
        ("tmpfs", Some(root), _) => data.extend([("uid", root.as_str()), ("gid", root.as_str())]),
        ("devpts", _, Some(group)) => {
            let given = data.iter_mut().filter(|(key, _)| *key == "gid");
            given.for_each(|option| option.1 = group);
        }
        _ => {}
    }
    let tree = new_filesystem(kind, &data, sorted.attributes)?;
    move_mount(&tree, "", &target, "", both_empty()).step(|| format!("mount {kind} at {}", to.display()))?;
    if to == Path::new("/dev") && kind == "tmpfs" {
        devices::populate(launch, root)?;
    }
    Ok(())
}

/// What has to wait until the process is in its cgroup.
pub(super) fn mount_late(launch: &Launch<'_>, cgroups: &Cgroups) -> Result<(), Failure> {
    let mounts = launch.container.spec.mounts().as_deref().unwrap_or_default();
    let root = Root::open(Path::new("/"))?;
    for mount in mounts.iter().filter(|mount| kind(mount) == Kind::Cgroup) {
        let to = mount.destination();
        let target = root.folder(to)?;
        let attributes = sort_options(mount).attributes
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let named = || format!("mount cgroups at {}", to.display());
        if cgroups.is_v2() {
            let tree = new_filesystem("cgroup2", &[], attributes)?;
            move_mount(&tree, "", &target, "", both_empty()).step(named)?;
            continue;
        }
        let folder = new_filesystem("tmpfs", &[("mode", "755")], MountAttrFlags::MOUNT_ATTR_NODEV)?;
        move_mount(&folder, "", &target, "", both_empty()).step(named)?;
        for (name, controllers) in cgroups.v1_mounts() {
            let data: Vec<(&str, &str)> = controllers.iter().map(|name| (*name, "")).collect();
            let tree = new_filesystem("cgroup", &data, attributes)?;
            let target = root.folder(&to.join(name))?;
            move_mount(&tree, "", &target, "", both_empty()).step(named)?;
        }
        set_attributes(folder.as_fd(), attributes, false).step(named)?;
    }
    Ok(())
}

/// Kernel parameters are set, masked paths hidden, and read-only paths read-only.
pub(super) fn protect(spec: &Spec) -> Result<(), Failure> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    for (name, value) in linux.sysctl().iter().flatten() {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(&path, value).step(|| format!("set the kernel parameter {name}"))?;
    }
    let root = Root::open(Path::new("/"))?;
    for path in linux.masked_paths().iter().flatten() {
        mask(&root, Path::new(path))?;
    }
    for path in linux.readonly_paths().iter().flatten() {
        make_readonly(&root, Path::new(path))?;
    }
    if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
        let step = || "make the root read-only".to_owned();
        let tree = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).step(step)?;
        set_attributes(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false).step(step)?;
    }
    Ok(())
}

/// What is at `path` cannot be seen: an empty folder or file is over it.
pub(super) fn mask(root: &Root, path: &Path) -> Result<(), Failure> {
    let Some(target) = root.existing(path) else { return Ok(()) };
    let named = || format!("mask {}", path.display());
    let tree = if is_folder(&target).step(named)? {
        new_filesystem("tmpfs", &[("size", "4k")], MountAttrFlags::MOUNT_ATTR_RDONLY)?
    } else {
        open_tree(CWD, "/dev/null", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
            .step(named)?
    };
    move_mount(&tree, "", &target, "", both_empty()).step(named)
}

fn make_readonly(root: &Root, path: &Path) -> Result<(), Failure> {
    let Some(target) = root.existing(path) else { return Ok(()) };
    let named = || format!("make {} read-only", path.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&target, "", flags).step(named)?;
    set_attributes(tree.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, true).step(named)?;
    move_mount(&tree, "", &target, "", both_empty()).step(named)
}

/// The working directory exists and is entered; one that is missing is made.
pub(super) fn enter_directory(path: &Path) -> Result<(), Failure> {
    let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
    match rustix::process::chdir(path) {
        Err(rustix::io::Errno::NOENT) => {
            Root::open(Path::new("/"))?.folder(path)?;
            rustix::process::chdir(path)
        }
        other => other,
    }
    .step(|| format!("enter the working directory {}", path.display()))?;
    // A path through a descriptor of ours leads out, and the kernel says that it cannot be reached.
    let here = rustix::process::getcwd(Vec::new()).step(|| "look at the working directory".to_owned())?;
    if here.to_bytes().starts_with(b"/") {
        return Ok(());
    }
    let outside = Err(io::Error::from(io::ErrorKind::PermissionDenied));
    outside.step(|| format!("stay in the container: the working directory {} leads out", path.display()))
}
