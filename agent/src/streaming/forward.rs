//! Ports of a pod, forwarded over SPDY: a pair of streams per connection, one for what it
//! carries and one for what went wrong.

use super::remote::on_thread;
use super::spdy::{Session, Stream, StreamReader, StreamWriter};
use runtime::pods::dial;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections of which one stream came and the other not yet.
const MAX_HALVES: usize = 256;

#[derive(Debug, Default)]
struct Halves {
    data: Option<Stream>,
    error: Option<Stream>,
}

/// Serves the connections of one client until it has gone.
pub(super) async fn serve(mut session: Session, socket: PathBuf) {
    let mut waiting: BTreeMap<String, Halves> = BTreeMap::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = session.accept() => stream,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        // What is left of the connections goes with the set.
        let Some(stream) = stream else { return };
        let Some(port) = stream.header("port").and_then(|port| port.parse::<u16>().ok()) else { continue };
        // Old clients number their streams only; a pair has the same port then.
        let request = stream.header("requestid").unwrap_or_default().to_owned();
        let key = format!("{request}/{port}");
        let halves = waiting.entry(key.clone()).or_default();
        match stream.header("streamtype") {
            Some("data") => halves.data = Some(stream),
            Some("error") => halves.error = Some(stream),
            Some(_) | None => continue,
        }
        if halves.data.is_some() && halves.error.is_some() {
            if let Some(Halves { data: Some(data), error: Some(error) }) = waiting.remove(&key) {
                connections.spawn(connect(socket.clone(), port, data, error));
            }
        } else if waiting.len() > MAX_HALVES {
            tracing::debug!("a client opens streams without their other halves");
            return;
        }
    }
}

async fn connect(socket: PathBuf, port: u16, data: Stream, error: Stream) {
    let Stream { reader, writer, .. } = data;
    let mut told = error.writer;
    match open(&socket, port).await {
        Ok(connection) => {
            carry(connection, reader, writer).await;
        }
        Err(message) => {
            writer.finish().await;
            let _ = told.write(message.as_bytes()).await;
        }
    }
    told.finish().await;
}

async fn open(socket: &Path, port: u16) -> Result<TcpStream, String> {
    let socket = socket.to_owned();
    let dialled = on_thread(move || dial(&socket, port)).await.map_err(|error| error.to_string())?;
    let stream = dialled.map_err(|error| crate::chain::chain(&error))?;
    let nonblocking = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
    nonblocking.map_err(|error| error.to_string())
}

/// Each direction ends alone.
async fn carry(connection: TcpStream, mut reader: StreamReader, mut writer: StreamWriter) {
    let (mut from, mut to) = connection.into_split();
    let out = async move {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                () = writer.closed() => return,
            };
            match read {
                Ok(0) | Err(_) => break,
                Ok(count) if writer.write(&buffer[..count]).await.is_err() => return,
                Ok(_) => {}
            }
        }
        writer.finish().await;
    };
    let into = async move {
        while let Some(bytes) = reader.read().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The pod sees that the client has said all.
        let _ = to.shutdown().await;
    };
    tokio::join!(out, into);
}
