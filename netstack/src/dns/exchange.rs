//! One question to one other server, by UDP, and by TCP where the answer is too long for that.

use super::cache::Key;
use super::code::SAFE_UDP;
use super::foreign::{self, Said};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// How long an answer by TCP may take.
const TCP_TIME: Duration = Duration::from_secs(3);

/// What `server` says, within `time` if a datagram is enough.
///
/// # Errors
/// If it says nothing, or nothing that can be understood.
pub(super) async fn ask(server: SocketAddr, key: &Key, time: Duration) -> io::Result<Said> {
    let said = tokio::time::timeout(time, by_udp(server, key, true)).await??;
    let said = match said {
        Said::Old => tokio::time::timeout(time, by_udp(server, key, false)).await??,
        Said::Answer(_) | Said::Truncated | Said::Refused => said,
    };
    match said {
        Said::Truncated => tokio::time::timeout(TCP_TIME, by_tcp(server, key)).await?,
        Said::Answer(_) | Said::Refused | Said::Old => Ok(said),
    }
}

/// A port and a number that nobody can guess. Source: RFC 5452.
async fn by_udp(server: SocketAddr, key: &Key, with_edns: bool) -> io::Result<Said> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Others' packets do not come through, and that nobody listens there is heard.
    socket.connect(server).await?;
    let id = number()?;
    let question = foreign::question(key, id, with_edns).ok_or(io::ErrorKind::InvalidInput)?;
    socket.send(&question).await?;
    let mut packet = vec![0; 2 * usize::from(SAFE_UDP)];
    loop {
        let length = socket.recv(&mut packet).await?;
        if let Some(said) = foreign::read(&packet[..length], key, id) {
            return Ok(said);
        }
    }
}

async fn by_tcp(server: SocketAddr, key: &Key) -> io::Result<Said> {
    let id = number()?;
    let question = foreign::question(key, id, true).ok_or(io::ErrorKind::InvalidInput)?;
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), &question[..]].concat()).await?;
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    foreign::read(&packet, key, id).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn number() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u16::from_ne_bytes(bytes))
}
