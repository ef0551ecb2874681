//! The program and its environment, and the exec.

use super::error::Failure;
use super::user::Identity;
use manifests::habits::Socket;
use nix::errno::Errno;
use nix::unistd::execve;
use oci_spec::runtime::Process;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be executed.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Nothing is looked up yet: permission to see a file is the program's own.
    pub(super) fn of(process: &Process, identity: &Identity) -> Self {
        let arguments = process.args().clone().unwrap_or_default();
        let mut environment = process.env().clone().unwrap_or_default();
        if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
            environment.push(format!("HOME={}", identity.home));
        }
        let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        let name = arguments.first().cloned().unwrap_or_default();
        Self {
            candidates: c_strings(&candidates(&name, path.unwrap_or(DEFAULT_PATH))),
            arguments: c_strings(&arguments),
            environment: c_strings(&environment),
            name,
        }
    }

    /// The program is told of the sockets that it has from descriptor 3 on, as
    /// sd_listen_fds(3) expects it. To be called by the process that executes it.
    pub(super) fn listens_to(&mut self, sockets: &[Socket]) {
        if sockets.is_empty() {
            return;
        }
        let names: Vec<&str> = sockets.iter().map(|socket| socket.name.as_str()).collect();
        self.environment.extend(c_strings(&[
            format!("LISTEN_PID={}", std::process::id()),
            format!("LISTEN_FDS={}", sockets.len()),
            format!("LISTEN_FDNAMES={}", names.join(":")),
        ]));
    }

    /// Becomes the program, or says why not.
    pub(super) fn execute(&self) -> Failure {
        let mut worst = Errno::ENOENT;
        for candidate in &self.candidates {
            let Err(error) = execve(candidate, &self.arguments, &self.environment);
            #[allow(clippy::wildcard_enum_match_arm, reason = "every other error is final")]
            match error {
                Errno::ENOENT | Errno::ENOTDIR => {}
                // As execvp does: go on looking, and remember that something was there.
                Errno::EACCES => worst = error,
                other => return Failure::exec(&self.name, io::Error::from(other)),
            }
        }
        Failure::exec(&self.name, io::Error::from(worst))
    }
}

/// Becomes our own program with its command `probe`; says why it could not.
pub(super) fn become_own(words: &[String], output: &OwnedFd) -> io::Error {
    let become_it = || -> io::Result<Infallible> {
        let null = std::fs::File::open("/dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(output)?;
        nix::unistd::dup2_stderr(output)?;
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        crate::sys::signals::reset();
        let mut arguments = vec!["keel".to_owned(), crate::supervisor::PROBE_COMMAND.to_owned()];
        arguments.extend(words.iter().cloned());
        Ok(execve(c"/proc/self/exe", &c_strings(&arguments), &[] as &[CString])?)
    };
    match become_it() {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// A text with a NUL cannot be given to a program: it is cut there, as C would.
fn c_strings(texts: &[String]) -> Vec<CString> {
    let cut = |text: &String| {
        let bytes: Vec<u8> = text.bytes().take_while(|byte| *byte != 0).collect();
        CString::new(bytes).unwrap_or_default()
    };
    texts.iter().map(cut).collect()
}

fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let folder = |folder: &str| if folder.is_empty() { "." } else { folder }.to_owned();
    path.split(':').map(|part| format!("{}/{name}", folder(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_for_along_the_path() {
        assert_eq!(candidates("sh", "/bin::/usr/bin"), ["/bin/sh", "./sh", "/usr/bin/sh"]);
        assert_eq!(candidates("./run", "/bin"), ["./run"]);
        assert!(candidates("", "/bin").is_empty());
    }
}
