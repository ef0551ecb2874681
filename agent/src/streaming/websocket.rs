//! Streams as channels of a WebSocket: the first byte of each message says which.

use super::client::{Client, Output};
use super::remote::Wanted;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The newest form: the client can close its standard input.
pub(super) const V5: &str = "v5.channel.k8s.io";
/// Without that.
pub(super) const V4: &str = "v4.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Followed by the channel that is closed.
const CLOSE: u8 = 255;

/// Messages that wait in either direction.
const QUEUE: usize = 16;
/// The most in one message.
const CHUNK: usize = 32 * 1024;
/// How long a client may take to answer the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// One direction of one stream.
#[derive(Debug)]
pub(super) struct Channel {
    number: u8,
    messages: mpsc::Sender<Message>,
}

impl Channel {
    /// False if the client takes no more.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        for part in bytes.chunks(CHUNK) {
            let mut message = Vec::with_capacity(part.len() + 1);
            message.push(self.number);
            message.extend_from_slice(part);
            if self.messages.send(Message::Binary(message.into())).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// The connection under the channels.
#[derive(Debug)]
pub(super) struct Channels {
    messages: mpsc::Sender<Message>,
    task: JoinHandle<()>,
}

impl Channels {
    /// Everything that was written is sent, and the client told that it is over.
    pub(super) async fn close(self) {
        let Self { messages, mut task } = self;
        let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = messages.send(Message::Close(Some(frame))).await;
        drop(messages);
        if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// The streams of the client.
pub(super) fn channels(socket: WebSocket, wanted: Wanted) -> (Client, Channels) {
    let (messages, outgoing) = mpsc::channel(QUEUE);
    let (stdin, input) = mpsc::channel(QUEUE);
    let (resize, sizes) = mpsc::channel(QUEUE);
    let gone = CancellationToken::new();
    let inputs = [wanted.stdin.then_some(stdin), wanted.tty.then_some(resize)];
    let task = tokio::spawn(speak(socket, outgoing, inputs, gone.clone()));
    let output = |number| Output::WebSocket(Channel { number, messages: messages.clone() });
    let client = Client {
        stdin: wanted.stdin.then_some(super::client::Input::WebSocket(input)),
        stdout: wanted.stdout.then(|| output(STDOUT)),
        stderr: (wanted.stderr && !wanted.tty).then(|| output(STDERR)),
        resize: wanted.tty.then_some(super::client::Input::WebSocket(sizes)),
        status: output(ERROR),
        gone,
    };
    (client, Channels { messages, task })
}

async fn speak(
    socket: WebSocket,
    mut outgoing: mpsc::Receiver<Message>,
    mut inputs: [Option<mpsc::Sender<Bytes>>; 2],
    gone: CancellationToken,
) {
    let _gone = gone.drop_guard();
    let (mut write, mut read) = socket.split();
    let reading = async {
        while let Some(Ok(message)) = read.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            match bytes.first() {
                Some(&STDIN) => forward(&inputs[0], bytes.slice(1..)).await,
                Some(&RESIZE) => forward(&inputs[1], bytes.slice(1..)).await,
                Some(&CLOSE) if bytes.get(1) == Some(&STDIN) => inputs[0] = None,
                Some(_) | None => {}
            }
        }
    };
    let writing = async {
        while let Some(message) = outgoing.recv().await {
            if write.send(message).await.is_err() {
                return;
            }
        }
        // All is said: the client answers the close.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

async fn forward(to: &Option<mpsc::Sender<Bytes>>, bytes: Bytes) {
    if let Some(to) = to.as_ref().filter(|_| !bytes.is_empty()) {
        // Nobody may want it any more.
        let _ = to.send(bytes).await;
    }
}

/// What goes through the messages, as one stream of bytes.
pub(super) fn tunnel(socket: WebSocket) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(2 * CHUNK);
    tokio::spawn(async move {
        let (mut write, mut read) = socket.split();
        let (mut from, mut to) = tokio::io::split(theirs);
        let reading = async {
            while let Some(Ok(message)) = read.next().await {
                let Message::Binary(bytes) = message else { continue };
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        let writing = async {
            let mut buffer = vec![0; CHUNK];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                let message = Message::Binary(Bytes::copy_from_slice(&buffer[..count]));
                if write.send(message).await.is_err() {
                    return;
                }
            }
            let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
            let _ = write.send(Message::Close(Some(frame))).await;
        };
        tokio::select! {
            () = reading => {}
            () = writing => {}
        }
    });
    ours
}
