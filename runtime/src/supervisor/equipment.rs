//! What containers have from their supervisor beside their streams: sockets that outlive their
//! runs, and one to speak to the supervisor on.

use super::news::News;
use crate::plan::{PodPlan, notify_socket};
use manifests::habits::Socket;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// As systemd has it.
const BACKLOG: i32 = 4096;
/// The longest message that is read whole.
const MESSAGE_BYTES: usize = 4096;
/// Messages in a row from one container before others have their turn.
const MESSAGES: usize = 64;

/// Why something is not there for a container.
#[derive(Debug, thiserror::Error)]
pub(super) enum EquipmentError {
    #[error("cannot open the socket for {container} on port {port}")]
    Socket { container: String, port: u16, source: io::Error },
    #[error("cannot listen to what {container} says")]
    Notify { container: String, source: io::Error },
}

/// Of one container.
#[derive(Debug, Default)]
struct Place {
    sockets: Vec<OwnedFd>,
    notify: Option<UnixDatagram>,
}

/// Of all containers of the pod, by the machine's index.
#[derive(Debug, Default)]
pub(super) struct Equipment {
    places: Vec<Place>,
}

impl Equipment {
    /// Everything is open, in the network namespace of this process: what is `given`, in the
    /// order of the plan, as it is.
    pub(super) fn open(plan: &PodPlan, given: Vec<Option<OwnedFd>>) -> Result<Self, EquipmentError> {
        let all = plan.init_containers.iter().chain(&plan.containers);
        let is_plain = |plan: &crate::plan::HabitPlan| {
            plan.wanted.sockets.is_empty() && !plan.wanted.notify && plan.wanted.watchdog.is_none()
        };
        if all.clone().all(|container| is_plain(&container.habits)) {
            return Ok(Self::default());
        }
        let mut given = given.into_iter();
        let places = all.map(|container| {
            let (name, wanted) = (&container.name, &container.habits.wanted);
            let mut place = Place::default();
            for socket in &wanted.sockets {
                let opened = given.next().flatten().map_or_else(|| listen_on(socket), Ok);
                place.sockets.push(opened.map_err(|source| EquipmentError::Socket {
                    container: name.clone(),
                    port: socket.port,
                    source,
                })?);
            }
            if wanted.notify || wanted.watchdog.is_some() {
                let path = notify_socket(&plan.state_dir, name);
                let opened = hear_at(&path);
                let opened =
                    opened.map_err(|source| EquipmentError::Notify { container: name.clone(), source })?;
                place.notify = Some(opened);
            }
            Ok(place)
        });
        Ok(Self { places: places.collect::<Result<_, _>>()? })
    }

    /// What the container's program gets as descriptors 3 and up.
    pub(super) fn sockets(&self, index: usize) -> &[OwnedFd] {
        self.places.get(index).map(|place| place.sockets.as_slice()).unwrap_or_default()
    }

    /// The socket that listens there for one of the plan's containers.
    pub(super) fn find(&self, plan: &PodPlan, udp: bool, port: u16) -> Option<&OwnedFd> {
        let all = plan.init_containers.iter().chain(&plan.containers).zip(&self.places);
        let pairs =
            all.flat_map(|(container, place)| container.habits.wanted.sockets.iter().zip(&place.sockets));
        let mut held = pairs.filter(|(socket, _)| (socket.udp, socket.port) == (udp, port));
        held.next().map(|(_, descriptor)| descriptor)
    }

    /// Where containers may have said something.
    pub(super) fn polls(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let all = self.places.iter().enumerate();
        all.filter_map(|(index, place)| Some((index, place.notify.as_ref()?.as_fd())))
    }

    /// What the container said since it was last heard.
    pub(super) fn hear(&self, index: usize) -> News {
        let mut news = News::default();
        let Some(socket) = self.places.get(index).and_then(|place| place.notify.as_ref()) else {
            return news;
        };
        let mut buffer = [0; MESSAGE_BYTES];
        for _ in 0..MESSAGES {
            match socket.recv(&mut buffer) {
                Ok(count) => news.add(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        news
    }
}

/// A datagram socket at `path`, for anybody to write to who sees it.
fn hear_at(path: &Path) -> io::Result<UnixDatagram> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(folder)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // The path itself can be longer than an address may be.
    let folder = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let socket = UnixDatagram::bind(short)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// On every address of the pod, of both families where the kernel has both.
fn listen_on(socket: &Socket) -> io::Result<OwnedFd> {
    match listen_as(socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            Ok(listen_as(socket, IpAddr::V4(Ipv4Addr::UNSPECIFIED))?)
        }
        opened => Ok(opened?),
    }
}

fn listen_as(wanted: &Socket, address: IpAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if wanted.udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    if !wanted.udp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, wanted.port))?;
    if !wanted.udp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}
