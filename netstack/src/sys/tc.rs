//! How fast a link may send: a token bucket (`tc-tbf(8)`) in front of it.

use super::socket::{is, to_io};
use futures::StreamExt;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use std::io;

const KIND: &str = "tbf";
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

fn root(index: u32) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message
}

/// The kernel has done what it was asked.
///
/// # Errors
/// The kernel's.
pub(super) async fn answered(
    handle: &Handle,
    request: NetlinkMessage<RouteNetlinkMessage>,
) -> io::Result<()> {
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
