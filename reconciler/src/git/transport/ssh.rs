//! Git's smart protocol through the OpenSSH client, which knows keys, agents,
//! certificates and hosts better than a library would.

use super::{Endpoint, Fault, Session};
use crate::git::credentials;
use crate::git::error::GitError;
use crate::git::limits::Limits;
use crate::git::location::SshLocation;
use manifests::config::GitAuth;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

const CHUNK_BYTES: usize = 32 << 10;
/// Of the client's complaints; the first lines tell.
const MAX_COMPLAINT_BYTES: u64 = 4 << 10;
/// How long a client that has closed its output may take to say why.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How the ssh client is called for one fetch.
#[derive(Debug)]
pub(in crate::git) struct SshEndpoint {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl SshEndpoint {
    /// The call of `program` for `location`. Hosts that are met for the first time are
    /// noted in `dir`, unless there is a `knownHostsFile`.
    ///
    /// # Errors
    /// [`GitError::CredentialFile`] for a key or `known_hosts` file that cannot be read.
    pub(in crate::git) fn new(
        program: &Path,
        auth: &GitAuth,
        location: &SshLocation,
        limits: &Limits,
        dir: &Path,
    ) -> Result<Self, GitError> {
        let mut options = vec![
            "BatchMode=yes".into(),
            format!("ConnectTimeout={}", limits.connect_timeout.as_secs().max(1)),
            "ServerAliveInterval=15".into(),
            "ServerAliveCountMax=3".into(),
            "ForwardAgent=no".into(),
            "ClearAllForwardings=yes".into(),
        ];
        if let Some(file) = &auth.known_hosts_file {
            credentials::check_readable(file)?;
            options.push("StrictHostKeyChecking=yes".into());
            options.push(format!("UserKnownHostsFile={}", quoted_file(file)?));
            options.push("GlobalKnownHostsFile=/dev/null".into());
        } else {
            options.push("StrictHostKeyChecking=accept-new".into());
            let noted = quoted_file(&dir.join("known_hosts"))?;
            options.push(format!("UserKnownHostsFile={noted} ~/.ssh/known_hosts"));
        }
        let mut arguments = Vec::<OsString>::new();
        if let Some(file) = &auth.ssh_key_file {
            credentials::check_readable(file)?;
            options.push("IdentitiesOnly=yes".into());
            arguments.extend(["-i".into(), file.into()]);
        }
        for option in options {
            arguments.extend(["-o".into(), option.into()]);
        }
        if let Some(port) = location.port {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        let command = format!("git-upload-pack '{}'", location.path.replace('\'', "'\\''"));
        arguments.extend(["--".into(), location.destination.clone().into(), command.into()]);
        Ok(Self { program: program.to_owned(), arguments })
    }
}

/// A file name as ssh_config(5) reads it: blanks inside quotes, `%` doubled.
fn quoted_file(path: &Path) -> Result<String, GitError> {
    let invalid = || {
        let reason = io::Error::new(ErrorKind::InvalidInput, "ssh takes no such file name");
        credentials::unusable(path.to_owned(), reason)
    };
    let text = path.to_str().ok_or_else(invalid)?;
    if text.contains(['"', '\n', '\\']) {
        Err(invalid())
    } else {
        Ok(format!("\"{}\"", text.replace('%', "%%")))
    }
}

/// A running ssh client, ended when dropped.
pub(super) struct Connection {
    session: Arc<Session>,
    client: Child,
    input: ChildStdin,
    output: Receiver<io::Result<Vec<u8>>>,
    complaint: Receiver<String>,
    chunk: Vec<u8>,
    read: usize,
}

impl Connection {
    /// Starts the client.
    pub(super) fn open(session: Arc<Session>) -> Result<Self, Fault> {
        let Endpoint::Ssh(endpoint) = &session.endpoint else { return Err(Fault::NotGit) };
        let failed = |source| Fault::Spawn { program: endpoint.program.clone(), source };
        let mut client = Command::new(&endpoint.program)
            .args(&endpoint.arguments)
            .env("LC_ALL", "C")
            .env_remove("GIT_PROTOCOL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(input), Some(output), Some(errors)) =
            (client.stdin.take(), client.stdout.take(), client.stderr.take())
        else {
            return Err(Fault::NotGit);
        };
        let (chunks, output_receiver) = sync_channel(4);
        let (said, complaint) = sync_channel(1);
        // Both end with the client: its pipes close, and its death is certain on drop.
        thread::spawn(move || pump(output, &chunks));
        thread::spawn(move || listen(errors, &said));
        let (chunk, read) = (Vec::new(), 0);
        Ok(Self { session, client, input, output: output_receiver, complaint, chunk, read })
    }

    fn next_chunk(&mut self) -> Result<(), Fault> {
        let patience = self.session.patience()?;
        match self.output.recv_timeout(patience) {
            Ok(Ok(chunk)) => {
                (self.chunk, self.read) = (chunk, 0);
                Ok(())
            }
            Ok(Err(error)) => Err(Fault::Broken(error)),
            Err(RecvTimeoutError::Timeout) => Err(self.session.timed_out(patience)),
            Err(RecvTimeoutError::Disconnected) => Err(self.last_words()),
        }
    }

    /// Why the client ended.
    fn last_words(&mut self) -> Fault {
        let said = self.complaint.recv_timeout(LAST_WORDS).unwrap_or_default();
        fault_of(&said)
    }
}

fn pump(mut output: impl Read, chunks: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let next = match output.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                chunk.truncate(length);
                Ok(chunk)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = next.is_err();
        if chunks.send(next).is_err() || last {
            return;
        }
    }
}

fn listen(mut errors: impl Read, said: &SyncSender<String>) {
    let mut bytes = Vec::new();
    let first = errors.by_ref().take(MAX_COMPLAINT_BYTES).read_to_end(&mut bytes);
    // The rest is read and dropped, or the client would block on a full pipe.
    let rest = io::copy(&mut errors, &mut io::sink());
    if first.is_ok() || rest.is_ok() {
        said.send(String::from_utf8_lossy(&bytes).into_owned()).ok();
    }
}

/// What the client's complaint means. OpenSSH's and the big hosts' words.
fn fault_of(said: &str) -> Fault {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        return Fault::HostKey;
    }
    if has(&["Permission denied", "Too many authentication failures"]) {
        return Fault::Denied;
    }
    if has(&["does not appear to be a git repository", "Repository not found", "repository not found"]) {
        return Fault::NotFound;
    }
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Warning:"));
    let said = lines.take(3).collect::<Vec<_>>().join("; ");
    let said: String = said.chars().filter(|letter| !letter.is_control()).take(300).collect();
    Fault::Ssh { said: if said.is_empty() { "it ended without a word".into() } else { said } }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.chunk.len()
            && let Err(fault) = self.next_chunk()
        {
            return Err(self.session.fail(fault));
        }
        let length = buffer.len().min(self.chunk.len() - self.read);
        buffer[..length].copy_from_slice(&self.chunk[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.write(bytes).map_err(|error| {
            let ended = error.kind() == ErrorKind::BrokenPipe;
            let fault = if ended { self.last_words() } else { Fault::Broken(error) };
            self.session.fail(fault)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Either fails only if the client is gone already.
        self.client.kill().ok();
        self.client.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_words_name_the_fault() {
        assert!(matches!(fault_of("git@h: Permission denied (publickey).\n"), Fault::Denied));
        assert!(matches!(fault_of("Host key verification failed.\r\n"), Fault::HostKey));
        assert!(matches!(fault_of("ERROR: Repository not found.\n"), Fault::NotFound));
        let other = fault_of("Warning: x\nssh: connect to host h port 22: Connection refused\r\n");
        assert_eq!(
            other.to_string(),
            "the ssh client says: ssh: connect to host h port 22: Connection refused"
        );
    }
}
