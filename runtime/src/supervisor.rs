//! The supervisor: one small process per pod, parent of its containers.
//!
//! It runs the pod from `plan.json` alone, with or without an agent, and answers on a Unix
//! socket. One thread, no async runtime, no logging framework: its memory is paid once per
//! pod. [`machine`] decides, [`shell`] does.

mod answer;
mod attach;
mod backoff;
mod check;
mod clients;
mod deaf;
mod doing;
mod end;
mod equipment;
mod foreign;
pub(crate) mod gate;
mod image_volume;
mod init;
mod logs;
pub(crate) mod machine;
mod memory;
mod news;
pub mod protocol;
mod requests;
mod resize;
mod runs;
mod seal;
mod shared;
mod shell;
mod start;
mod status;
mod task;

#[cfg(fuzzing)]
pub use clients::receive;
pub(crate) use requests::{CONTAINERS_FOLDER, container_plan_path};
pub(crate) use status::read_status;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The word by which a program that is also the agent knows that it shall be a supervisor.
pub const COMMAND: &str = "supervise";

/// What systemd tells a pod's scope to end with. Programs ignore it unless they asked for it,
/// so that the supervisor alone hears it and ends its containers in order, with their hooks.
pub(crate) const SCOPE_STOP_SIGNAL: i32 = libc::SIGURG;

/// The word by which that program knows that it shall do one probe that needs TLS, HTTP/2 or
/// a resolver: the [`crate::plan::Action`] as JSON and the pod's address follow. It exits with
/// 0 if that went well, and else says why not.
pub const PROBE_COMMAND: &str = "probe";

/// The line that a supervisor writes to its standard output once its namespaces are made and
/// its socket listens; anything else is the text of an error.
pub(crate) const READY: &str = "ready";

/// The file of a pod's folder that a supervisor is started with.
pub(crate) const PLAN_FILE: &str = "plan.json";

/// The socket of a pod's supervisor.
#[must_use]
pub fn socket_path(run_dir: &Path, uid: &str) -> std::path::PathBuf {
    run_dir.join("pods").join(format!("{uid}.sock"))
}

/// Runs one pod to its end. `args` are the plan's path and the socket's.
///
/// To be called before the process has a second thread.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let sealed = seal::seal();
    crate::sys::heap::keep_small();
    // What `ps` and `top` show instead of the link that was executed. Works as well without.
    let _unnamed = rustix::thread::set_name(c"keel-supervisor");
    let mut args = args.into_iter();
    let (Some(plan), Some(socket), None) = (args.next(), args.next(), args.next()) else {
        init::say("usage: supervise PLAN SOCKET");
        return ExitCode::from(2);
    };
    match init::set_up(Path::new(&plan), Path::new(&socket), sealed) {
        Ok(shell) => match shell.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    init::say(&text);
    ExitCode::FAILURE
}
