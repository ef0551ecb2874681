//! A netlink socket for links, addresses and routes, with a thread of its own.
//!
//! The kernel does what a message asks for within the call that sends it, which for
//! the removal of a link takes milliseconds: no thread that others wait for should
//! make that call.

use futures::StreamExt;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Error, Handle};
use std::io;
use std::thread;

/// How often a listing that changed while it was read is read again.
const DUMP_ATTEMPTS: usize = 10;

/// Opens a socket in the network namespace of the calling thread. It is closed when
/// the last clone of the handle is dropped.
///
/// # Errors
/// As `socket(2)`, or if no thread can be started.
pub(crate) async fn open() -> io::Result<Handle> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    thread::Builder::new().name("netlink".into()).spawn(move || {
        block_on_new(async {
            match rtnetlink::new_connection() {
                Err(error) => drop(sender.send(Err(error))),
                Ok((connection, handle, _)) => {
                    if sender.send(Ok(handle)).is_ok() {
                        connection.await;
                    }
                }
            }
        })
    })?;
    receiver.await.map_err(|_| io::Error::other("the netlink thread has no event queue"))?
}

/// Runs `future` to its end on the calling thread, with I/O of its own.
///
/// # Errors
/// As `epoll_create(2)`.
pub(crate) fn block_on_new<F: Future>(future: F) -> io::Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(future))
}

/// The kernel's error number, or what else went wrong.
pub(crate) fn to_io(error: Error) -> io::Error {
    if let Error::NetlinkError(answer) = &error { answer.to_io() } else { io::Error::other(error) }
}

/// Whether `error` is this error number of the kernel.
pub(crate) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// Every object that `request` asks for, as one consistent listing.
///
/// # Errors
/// The kernel's, and `EINTR` if the listing never stood still.
pub(crate) async fn dump(
    handle: &Handle,
    request: RouteNetlinkMessage,
) -> io::Result<Vec<RouteNetlinkMessage>> {
    for _ in 0..DUMP_ATTEMPTS {
        let mut message = NetlinkMessage::from(request.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = handle.clone().request(message).map_err(to_io)?;
        let mut changed = false;
        let mut objects = Vec::new();
        while let Some(answer) = answers.next().await {
            changed |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            if let NetlinkPayload::Error(error) = &answer.payload {
                return Err(error.to_io());
            }
            if let NetlinkPayload::InnerMessage(object) = answer.payload {
                objects.push(object);
            }
        }
        if !changed {
            return Ok(objects);
        }
    }
    Err(Errno::EINTR.into())
}
