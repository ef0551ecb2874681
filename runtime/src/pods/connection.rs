//! The connection to one supervisor: its states come in, requests go out.

use super::{PodError, Shared};
use crate::state::{ContainerState, PodState, Stage};
use crate::supervisor::protocol::{Reply, Request, VERSION};
use crate::supervisor::read_status;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for one supervisor.
const QUEUE: usize = 16;
/// How long a supervisor may take to say how its pod is: it has nothing to do for that but to
/// write it down.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = oneshot::Sender<Result<(), PodError>>;

/// A way to ask a pod's supervisor.
#[derive(Debug, Clone)]
pub(super) struct Link {
    requests: mpsc::Sender<(Request, Answer)>,
}

impl Link {
    pub(super) async fn ask(&self, request: Request) -> Result<(), PodError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send((request, answer)).await.map_err(|_| PodError::Ended)?;
        answered.await.map_err(|_| PodError::Ended)?
    }
}

/// A subscribed connection, and the state that it began with.
#[derive(Debug)]
pub(super) struct Connection {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    pub(super) state: PodState,
    /// Of what the supervisor speaks.
    version: u32,
}

/// The oldest supervisor that is understood: one that knows of no probes.
const OLDEST: u32 = 1;
/// From here on supervisors say themselves what is ready.
const SAYS_READY: u32 = 2;

/// What an old supervisor reports, in today's words.
fn translated(mut state: PodState, version: u32) -> PodState {
    if version < SAYS_READY {
        for container in state.init_containers.iter_mut().chain(&mut state.containers) {
            let runs = matches!(container.state, ContainerState::Running { .. });
            (container.started, container.ready) = (runs, runs);
        }
    }
    state
}

impl Connection {
    /// Of the supervisor that listens at `path`.
    ///
    /// # Errors
    /// If nobody listens there, or who does says nothing in time, or nothing that is understood.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        Self::open_within(path, PATIENCE).await
    }

    async fn open_within(path: &Path, patience: Duration) -> io::Result<Self> {
        // Tokio's own error says less.
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the supervisor says nothing");
        tokio::time::timeout(patience, Self::greet(path)).await.map_err(late)?
    }

    async fn greet(path: &Path) -> io::Result<Self> {
        let (read, mut write) = UnixStream::connect(path).await?.into_split();
        write.write_all(&encode(&Request::Subscribe)).await?;
        let mut lines = BufReader::with_capacity(1024, read).lines();
        let version = match next(&mut lines).await? {
            Reply::Hello { version: version @ OLDEST..=VERSION } => version,
            other @ (Reply::Hello { .. }
            | Reply::Done
            | Reply::Attached { .. }
            | Reply::Exited { .. }
            | Reply::State(_)
            | Reply::Error { .. }) => {
                return Err(io::Error::other(format!("the supervisor greets with {other:?}")));
            }
        };
        match next(&mut lines).await? {
            Reply::State(state) => Ok(Self { lines, write, state: translated(*state, version), version }),
            other @ (Reply::Hello { .. }
            | Reply::Done
            | Reply::Attached { .. }
            | Reply::Exited { .. }
            | Reply::Error { .. }) => Err(io::Error::other(format!("the supervisor answers with {other:?}"))),
        }
    }
}

async fn next(lines: &mut Lines<BufReader<OwnedReadHalf>>) -> io::Result<Reply> {
    let line = lines.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_str(&line)?)
}

fn encode(request: &Request) -> Vec<u8> {
    let mut line = serde_json::to_vec(request).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The pod is known from now on, and followed until its supervisor ends.
pub(super) fn serve(shared: &Arc<Shared>, connection: Connection, child: Option<Child>) {
    let (requests, inbox) = mpsc::channel(QUEUE);
    let uid = connection.state.uid.clone();
    let pod = super::Pod { state: Arc::new(connection.state.clone()), link: Some(Link { requests }) };
    shared.pods().insert(uid.clone(), pod);
    shared.changed();
    let shared = Arc::clone(shared);
    // Ends with the supervisor, or with the program.
    tokio::spawn(async move {
        let Some(error) = shared.closed.run_until_cancelled(follow(&shared, &uid, connection, inbox)).await
        else {
            return;
        };
        if let Some(mut child) = child {
            let _ = child.wait().await;
        }
        ended(&shared, &uid, &error).await;
    });
}

/// Carries requests out and states in; returns why it ended.
async fn follow(
    shared: &Shared,
    uid: &str,
    mut connection: Connection,
    mut inbox: mpsc::Receiver<(Request, Answer)>,
) -> io::Error {
    let mut waiting: VecDeque<Answer> = VecDeque::new();
    loop {
        // Both are cancel-safe.
        tokio::select! {
            reply = next(&mut connection.lines) => match reply {
                // It is lost when it has ended, not when it says that it is about to.
                Ok(Reply::State(state)) if state.stage == Stage::Lost => {}
                Ok(Reply::State(state)) => {
                    if let Some(pod) = shared.pods().get_mut(uid) {
                        pod.state = Arc::new(translated(*state, connection.version));
                    }
                    shared.changed();
                }
                Ok(Reply::Hello { .. } | Reply::Attached { .. } | Reply::Exited { .. }) => {}
                Ok(Reply::Done) => answer(&mut waiting, Ok(())),
                Ok(Reply::Error { message }) => answer(&mut waiting, Err(PodError::Refused { message })),
                Err(error) => return error,
            },
            request = inbox.recv() => match request {
                Some((request, answer)) => {
                    waiting.push_back(answer);
                    if let Err(error) = connection.write.write_all(&encode(&request)).await {
                        return error;
                    }
                }
                None => return io::ErrorKind::NotConnected.into(),
            },
        }
    }
}

fn answer(waiting: &mut VecDeque<Answer>, result: Result<(), PodError>) {
    if let Some(answer) = waiting.pop_front() {
        // Who asked may have gone.
        let _ = answer.send(result);
    }
}

/// The supervisor is gone: its pod is `Finished` if it said so, and `Lost` if not.
async fn ended(shared: &Arc<Shared>, uid: &str, error: &io::Error) {
    let folder = shared.options.pod_folder(uid);
    let (cgroups, group) = (shared.cgroups.clone(), shared.group(uid));
    // The last word may have reached the disk only.
    let last = tokio::task::spawn_blocking(move || {
        let last = read_status(&folder);
        if last.as_ref().is_none_or(|state| state.stage != Stage::Finished) {
            cgroups.kill(&group);
        }
        last
    });
    let last = last.await.ok().flatten();
    if let Some(pod) = shared.pods().get_mut(uid) {
        match last {
            Some(state) if state.stage == Stage::Finished => pod.state = Arc::new(state),
            last => {
                tracing::warn!(uid, %error, "a pod's supervisor is lost");
                let mut state = last.unwrap_or_else(|| PodState::clone(&pod.state));
                state.stage = Stage::Lost;
                pod.state = Arc::new(state);
            }
        }
        pod.link = None;
    }
    shared.changed();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_supervisor_that_says_nothing_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("mute.sock");
        let mute = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        // The kernel takes the connection, and whoever should read it does not.
        let opened = Connection::open_within(&path, Duration::from_millis(50)).await;
        assert_eq!(opened.expect_err("no answer").kind(), io::ErrorKind::TimedOut);
        // Nor one that begins to speak and then hangs.
        let speaker = std::thread::spawn(move || {
            // The connection that was given up is the first in the queue.
            let _first = mute.accept().expect("a connection");
            let (mut second, _) = mute.accept().expect("a connection");
            let hello = serde_json::to_string(&Reply::Hello { version: VERSION }).expect("JSON");
            std::io::Write::write_all(&mut second, hello.as_bytes()).expect("a write");
            std::io::Write::write_all(&mut second, b"\n").expect("a write");
            second
        });
        let opened = Connection::open_within(&path, Duration::from_millis(50)).await;
        assert_eq!(opened.expect_err("no state").kind(), io::ErrorKind::TimedOut);
        drop(speaker.join().expect("the speaker"));
    }
}
