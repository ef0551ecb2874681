//! Whom a link asks about packets (`tc-bpf(8)`).

use super::socket::is;
use super::tc::answered;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Source: `linux/if_ether.h`.
const ALL_PROTOCOLS: u16 = 3;
/// Source: `linux/pkt_cls.h`.
const BPF_DESCRIPTOR: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
/// What the program returns is done.
const DIRECT_ACTION: u32 = 1;
/// A filter's number among those of its priority.
const ONLY: TcHandle = TcHandle { major: 0, minor: 1 };

/// Where on a link a program is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Of what comes from the link.
    Ingress = 0xfff2,
    /// Of what goes to the link.
    Egress = 0xfff3,
}

/// One of a link's filters: there is one for each priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) link: u32,
    pub(crate) side: Side,
    pub(crate) priority: u16,
}

impl Filter {
    fn message(self) -> TcMessage {
        let mut message = TcMessage::with_index(self.link.cast_signed());
        message.header.parent = TcHandle { major: u16::MAX, minor: self.side as u16 };
        message.header.info = u32::from(self.priority) << 16 | u32::from(ALL_PROTOCOLS.to_be());
        message
    }
}

/// The link has a place for filters. Returns whether it had none.
///
/// # Errors
/// The kernel's: `ENOENT` if it has no such thing.
pub(crate) async fn ensure_filters(handle: &Handle, link: u32) -> io::Result<bool> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(filters(link)));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    match answered(handle, request).await {
        Err(error) if is(&error, Errno::EEXIST) => Ok(false),
        other => other.map(|()| true),
    }
}

/// The link has no place for filters, and none of them.
///
/// # Errors
/// The kernel's.
pub(crate) async fn remove_filters(handle: &Handle, link: u32) -> io::Result<()> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelQueueDiscipline(filters(link)));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    answered(handle, request).await
}

fn filters(link: u32) -> TcMessage {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    message
}

/// The filter is that program, instead of any before, without a packet between them that none is asked about. It stays
/// when its descriptor is closed. The link has to have a place for it.
///
/// # Errors
/// The kernel's: `ENOENT` if it has no such filters.
pub(crate) async fn ask(
    handle: &Handle,
    filter: Filter,
    (program, name): (BorrowedFd<'_>, &str),
) -> io::Result<()> {
    let option = |kind, bytes: Vec<u8>| TcOption::Other(DefaultNla::new(kind, bytes));
    let options = vec![
        option(BPF_DESCRIPTOR, program.as_raw_fd().cast_unsigned().to_ne_bytes().into()),
        option(BPF_NAME, [name.as_bytes(), &[0]].concat()),
        option(BPF_FLAGS, DIRECT_ACTION.to_ne_bytes().into()),
    ];
    let mut message = filter.message();
    message.header.handle = ONLY;
    message.attributes = vec![TcAttribute::Kind("bpf".into()), TcAttribute::Options(options)];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewTrafficFilter(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    answered(handle, request).await
}

/// There is no such filter. Repeating is harmless, also where there is no place for filters, or no link.
///
/// # Errors
/// The kernel's.
pub(crate) async fn ask_nobody(handle: &Handle, filter: Filter) -> io::Result<()> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelTrafficFilter(filter.message()));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    match answered(handle, request).await {
        Err(error) if [Errno::ENOENT, Errno::EINVAL, Errno::ENODEV].iter().any(|none| is(&error, *none)) => {
            Ok(())
        }
        other => other,
    }
}
