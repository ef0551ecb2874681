//! The ports that are listened on. A process has them too, so that between one agent and the next
//! connections wait instead of being refused.

use super::server::{IngressError, IngressOptions};
use crate::holder::{Holder, HolderError};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Connections that may wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

/// Who holds the ports while no agent runs.
#[derive(Debug, Clone)]
pub struct HeldAt {
    /// Where it hands them out.
    pub path: PathBuf,
    /// What starts it.
    pub program: Vec<OsString>,
}

/// Open ports.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) http: Option<TcpListener>,
    pub(super) https: Option<TcpListener>,
    pub(super) holder: Option<Holder>,
    /// Why nobody holds them, if somebody should.
    pub(super) unheld: Option<HolderError>,
}

impl Ports {
    /// The ports of an agent before this one, in which connections wait; or new ones, that the next will
    /// find. Blocks for a moment; needs a tokio runtime.
    ///
    /// # Errors
    /// If a port cannot be listened on.
    pub(super) fn open(options: &IngressOptions) -> Result<Self, IngressError> {
        let found =
            options.held_at.as_ref().and_then(|at| Holder::find(&at.path, |pair| adopt(pair, options)));
        if let Some((holder, (http, https))) = found {
            return Ok(Self { http, https, holder: Some(holder), unheld: None });
        }
        let open = |port: Option<u16>| port.map(|port| listen(options.address, port)).transpose();
        let (http, https) = (open(options.http)?, open(options.https)?);
        let mut own = Self { http, https, holder: None, unheld: None };
        if let Some(at) = &options.held_at {
            match Holder::start(&at.path, &at.program, own.pair()) {
                Ok(holder) => own.holder = Some(holder),
                Err(error) => own.unheld = Some(error),
            }
        }
        Ok(own)
    }

    /// Both; one twice if there is no other.
    fn pair(&self) -> io::Result<[OwnedFd; 2]> {
        let (http, https) = (self.http.as_ref(), self.https.as_ref());
        let (Some(first), Some(second)) = (http.or(https), https.or(http)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok([first.try_clone()?.into(), second.try_clone()?.into()])
    }
}

/// The pair as the listeners of HTTP and HTTPS, if that is what they are.
fn adopt(
    [first, second]: [OwnedFd; 2],
    options: &IngressOptions,
) -> Option<(Option<TcpListener>, Option<TcpListener>)> {
    let (first, second) = (TcpListener::from(first), TcpListener::from(second));
    let is = |listener: &TcpListener, port: u16| {
        listener.local_addr().is_ok_and(|at| {
            at.port() == port
                && options.address.map_or(at.ip().is_unspecified(), |address| at.ip() == address)
        })
    };
    match (options.http, options.https) {
        (Some(http), Some(https)) if is(&first, http) && is(&second, https) => {
            Some((Some(first), Some(second)))
        }
        (Some(http), None) if is(&first, http) && is(&second, http) => Some((Some(first), None)),
        (None, Some(https)) if is(&first, https) && is(&second, https) => Some((None, Some(second))),
        _ => None,
    }
}

/// Listens on both families where there are both.
fn listen(address: Option<IpAddr>, port: u16) -> Result<TcpListener, IngressError> {
    let failed = |source| IngressError::Listen { port, source };
    let bind = |address: IpAddr| -> io::Result<TcpListener> {
        let listener = TcpListener::bind((address, port))?;
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    };
    if let Some(address) = address {
        return bind(address).map_err(failed);
    }
    match bind(Ipv6Addr::UNSPECIFIED.into()) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(failed(error)),
        // A machine without IPv6.
        Err(_) => bind(Ipv4Addr::UNSPECIFIED.into()).map_err(failed),
    }
}
