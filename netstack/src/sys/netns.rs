//! Network namespaces of other processes, entered by threads that end in them.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// Stack of a visiting thread in bytes: enough for a small runtime and one socket.
const STACK_BYTES: usize = 512 * 1024;

/// Where a network namespace is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// Of this process or thread.
    Process(i32),
    /// Kept as this file.
    File(PathBuf),
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The network namespace that is found there.
///
/// # Errors
/// `ENOENT` if there is no such process or file, `EACCES` without the privilege to look.
pub(crate) fn open(namespace: &Namespace) -> io::Result<OwnedFd> {
    match namespace {
        Namespace::Process(pid) => Ok(File::open(format!("/proc/{pid}/ns/net"))?.into()),
        Namespace::File(path) => Ok(File::open(path)?.into()),
    }
}

/// The network namespace of the calling thread.
///
/// # Errors
/// As `open(2)`.
pub(crate) fn own() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Whether both are the same namespace.
///
/// # Errors
/// As `fstat(2)`.
pub(crate) fn same(a: impl AsFd, b: impl AsFd) -> io::Result<bool> {
    let (a, b) = (rustix::fs::fstat(a)?, rustix::fs::fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Runs `future` inside `namespace`, on a thread that enters it and then ends, so
/// that no thread of the caller ever changes its namespace.
///
/// # Errors
/// As `setns(2)`, or if no thread can be started.
pub(crate) async fn visit<T, F>(namespace: OwnedFd, future: F) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = thread::Builder::new().name("netns".into()).stack_size(STACK_BYTES);
    thread.spawn(move || {
        let entered = setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        drop(namespace);
        let result = entered.and_then(|()| super::socket::block_on_new(future));
        drop(sender.send(result));
    })?;
    receiver.await.map_err(|_| io::Error::other("the visiting thread panicked"))?
}

/// Runs `work` inside a network namespace of its own, on a thread that ends with it.
///
/// # Errors
/// As `unshare(2)`, or if no thread can be started; or that of `work`.
pub(crate) async fn in_new<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = thread::Builder::new().name("netns".into()).stack_size(STACK_BYTES);
    thread.spawn(move || {
        let entered = unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        drop(sender.send(entered.and_then(|()| work())));
    })?;
    receiver.await.map_err(|_| io::Error::other("the thread in a new namespace panicked"))?
}
