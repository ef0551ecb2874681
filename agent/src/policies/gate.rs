//! Where pods wait until the policies that select them are in force.

use manifests::Object;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How many pods may wait before those who bring them do.
const QUEUE: usize = 256;

/// Why a pod is not let in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

/// The way in, for pods of this node.
#[derive(Debug, Clone)]
pub(crate) struct Gate(mpsc::Sender<Admission>);

/// The other side of it.
#[derive(Debug)]
pub(crate) struct Line {
    queue: mpsc::Receiver<Admission>,
    /// So that it never ends by itself.
    _gate: Gate,
}

/// A pod that waits.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) pod: Arc<Object>,
    pub(super) addresses: Vec<IpAddr>,
    reply: oneshot::Sender<Result<(), Refused>>,
}

impl Gate {
    /// A gate, and where pods come out.
    pub(crate) fn new() -> (Self, Line) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let gate = Self(sender);
        (gate.clone(), Line { queue, _gate: gate })
    }

    /// Whatever selects the pod is in force for its addresses.
    ///
    /// # Errors
    /// If something does, and cannot be put into force.
    pub(crate) async fn pass(&self, pod: Arc<Object>, addresses: Vec<IpAddr>) -> Result<(), Refused> {
        let ended = || Refused("network policies are not looked after any more".into());
        let (reply, answer) = oneshot::channel();
        self.0.send(Admission { pod, addresses, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Line {
    /// Who waits next.
    ///
    /// # Cancel safety
    /// Nobody is lost when dropped.
    pub(super) async fn next(&mut self) -> Admission {
        match self.queue.recv().await {
            Some(admission) => admission,
            None => std::future::pending().await,
        }
    }
}

impl Admission {
    /// It may start.
    pub(super) fn allow(self) {
        // Who does not wait any more need not hear it.
        drop(self.reply.send(Ok(())));
    }

    /// It may not.
    pub(super) fn refuse(self, why: &str) {
        drop(self.reply.send(Err(Refused(why.to_owned()))));
    }
}
