//! Plugins are programs: found in folders, called, and given up after a time.

use super::failure::Failure;
use super::request::Command as Word;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::fs::{Access, access};
use serde_json::Value;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// More than that no plugin has to say, in bytes.
const MOST_OUTPUT: u64 = 1 << 20;
/// How often a program is tried that somebody is just writing.
const BUSY_ATTEMPTS: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// Why a plugin did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such program.
    #[error("plugin {plugin:?} is in none of the folders {}", listed(.folders))]
    Missing {
        /// Its name.
        plugin: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// It is a file that nobody may execute.
    #[error("plugin {} is not executable", .path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// It could not be started.
    #[error("cannot run plugin {}", .path.display())]
    Start {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not end in time.
    #[error("plugin {plugin:?} ({command}) did not end within {seconds} s and was killed")]
    Timeout {
        /// Its name.
        plugin: String,
        /// What it was asked.
        command: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// It said that it failed.
    #[error("plugin {plugin:?} failed ({command}): {failure}")]
    Failed {
        /// Its name.
        plugin: String,
        /// What it was asked.
        command: &'static str,
        /// In its own words.
        failure: Failure,
    },
    /// It said nothing that could be understood.
    #[error("plugin {plugin:?} ({command}) gave no result that can be understood: {reason}")]
    Nonsense {
        /// Its name.
        plugin: String,
        /// What it was asked.
        command: &'static str,
        /// What is wrong.
        reason: String,
    },
}

fn listed(all: &[PathBuf]) -> String {
    all.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Where plugins are, and how long one may take.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) folders: Vec<PathBuf>,
    pub(super) timeout: Duration,
}

/// One call of one plugin.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) plugin: &'a str,
    pub(super) command: Word,
    pub(super) environment: Vec<(&'static str, OsString)>,
    pub(super) input: Value,
}

impl Programs {
    /// The plugin's file, in the first folder that has one.
    ///
    /// # Errors
    /// If there is none, or it cannot be executed.
    pub(super) fn find(&self, plugin: &str) -> Result<PathBuf, CallError> {
        let found = self.folders.iter().map(|folder| folder.join(plugin)).find(|path| path.is_file());
        let missing = || CallError::Missing { plugin: plugin.to_owned(), folders: self.folders.clone() };
        let path = found.ok_or_else(missing)?;
        if access(&path, Access::EXEC_OK).is_err() {
            return Err(CallError::NotExecutable { path });
        }
        Ok(path)
    }

    /// The plugin has done what it was asked; returns what it said.
    ///
    /// # Errors
    /// [`CallError`].
    ///
    /// # Cancel safety
    /// The plugin is killed when dropped.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, CallError> {
        let path = self.find(call.plugin)?;
        let (plugin, command) = (call.plugin.to_owned(), call.command.word());
        let start = |source| CallError::Start { path: path.clone(), source };
        let mut child = spawn(&path, &call.environment).await.map_err(start)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let said = tokio::time::timeout(self.timeout, converse(&mut child, &call.input)).await;
        let (status, stdout, stderr) = match said {
            Ok(said) => said.map_err(start)?,
            Err(_) => {
                // With whatever it has started itself.
                let _ = group.map(|group| killpg(Pid::from_raw(group), Signal::SIGKILL));
                let _ = child.kill().await;
                return Err(CallError::Timeout { plugin, command, seconds: self.timeout.as_secs() });
            }
        };
        if status.success() {
            return Ok(stdout);
        }
        let mut failure = Failure::read(&stdout, &stderr);
        if stdout.is_empty() && stderr.is_empty() {
            failure.message = format!("it ended with {status} and gave no reason");
        }
        Err(CallError::Failed { plugin, command, failure })
    }
}

async fn spawn(path: &Path, environment: &[(&'static str, OsString)]) -> io::Result<Child> {
    let mut attempt = 0;
    loop {
        let mut command = Command::new(path);
        let environment = environment.iter().map(|(key, value)| (key, value));
        command.envs(environment).current_dir("/").kill_on_drop(true).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && attempt < BUSY_ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            spawned => return spawned,
        }
    }
}

type Said = (std::process::ExitStatus, Vec<u8>, Vec<u8>);

async fn converse(child: &mut Child, input: &Value) -> io::Result<Said> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let bytes = input.to_string().into_bytes();
    let write = async move {
        if let Some(mut stdin) = stdin {
            // Who does not want to read it need not.
            let _ = stdin.write_all(&bytes).await;
        }
    };
    let ((), stdout, stderr, status) = tokio::join!(write, read(stdout), read(stderr), child.wait());
    Ok((status?, stdout?, stderr?))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(MOST_OUTPUT).read_to_end(&mut bytes).await?;
        // The rest, so that it need not wait for us.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}
