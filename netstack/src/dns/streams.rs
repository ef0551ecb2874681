//! Connections over which questions come, as many as the client likes.

use super::counters::Channel;
use super::desk::{Asked, Verdict};
use super::resolver::Resolver;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long a client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How many connections there may be.
const CONNECTIONS: usize = 256;
/// Before it is tried again, if there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers on `listener` until it is dropped, which ends connections, too.
pub(super) async fn serve(listener: TcpListener, resolver: Arc<Resolver>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                while connections.try_join_next().is_some() {}
                let resolver = Arc::clone(&resolver);
                connections.spawn(async move {
                    // A client that goes away is none that fails.
                    let _gone = converse(stream, from, &resolver).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn converse(stream: TcpStream, from: SocketAddr, resolver: &Arc<Resolver>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut packet, mut out) = (Vec::new(), Vec::new());
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        packet.resize(usize::from(length), 0);
        timeout(IDLE, stream.read_exact(&mut packet)).await??;
        let start = Instant::now();
        let now = start.into_std();
        let asked = Asked {
            packet: &packet,
            from: from.ip(),
            channel: Channel::Tcp,
            now,
            again: false,
            searches: true,
        };
        if let Verdict::Answered = resolver.answer(asked, &mut out).await {
            resolver.desk().counters().count_time(start.elapsed(), 1);
            let length = u16::try_from(out.len()).unwrap_or(u16::MAX);
            let message = [&length.to_be_bytes(), &out[..]].concat();
            timeout(IDLE, stream.get_mut().write_all(&message)).await??;
        }
    }
}
