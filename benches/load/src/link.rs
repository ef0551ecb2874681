//! A way between members over Unix sockets, for as long as the agent's is not measured: frames
//! of a length, a number, a topic or outcome, and a body.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::future::BoxFuture;
use reconciler::peer::{Answerer, CallError, Peer, Topic, Transport};
use reconciler::store::Cluster;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

const ANSWERED: u8 = 0;
const REFUSED: u8 = 1;

struct Frame {
    number: u64,
    mark: u8,
    body: Bytes,
}

/// Who waits for which answer; none once the connection is gone.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Frame>>>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection to a peer.
#[derive(Clone)]
struct Link {
    frames: mpsc::UnboundedSender<Frame>,
    pending: Pending,
}

/// The way to all peers, whose addresses are paths of sockets.
pub(crate) struct Links {
    runtime: Handle,
    links: Mutex<HashMap<String, Link>>,
    next: AtomicU64,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

impl Links {
    pub(crate) fn new(runtime: Handle) -> Arc<Self> {
        Arc::new(Self { runtime, links: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// The connection to `path`, made if there is none that works.
    fn link(&self, path: &str) -> io::Result<Link> {
        let mut links = locked(&self.links);
        if let Some(link) = links.get(path).filter(|link| locked(&link.pending).is_some()) {
            return Ok(link.clone());
        }
        // A local socket answers at once or not at all.
        let stream = std::os::unix::net::UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        let _context = self.runtime.enter();
        let (read, write) = UnixStream::from_std(stream)?.into_split();
        let (frames, queue) = mpsc::unbounded_channel();
        let link = Link { frames, pending: Arc::new(Mutex::new(Some(HashMap::new()))) };
        let pending = Arc::clone(&link.pending);
        let writing = self.runtime.spawn(send(write, queue));
        self.runtime.spawn(async move {
            // However it ends, whoever waits is told by the loss of its sender.
            drop(take(read, &pending).await);
            *locked(&pending) = None;
            writing.abort();
        });
        links.insert(path.to_owned(), link.clone());
        Ok(link)
    }
}

impl Transport for Links {
    fn call(
        &self,
        peer: Peer,
        topic: Topic,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let Peer { name, address, .. } = peer;
        let link = match self.link(&address) {
            Ok(link) => link,
            Err(source) => {
                return Box::pin(async { Err(CallError::Unreachable { peer: name, source: source.into() }) });
            }
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        // A sender that nobody takes is dropped, which says that there will be no answer.
        drop(locked(&link.pending).as_mut().map(|pending| pending.insert(number, sender)));
        let sent = link.frames.send(Frame { number, mark: topic as u8, body });
        Box::pin(async move {
            let unanswered =
                |source: &'static str| CallError::Unanswered { peer: name.clone(), source: source.into() };
            sent.map_err(|_| unanswered("the connection is gone"))?;
            let answered = tokio::time::timeout(within, answer).await;
            drop(locked(&link.pending).as_mut().and_then(|pending| pending.remove(&number)));
            let frame = answered
                .map_err(|_| unanswered("no answer in time"))?
                .map_err(|_| unanswered("the connection broke"))?;
            if frame.mark == ANSWERED {
                return Ok(frame.body);
            }
            let reason = String::from_utf8_lossy(&frame.body).into_owned();
            Err(CallError::Refused { peer: name, reason })
        })
    }
}

/// Sends what is in the queue; all that waits goes at once.
async fn send(mut write: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Frame>) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        put(&mut bytes, &frame);
        while let Ok(frame) = queue.try_recv() {
            put(&mut bytes, &frame);
        }
        write.write_all_buf(&mut bytes).await?;
    }
    Ok(())
}

fn put(bytes: &mut BytesMut, frame: &Frame) {
    bytes.put_u64(frame.body.len() as u64 + 9);
    bytes.put_u64(frame.number);
    bytes.put_u8(frame.mark);
    bytes.put_slice(&frame.body);
}

/// The next frame of a connection; none at its end.
async fn next(read: &mut OwnedReadHalf, bytes: &mut BytesMut) -> io::Result<Option<Frame>> {
    loop {
        if let Some((head, _)) = bytes.split_first_chunk::<8>() {
            let length = usize::try_from(u64::from_be_bytes(*head)).map_err(io::Error::other)?;
            if bytes.len() >= 8 + length {
                bytes.advance(8);
                let mut frame = bytes.split_to(length).freeze();
                return Ok(Some(Frame { number: frame.get_u64(), mark: frame.get_u8(), body: frame }));
            }
            bytes.reserve(8 + length - bytes.len());
        }
        if read.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

async fn take(mut read: OwnedReadHalf, pending: &Pending) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = next(&mut read, &mut bytes).await? {
        let waiting = locked(pending).as_mut().and_then(|pending| pending.remove(&frame.number));
        if let Some(waiting) = waiting {
            // Whoever asked may have given up.
            drop(waiting.send(frame));
        }
    }
    Ok(())
}

/// Answers what peers ask at `socket`, for ever.
pub(crate) fn answer(socket: &Path, cluster: Cluster) -> io::Result<()> {
    let listener = UnixListener::bind(socket)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let cluster = cluster.clone();
            // A peer that is gone has gone.
            tokio::spawn(async move { drop(serve(stream, cluster).await) });
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, cluster: Cluster) -> io::Result<()> {
    let (mut read, write) = stream.into_split();
    let (frames, queue) = mpsc::unbounded_channel();
    tokio::spawn(send(write, queue));
    let mut bytes = BytesMut::new();
    while let Some(Frame { number, mark, body }) = next(&mut read, &mut bytes).await? {
        let (cluster, frames) = (cluster.clone(), frames.clone());
        tokio::spawn(async move {
            let answer = match Topic::of(mark) {
                Some(topic) => cluster.answer("peer".into(), topic, body).await,
                None => Err(format!("there is no topic {mark}")),
            };
            let (mark, body) = match answer {
                Ok(body) => (ANSWERED, body),
                Err(reason) => (REFUSED, reason.into()),
            };
            drop(frames.send(Frame { number, mark, body }));
        });
    }
    Ok(())
}
