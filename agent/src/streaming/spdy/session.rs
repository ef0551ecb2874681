//! One connection with its streams.
//!
//! A peer's window is obeyed as soon as it shows that it has one: the clients of Kubernetes
//! never do, and would be waited for in vain.

use super::frame::{Decoder, Encoder, Frame, Headers};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a stream holds of data that nobody has taken yet, in frames.
const QUEUE: usize = 16;
/// The most in one data frame.
const CHUNK: usize = 32 * 1024;
/// The most streams at once.
const MAX_STREAMS: usize = 1024;
/// How large a window is before anybody speaks of it.
const FIRST_WINDOW: i64 = 64 * 1024;
/// How long a peer may take to close its side after ours is closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The window of this is that of all streams together.
const WHOLE_SESSION: u32 = 0;
/// The window of a stream that the peer has cancelled.
const CANCELLED: i64 = i64::MIN;

const INITIAL_WINDOW_SIZE: u32 = 7;
const REFUSED_STREAM: u32 = 3;
const CANCEL: u32 = 5;

/// How much may be sent; `None` while the peer has said nothing of windows.
type Window = watch::Sender<Option<i64>>;

/// A connection, as whoever takes its streams sees it.
#[derive(Debug)]
pub(crate) struct Session {
    incoming: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Frame>,
    ended: CancellationToken,
    task: JoinHandle<()>,
}

/// A stream that the peer opened, and that was replied to.
#[derive(Debug)]
pub(crate) struct Stream {
    headers: Headers,
    pub(crate) reader: StreamReader,
    pub(crate) writer: StreamWriter,
}

/// What the peer sends on a stream.
#[derive(Debug)]
pub(crate) struct StreamReader {
    id: u32,
    data: mpsc::Receiver<Bytes>,
    frames: mpsc::Sender<Frame>,
}

/// What is sent to the peer on a stream. Dropped unfinished, it cancels the stream.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    id: u32,
    frames: mpsc::Sender<Frame>,
    window: Arc<Window>,
    session: Arc<Window>,
    finished: bool,
}

/// The peer is gone, or has cancelled the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed")]
pub(crate) struct Closed;

impl Session {
    /// Speaks on `io` until either side ends it.
    pub(crate) fn start(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (accept, incoming) = mpsc::channel(QUEUE);
        let (frames, outgoing) = mpsc::channel(QUEUE);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let writing = frames.clone();
        let task = tokio::spawn(async move {
            let _ended = guard;
            speak(io, accept, writing, outgoing).await;
        });
        Self { incoming, frames, ended, task }
    }

    /// Cancelled when the connection has ended.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// The next stream that the peer opens; `None` when there will be no more.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Everything that was written is sent, and the connection closed.
    pub(crate) async fn close(self) {
        let Self { incoming, frames, mut task, .. } = self;
        let _ = frames.send(Frame::GoAway { last: 0, status: 0 }).await;
        drop((incoming, frames));
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            task.abort();
        }
    }
}

impl Stream {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl StreamReader {
    /// What comes next; `None` at the end.
    pub(crate) async fn read(&mut self) -> Option<Bytes> {
        let bytes = self.data.recv().await?;
        let delta = u32::try_from(bytes.len()).unwrap_or(0);
        for stream in [self.id, WHOLE_SESSION].into_iter().filter(|_| delta > 0) {
            // The connection may be gone, and with it all that is still to come.
            let _ = self.frames.send(Frame::WindowUpdate { stream, delta }).await;
        }
        Some(bytes)
    }
}

impl StreamWriter {
    /// All of it is on its way, as fast as the peer takes it.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let allowed = self.allowed(rest.len().min(CHUNK)).await?;
            let (now, later) = rest.split_at(allowed);
            rest = later;
            let frame = Frame::Data { stream: self.id, fin: false, bytes: now.to_vec() };
            self.frames.send(frame).await.map_err(|_| Closed)?;
        }
        Ok(())
    }

    /// How much of `wanted` may be sent now; it counts as sent.
    async fn allowed(&self, wanted: usize) -> Result<usize, Closed> {
        let (mut own, mut whole) = (self.window.subscribe(), self.session.subscribe());
        loop {
            if *own.borrow_and_update() == Some(CANCELLED) {
                return Err(Closed);
            }
            whole.borrow_and_update();
            let granted = take(&self.window, wanted);
            let both = take(&self.session, granted);
            give_back(&self.window, granted - both);
            if both > 0 {
                return Ok(both);
            }
            tokio::select! {
                changed = own.changed() => changed.map_err(|_| Closed)?,
                changed = whole.changed() => changed.map_err(|_| Closed)?,
                () = self.frames.closed() => return Err(Closed),
            }
        }
    }

    /// Returns when the peer is gone, or has cancelled the stream.
    pub(crate) async fn closed(&self) {
        let mut own = self.window.subscribe();
        let cancelled = own.wait_for(|window| *window == Some(CANCELLED));
        tokio::select! {
            _ = cancelled => {}
            () = self.frames.closed() => {}
        }
    }

    /// Nothing more comes from us; the other direction may go on.
    pub(crate) async fn finish(mut self) {
        self.finished = true;
        let frame = Frame::Data { stream: self.id, fin: true, bytes: Vec::new() };
        // The peer may be gone.
        let _ = self.frames.send(frame).await;
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Full or closed: then the connection is about to end anyway.
            let _ = self.frames.try_send(Frame::RstStream { stream: self.id, status: CANCEL });
        }
    }
}

/// As much of `wanted` as the window has, which it then has no more. Nobody is woken.
fn take(window: &Window, wanted: usize) -> usize {
    let mut granted = 0;
    window.send_if_modified(|window| {
        granted = match window {
            None => wanted,
            Some(left) => wanted.min(usize::try_from(*left).unwrap_or(0)),
        };
        if let Some(left) = window {
            *left -= i64::try_from(granted).unwrap_or(0);
        }
        false
    });
    granted
}

/// What was not sent after all. Nobody else waits for it.
fn give_back(window: &Window, count: usize) {
    window.send_if_modified(|window| {
        if let Some(left) = window {
            *left += i64::try_from(count).unwrap_or(0);
        }
        false
    });
}

/// What is known of a stream on the reading side.
#[derive(Debug)]
struct Known {
    /// `None` after the peer has finished.
    data: Option<mpsc::Sender<Bytes>>,
    window: Arc<Window>,
}

/// The reading side of a connection.
#[derive(Debug)]
struct Connection {
    streams: BTreeMap<u32, Known>,
    accept: mpsc::Sender<Stream>,
    /// Weak, so that the writing side ends when all who write have gone.
    frames: mpsc::WeakSender<Frame>,
    /// What new streams begin with.
    initial: Option<i64>,
    session: Arc<Window>,
}

async fn speak(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    accept: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Frame>,
    mut outgoing: mpsc::Receiver<Frame>,
) {
    let (mut read, mut write) = tokio::io::split(io);
    let streams = BTreeMap::new();
    let session = Arc::new(Window::new(None));
    let mut connection = Connection { streams, accept, frames: frames.downgrade(), initial: None, session };
    drop(frames);
    let reading = async {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = match read.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            decoder.push(&buffer[..count]);
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => connection.take(frame).await,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "a client does not speak SPDY/3.1");
                        return;
                    }
                }
            }
        }
    };
    let writing = async {
        let mut encoder = Encoder::default();
        let mut bytes = Vec::new();
        while let Some(frame) = outgoing.recv().await {
            encoder.push(&frame, &mut bytes);
            while let Ok(frame) = outgoing.try_recv() {
                encoder.push(&frame, &mut bytes);
            }
            if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                return;
            }
            bytes.clear();
        }
        // All who wrote have gone. The peer reads to the end, and then closes its side.
        let _ = write.shutdown().await;
        std::future::pending::<()>().await;
    };
    // Whichever side fails takes the other along: readers and writers see it by their channels.
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

impl Connection {
    async fn send(&self, frame: Frame) {
        if let Some(frames) = self.frames.upgrade() {
            let _ = frames.send(frame).await;
        }
    }

    async fn take(&mut self, frame: Frame) {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.open(stream, fin, headers).await,
            Frame::Data { stream, fin, bytes } => {
                let Some(known) = self.streams.get_mut(&stream) else { return };
                if let Some(data) = known.data.as_ref().filter(|_| !bytes.is_empty()) {
                    // Nobody may want it any more. Who is slow holds up the connection.
                    let _ = data.send(bytes.into()).await;
                }
                if fin {
                    known.data = None;
                }
            }
            Frame::Headers { stream, fin, .. } => {
                if let Some(known) = self.streams.get_mut(&stream).filter(|_| fin) {
                    known.data = None;
                }
            }
            Frame::RstStream { stream, .. } => {
                if let Some(known) = self.streams.remove(&stream) {
                    known.window.send_replace(Some(CANCELLED));
                }
            }
            Frame::Settings(entries) => self.set(&entries),
            // The number is odd if it is the client's.
            Frame::Ping(number) if number % 2 == 1 => self.send(Frame::Ping(number)).await,
            Frame::WindowUpdate { stream, delta } => self.widen(stream, delta),
            Frame::Ping(_) | Frame::SynReply { .. } | Frame::GoAway { .. } => {}
        }
    }

    async fn open(&mut self, id: u32, fin: bool, headers: Headers) {
        self.streams.retain(|_, known| known.data.is_some() || Arc::strong_count(&known.window) > 1);
        let Some(frames) = self.frames.upgrade() else { return };
        if self.streams.len() >= MAX_STREAMS || self.streams.contains_key(&id) {
            self.send(Frame::RstStream { stream: id, status: REFUSED_STREAM }).await;
            return;
        }
        let (data, received) = mpsc::channel(QUEUE);
        let window = Arc::new(Window::new(self.initial));
        let reader = StreamReader { id, data: received, frames: frames.clone() };
        let session = Arc::clone(&self.session);
        let writer = StreamWriter { id, frames, window: Arc::clone(&window), session, finished: false };
        self.streams.insert(id, Known { data: (!fin).then_some(data), window });
        self.send(Frame::SynReply { stream: id, fin: false, headers: Headers::new() }).await;
        // Who takes no more streams has gone.
        let _ = self.accept.send(Stream { headers, reader, writer }).await;
    }

    fn set(&mut self, entries: &[(u32, u32)]) {
        for (_, size) in entries.iter().filter(|(identifier, _)| *identifier == INITIAL_WINDOW_SIZE) {
            let size = i64::from(*size);
            let change = size - self.initial.unwrap_or(FIRST_WINDOW);
            self.initial = Some(size);
            for known in self.streams.values() {
                known.window.send_modify(|window| {
                    *window = Some(window.unwrap_or(FIRST_WINDOW).saturating_add(change));
                });
            }
        }
    }

    fn widen(&mut self, stream: u32, delta: u32) {
        let widened = |window: &mut Option<i64>| {
            *window = Some(window.unwrap_or(FIRST_WINDOW).saturating_add(i64::from(delta)));
        };
        if stream == WHOLE_SESSION {
            self.session.send_modify(widened);
        } else if let Some(known) = self.streams.get(&stream) {
            known.window.send_modify(widened);
        }
    }
}

#[cfg(test)]
mod tests;
