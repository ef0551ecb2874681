//! A client with its streams, whatever they go over.

use super::remote::Wanted;
use super::spdy::{Session, Stream, StreamReader, StreamWriter};
use super::websocket::Channels;
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a client may take to open all of its streams.
const PATIENCE: Duration = Duration::from_secs(30);

/// What comes from the client.
#[derive(Debug)]
pub(super) enum Input {
    Spdy {
        reader: StreamReader,
        /// The other direction, unused: its end would be that of the whole stream for the client.
        _writer: StreamWriter,
    },
    WebSocket(mpsc::Receiver<Bytes>),
}

/// What goes to the client.
#[derive(Debug)]
pub(super) enum Output {
    Spdy(StreamWriter),
    WebSocket(super::websocket::Channel),
}

/// The streams of a command, or of an attached container.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    pub(super) resize: Option<Input>,
    /// How it ended is told here.
    pub(super) status: Output,
    /// Cancelled when the client has gone.
    pub(super) gone: CancellationToken,
}

impl Input {
    /// What comes next; `None` at the end.
    pub(super) async fn read(&mut self) -> Option<Bytes> {
        match self {
            Self::Spdy { reader, .. } => reader.read().await,
            Self::WebSocket(received) => received.recv().await,
        }
    }
}

impl Output {
    /// False if the client takes no more.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Spdy(writer) => writer.write(bytes).await.is_ok(),
            Self::WebSocket(channel) => channel.write(bytes).await,
        }
    }

    /// Nothing more comes.
    pub(super) async fn finish(self) {
        if let Self::Spdy(writer) = self {
            writer.finish().await;
        }
    }
}

/// The connection under a [`Client`], to be closed when all is said.
#[derive(Debug)]
pub(super) enum Connection {
    Spdy(Session),
    WebSocket(Channels),
}

impl Connection {
    /// Everything that was written is sent, and the client told that it is over.
    pub(super) async fn close(self) {
        match self {
            Self::Spdy(session) => session.close().await,
            Self::WebSocket(channels) => channels.close().await,
        }
    }
}

/// The client's streams, when it has opened all that it asked for.
pub(super) async fn over_spdy(session: &mut Session, wanted: Wanted) -> Option<Client> {
    let mut streams: [Option<Stream>; 5] = Default::default();
    let names = ["error", "stdin", "stdout", "stderr", "resize"];
    let needed = [true, wanted.stdin, wanted.stdout, wanted.stderr && !wanted.tty, wanted.tty];
    let collected = async {
        while streams.iter().zip(needed).any(|(stream, needed)| needed && stream.is_none()) {
            let stream = session.accept().await?;
            let kind = stream.header("streamtype").unwrap_or_default();
            // What nobody asked for is cancelled by being dropped.
            if let Some(place) = names.iter().position(|name| *name == kind) {
                streams[place] = Some(stream);
            }
        }
        Some(())
    };
    tokio::time::timeout(PATIENCE, collected).await.ok()??;
    let [status, stdin, stdout, stderr, resize] = streams;
    let input = |stream: Stream| Input::Spdy { reader: stream.reader, _writer: stream.writer };
    let output = |stream: Stream| Output::Spdy(stream.writer);
    Some(Client {
        stdin: stdin.map(input),
        stdout: stdout.map(output),
        stderr: stderr.map(output),
        resize: resize.map(input),
        status: output(status?),
        gone: session.ended(),
    })
}
