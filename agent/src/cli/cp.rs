//! `keel cp`: files from and to containers. Nothing is needed in the container for it.

mod build;
mod place;
mod walk;

use super::connection::{Connection, Scope};
use super::inside::Inside;
use super::{CommandError, choice, output};
use build::build;
use clap::Args;
use place::Place;
use runtime::pods::{InsideError, in_files_of};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use walk::walk;

/// As many open files may wait to be copied.
const AHEAD: usize = 16;

/// Copy files and folders from and to containers.
///
///   keel cp web-7c5d:/etc/nginx/nginx.conf .
///   keel cp ./site web-7c5d:/srv/              a folder with all that is in it
///   keel cp shop/db-0:/var/backups /tmp -c db
///
/// As with `cp -r`: into a folder that exists, else under the new name. In the container it is
/// done with its user's rights. Links are copied into containers, and left out on the way back.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CpArgs {
    /// `PATH` here, or `[NAMESPACE/]POD:PATH`
    #[arg(value_name = "FROM")]
    from: Place,
    /// `PATH` here, or `[NAMESPACE/]POD:PATH`
    #[arg(value_name = "TO")]
    to: Place,
    #[command(flatten)]
    scope: Scope,
    /// This container
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// What could not be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("cannot copy {}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{} is there already, and is no {wanted}", .path.display())]
    InTheWay { path: PathBuf, wanted: &'static str },
}

pub(super) fn run(args: &CpArgs) -> Result<ExitCode, CommandError> {
    let left_out = match (&args.from, &args.to) {
        (Place::Inside { pod, namespace, path }, Place::Here(to)) => {
            let (inside, pid) = inside(args, pod, namespace.as_deref())?;
            let source = Path::new("/").join(path);
            copy(
                |sender| in_files_of(pid, &inside.cgroup, || walk(&source, &sender)),
                |entries| Ok(build(to, source.file_name(), entries, false)),
            )
        }
        (Place::Here(from), Place::Inside { pod, namespace, path }) => {
            let (inside, pid) = inside(args, pod, namespace.as_deref())?;
            let target = Path::new("/").join(path);
            let name = from.canonicalize().ok().and_then(|from| from.file_name().map(ToOwned::to_owned));
            copy(
                |sender| Ok(walk(from, &sender)),
                |entries| in_files_of(pid, &inside.cgroup, || build(&target, name.as_deref(), entries, true)),
            )
        }
        (Place::Here(_), Place::Here(_)) | (Place::Inside { .. }, Place::Inside { .. }) => {
            Err(CommandError::Usage("one side is a path here, the other [NAMESPACE/]POD:PATH"))
        }
    }?;
    for path in &left_out {
        output::note(&format!("left out {}: neither file nor folder", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads on one thread, writes on another; each may be in other mounts than ours. Returns
/// what was left out.
fn copy(
    read: impl FnOnce(mpsc::SyncSender<walk::Found>) -> Result<Result<(), CopyError>, InsideError> + Send,
    write: impl FnOnce(mpsc::Receiver<walk::Found>) -> Result<Result<Vec<PathBuf>, CopyError>, InsideError>,
) -> Result<Vec<PathBuf>, CommandError> {
    let (sender, receiver) = mpsc::sync_channel(AHEAD);
    let (read, written) = std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(sender));
        let written = write(receiver);
        (reader.join(), written)
    });
    // What could not be written is why reading ended.
    let written = written??;
    if let Ok(read) = read {
        read??;
    }
    Ok(written)
}

fn inside(args: &CpArgs, pod: &str, namespace: Option<&str>) -> Result<(Inside, i32), CommandError> {
    let namespace = namespace.unwrap_or(&args.scope.namespace);
    let inside = super::wait_for(async {
        let client = args.connection.client()?;
        let pod = choice::pod(&client, &[pod.to_owned()], namespace).await?;
        let container = choice::container(&pod, args.container.as_deref())?;
        Inside::of(&client, &pod, container).await
    })?;
    let pid = inside.pid.ok_or_else(|| CommandError::NotRunning { container: inside.container.clone() })?;
    Ok((inside, pid))
}
