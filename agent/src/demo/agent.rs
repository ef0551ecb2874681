//! The demo's agent: a child process of the same executable.

use super::DemoError;
use super::stage::Stage;
use std::fs::OpenOptions;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long the agent may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running agent.
pub(super) struct Agent {
    child: Child,
    pid: u32,
}

impl Agent {
    /// An agent runs with the stage's configuration, and has said that it is ready.
    ///
    /// # Errors
    /// If it cannot be started, ends at once, or is not ready in time.
    pub(super) async fn start(stage: &Stage) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(DemoError::Start)?;
        let log =
            OpenOptions::new().create(true).append(true).open(stage.agent_log()).map_err(DemoError::Start)?;
        // It tells us as it would tell systemd.
        let told = stage.folder.join("notify.sock");
        let _stale = std::fs::remove_file(&told);
        let ready = UnixDatagram::bind(&told).map_err(DemoError::Start)?;
        let mut command = Command::new(program);
        command.arg("agent").arg("--config").arg(stage.configuration());
        command.env("NOTIFY_SOCKET", &told).env_remove("JOURNAL_STREAM");
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(DemoError::Start)?).stderr(log);
        // A Ctrl-C at the terminal is for the demo, which then ends the agent itself.
        command.process_group(0);
        let mut child = command.spawn().map_err(DemoError::Start)?;
        let Some(pid) = child.id() else { return Err(DemoError::AgentEnded) };
        tokio::select! {
            result = timeout(PATIENCE, said_ready(&ready)) => match result {
                Ok(result) => result.map_err(DemoError::Start)?,
                Err(_late) => {
                    // Not ready is of no use; what remains of it is swept away.
                    let _killed = child.kill().await;
                    return Err(DemoError::Late { what: "the agent to be ready".into() });
                }
            },
            _ended = child.wait() => return Err(DemoError::AgentEnded),
        }
        Ok(Self { child, pid })
    }

    /// Its process.
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// It is gone, by SIGKILL.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) async fn kill(mut self) -> Result<(), DemoError> {
        self.child.kill().await.map_err(DemoError::Stop)
    }

    /// It has ended in good order, asked by SIGTERM.
    ///
    /// # Errors
    /// If it does not end in time, or badly.
    pub(super) async fn stop(mut self) -> Result<(), DemoError> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(|errno| DemoError::Stop(errno.into()))?;
        }
        let status: ExitStatus = match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.map_err(DemoError::Stop)?,
            Err(_late) => {
                self.kill().await?;
                return Err(DemoError::Late { what: "the agent to stop".into() });
            }
        };
        if status.success() { Ok(()) } else { Err(DemoError::AgentEnded) }
    }
}

async fn said_ready(socket: &UnixDatagram) -> std::io::Result<()> {
    let mut message = [0; 4096];
    loop {
        let length = socket.recv(&mut message).await?;
        if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(());
        }
    }
}
