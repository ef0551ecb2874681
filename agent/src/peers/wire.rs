//! What peers say, and its limits.

/// The protocol's own types, made from `proto/peers.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; the protocol is told in its file"
)]
pub(crate) mod v1 {
    tonic::include_proto!("keel.peers.v1");
}

/// The version of the bodies that this program reads and writes.
pub(super) const VERSION: u32 = 1;
/// No message between members is longer: parts of snapshots are some MiB.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// What is in it.
pub(super) const MAX_BODY_BYTES: usize = MAX_MESSAGE_BYTES - 64;
/// No message from a stranger is longer.
pub(super) const MAX_REQUEST_BYTES: usize = 64 << 10;
/// What a stream may send before it hears from the other side: round trips are saved.
pub(super) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// The same for all streams of a connection.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Of one frame: large messages are many frames, and small ones pass between them.
pub(super) const FRAME_BYTES: u32 = 64 << 10;

/// What is asked of peers.
pub(super) const PEERS_PATH: &str = "/keel.peers.v1.Peers/";
/// What is asked to become a member.
pub(super) const ENROLMENT_PATH: &str = "/keel.peers.v1.Enrolment/";
