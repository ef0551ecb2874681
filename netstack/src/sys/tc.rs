//! How fast a link may send: a token bucket (`tc-tbf(8)`) in front of it; and whom it asks about packets (`tc-bpf(8)`).

use super::socket::{is, to_io};
use futures::StreamExt;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const KIND: &str = "tbf";
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
/// Source: `linux/pkt_sched.h`.
const PARAMETERS: u16 = 1;
const RATE64: u16 = 4;
const BURST: u16 = 6;
/// The link's own frames are counted as they are: no table of sizes is needed.
const LINKLAYER_ETHERNET: u8 = 1;
/// What may go at once, whatever the rate: a segment before it is cut, in bytes.
const LEAST_BURST: u64 = 64 * 1024;
/// What may go at once, as a part of what goes in a second.
const BURSTS_PER_SECOND: u64 = 100;
/// How long a packet may wait, as a part of a second.
const WAITS_PER_SECOND: u64 = 40;

/// What may go at once and what may wait, in bytes, at so many bytes per second.
fn sizes(bytes_per_second: u64) -> (u32, u32) {
    let burst = (bytes_per_second / BURSTS_PER_SECOND).max(LEAST_BURST);
    let limit = (bytes_per_second / WAITS_PER_SECOND).saturating_add(burst);
    let capped = |size| u32::try_from(size).unwrap_or(u32::MAX);
    (capped(burst), capped(limit))
}

/// `struct tc_tbf_qopt`: two rates, then limit, buffer and mtu.
fn parameters(bytes_per_second: u64) -> Vec<u8> {
    let (_, limit) = sizes(bytes_per_second);
    let rate = u32::try_from(bytes_per_second).unwrap_or(u32::MAX);
    // cell_log, linklayer, overhead, cell_align, mpu, rate
    let mut bytes = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&rate.to_ne_bytes());
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&limit.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

/// The link sends at most so many bits per second, instead of what was said before. Repeating is
/// harmless.
///
/// # Errors
/// The kernel's: `ENOENT` if it has no token buckets.
pub(crate) async fn limit(handle: &Handle, index: u32, bits_per_second: u64) -> io::Result<()> {
    let rate = (bits_per_second / 8).max(1);
    let (burst, _) = sizes(rate);
    let option = |kind, bytes: Vec<u8>| TcOption::Other(DefaultNla::new(kind, bytes));
    let mut options = vec![option(PARAMETERS, parameters(rate)), option(BURST, burst.to_ne_bytes().into())];
    if rate > u64::from(u32::MAX) {
        options.push(option(RATE64, rate.to_ne_bytes().into()));
    }
    let mut message = root(index);
    message.attributes = vec![TcAttribute::Kind(KIND.into()), TcAttribute::Options(options)];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    answered(handle, request).await
}

/// The link sends as fast as it can. Repeating is harmless.
///
/// # Errors
/// The kernel's.
pub(crate) async fn unlimit(handle: &Handle, index: u32) -> io::Result<()> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelQueueDiscipline(root(index)));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    match answered(handle, request).await {
        // There is none but the kernel's own.
        Err(error) if is(&error, Errno::ENOENT) || is(&error, Errno::EINVAL) => Ok(()),
        other => other,
    }
}

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

fn root(index: u32) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message
}

async fn answered(handle: &Handle, request: NetlinkMessage<RouteNetlinkMessage>) -> io::Result<()> {
    let mut answers = handle.clone().request(request).map_err(to_io)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(error.to_io());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_segment_and_a_hundredth_of_a_second() {
        assert_eq!(sizes(1_000), (65_536, 65_561));
        assert_eq!(sizes(1_250_000_000), (12_500_000, 43_750_000));
        assert_eq!(sizes(u64::MAX), (u32::MAX, u32::MAX));
        let bytes = parameters(1_250_000);
        assert_eq!((bytes.len(), &bytes[8..12]), (36, &1_250_000_u32.to_ne_bytes()[..]));
    }
}
