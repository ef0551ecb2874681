//! Options of TCP sockets.
#![allow(unsafe_code, reason = "nix does not know how segments are signed")]

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

/// Source: `linux/tcp.h`.
const TCP_MD5SIG: libc::c_int = 14;
const LONGEST_KEY: usize = 80;

/// What the kernel is told of a key. Source: `linux/tcp.h`, `struct tcp_md5sig`.
#[repr(C)]
struct Signature {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix: u8,
    length: u16,
    link: libc::c_int,
    key: [u8; LONGEST_KEY],
}

/// Packets of the socket, which goes to an address of that family, pass so many routers at most, less one.
///
/// # Errors
/// As `setsockopt(2)`.
pub(crate) fn set_hops(socket: &impl AsFd, to: IpAddr, hops: u8) -> io::Result<()> {
    match to {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4Ttl, &hops.into())?,
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6Ttl, &hops.into())?,
    }
    Ok(())
}

/// Segments to and from `to` are signed with `key`, of at most 80 bytes; others are not heard. Source:
/// RFC 2385, `tcp(7)`.
///
/// # Errors
/// As `setsockopt(2)`: `ENOPROTOOPT` if the kernel cannot; `EINVAL` if the key is too long.
pub(crate) fn sign(socket: &impl AsRawFd, to: SocketAddr, key: &[u8]) -> io::Result<()> {
    // SAFETY: all bytes of it may be zero.
    let mut signature: Signature = unsafe { zeroed() };
    let room = signature.key.get_mut(..key.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(key);
    signature.length = u16::try_from(key.len()).unwrap_or(0);
    let address = &raw mut signature.address;
    match to {
        SocketAddr::V4(to) => {
            let given = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: there is room for any address, aligned for each kind of them.
            unsafe { address.cast::<libc::sockaddr_in>().write(given) };
        }
        SocketAddr::V6(to) => {
            let given = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: to.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                sin6_scope_id: to.scope_id(),
            };
            // SAFETY: as above.
            unsafe { address.cast::<libc::sockaddr_in6>().write(given) };
        }
    }
    // SAFETY: the pointer is to a structure of the length that is said, which outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_MD5SIG,
            (&raw const signature).cast(),
            SIGNATURE_BYTES,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[allow(clippy::cast_possible_truncation, reason = "216 bytes")]
const SIGNATURE_BYTES: libc::socklen_t = size_of::<Signature>() as libc::socklen_t;

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or(0)
}
