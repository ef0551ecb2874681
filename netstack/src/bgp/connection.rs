//! Connections to routers.

use super::BgpPeer;
use crate::sys::{address, socket, tcp};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// After how long nobody is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the router, in the network namespace of the calling thread, and the address that it
/// begins at with the others of the same link.
///
/// # Errors
/// As `connect(2)`.
pub(super) async fn connect(peer: BgpPeer, external: bool) -> io::Result<(TcpStream, Vec<IpAddr>)> {
    let to = SocketAddr::new(peer.address, peer.port);
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Who is of another system is on the next link, unless it was said otherwise.
    if external && !peer.multihop {
        tcp::set_hops(&socket, to.ip(), 1)?;
    }
    if let Some(password) = &peer.password {
        tcp::sign(&socket, to, &password.0)?;
    }
    if let Some(source) = peer.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = timeout(PATIENCE, socket.connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    let addresses = with_neighbours(stream.local_addr()?.ip().to_canonical()).await?;
    Ok((stream, addresses))
}

async fn with_neighbours(own: IpAddr) -> io::Result<Vec<IpAddr>> {
    let all = address::list(&socket::open().await?).await?;
    let link = all.iter().find(|assigned| assigned.address == own).map(|assigned| assigned.index);
    let others = all.iter().filter(|assigned| Some(assigned.index) == link && assigned.address != own);
    Ok(std::iter::once(own).chain(others.map(|assigned| assigned.address)).collect())
}
