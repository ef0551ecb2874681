//! Stopping pods because the machine goes down: they go on when it is up again.

use super::{PodError, Runtime};
use crate::state::Stage;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// How long a supervisor may take to hear a signal.
const HEAR: Duration = Duration::from_secs(5);

impl Runtime {
    /// The pod was asked to end within the grace, as a shutdown of the machine asks: whatever its
    /// containers exit with, it is started again when it is next created.
    ///
    /// # Errors
    /// [`PodError`] if the pod has no supervisor, or it refuses.
    pub async fn interrupt(&self, uid: &str, grace_seconds: u32) -> Result<(), PodError> {
        let not_running = || PodError::NotRunning { uid: uid.to_owned() };
        self.shared.link(uid).ok_or_else(not_running)?;
        let supervisor = self.shared.pods().get(uid).map(|pod| pod.state.supervisor_pid);
        let supervisor = supervisor.and_then(Pid::from_raw).ok_or_else(not_running)?;
        kill_process(supervisor, Signal::TERM).map_err(|_| not_running())?;
        let mut changes = self.changes();
        let heard = async { while self.is_up(uid) && changes.changed().await.is_ok() {} };
        // First the signal, which says that it is an interruption, then the shorter grace.
        let _ = tokio::time::timeout(HEAR, heard).await;
        match self.shared.link(uid) {
            Some(_) => self.stop(uid, grace_seconds).await,
            None => Ok(()),
        }
    }

    fn is_up(&self, uid: &str) -> bool {
        let pods = self.shared.pods();
        pods.get(uid).is_some_and(|pod| matches!(pod.state.stage, Stage::Created | Stage::Started))
    }
}
