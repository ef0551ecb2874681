//! Sockets of nfnetlink, to nftables and connection tracking: transactions, requests and dumps.

use super::attributes::Attributes;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// Source: `linux/netfilter/nfnetlink.h`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// What nftables' messages have in their upper byte.
pub(crate) const NFTABLES: u16 = 10;
/// What connection tracking's messages have there.
pub(crate) const CONNTRACK: u16 = 1;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Bytes of netlink's head, and of nfnetlink's after it.
const HEAD: usize = 16;
const BODY: usize = HEAD + 4;
/// How long the kernel may take to answer, which it does at once.
const PATIENCE: i64 = 10;
/// Room for what the kernel says, in bytes.
const RECEIVE_BYTES: usize = 1 << 20;
/// How often a listing that changed while it was read is read again.
const DUMP_ATTEMPTS: usize = 20;

/// Messages that take force together.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Attributes,
    count: u32,
}

impl Default for Batch {
    fn default() -> Self {
        let mut batch = Self { bytes: Attributes::default(), count: 0 };
        batch.mark(BATCH_BEGIN);
        batch
    }
}

impl Batch {
    /// One message to nftables.
    pub(crate) fn add(&mut self, kind: u16, flags: u16, family: u8, make: impl FnOnce(&mut Attributes)) {
        message(&mut self.bytes, (NFTABLES << 8 | kind, flags, self.count), (family, 0), make);
        self.count += 1;
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.count <= 1
    }

    /// Where it begins or ends.
    fn mark(&mut self, kind: u16) {
        message(&mut self.bytes, (kind, 0, self.count), (0, NFTABLES), |_| {});
        self.count += 1;
    }

    /// Numbers count from `base`; the last message but the end asks for an answer, since errors
    /// come unasked, and answers come in order.
    fn finish(mut self, base: u32) -> Vec<u8> {
        let last = self.count.saturating_sub(1);
        self.mark(BATCH_END);
        let mut at = 0;
        let bytes = &mut self.bytes.0;
        for number in 0..self.count {
            let length = u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            bytes[at + 8..at + 12].copy_from_slice(&base.wrapping_add(number).to_ne_bytes());
            if number == last {
                let flags = u16::from_ne_bytes([bytes[at + 6], bytes[at + 7]]) | ACK;
                bytes[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
            }
            at += usize::try_from(length).unwrap_or(0).next_multiple_of(4);
        }
        self.bytes.0
    }
}

fn message(
    bytes: &mut Attributes,
    (kind, flags, number): (u16, u16, u32),
    (family, resource): (u8, u16),
    make: impl FnOnce(&mut Attributes),
) {
    let start = bytes.0.len();
    bytes.0.extend_from_slice(&[0; 4]);
    bytes.0.extend_from_slice(&kind.to_ne_bytes());
    bytes.0.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    bytes.0.extend_from_slice(&number.to_ne_bytes());
    bytes.0.extend_from_slice(&[0; 4]);
    bytes.0.extend_from_slice(&[family, 0]);
    bytes.0.extend_from_slice(&resource.to_be_bytes());
    make(bytes);
    let length = u32::try_from(bytes.0.len() - start).unwrap_or(u32::MAX);
    bytes.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// One message of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// What it is, without the subsystem.
    pub(crate) kind: u16,
    /// The socket that the change came from.
    pub(crate) port: u32,
    /// The family of its table.
    pub(crate) family: u8,
    /// Its attributes.
    pub(crate) attributes: &'a [u8],
    flags: u16,
    number: u32,
    is_control: bool,
    /// Of an error, or 0.
    error: i32,
}

/// The messages in what was received.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<BODY>()?;
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let length = usize::try_from(word(0)).unwrap_or(0).max(BODY);
        let kind = half(4);
        let message = Message {
            kind: kind & 0xff,
            port: word(12),
            family: head[HEAD],
            attributes: bytes.get(BODY..length).unwrap_or_default(),
            flags: half(6),
            number: word(8),
            is_control: kind < 16,
            error: if kind == ERROR { word(HEAD).cast_signed() } else { 0 },
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// A socket that stays open. Calls block for as long as the kernel works.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    port: u32,
    next: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub(crate) fn open() -> io::Result<Self> {
        Self::over(new(SockFlag::SOCK_CLOEXEC)?)
    }

    /// The same to generic netlink, whose messages look alike: what is a family here is a command there.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub(crate) fn open_generic() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Self::over(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkGeneric)?)
    }

    fn over(fd: OwnedFd) -> io::Result<Self> {
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        Ok(Self { fd, port, next: 1, buffer: vec![0; 1 << 16] })
    }

    /// Its number, by which the kernel says whose a change was.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// The kernel has taken all of it, or none.
    ///
    /// # Errors
    /// The kernel's first.
    pub(crate) fn commit(&mut self, batch: Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (base, count) = (self.next, batch.count);
        self.next = self.next.wrapping_add(count + 1);
        self.send(&batch.finish(base))?;
        self.await_answer(base, base.wrapping_add(count - 1))
    }

    /// The kernel has done what one message asks for.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn request(
        &mut self,
        kind: u16,
        family: u8,
        make: impl FnOnce(&mut Attributes),
    ) -> io::Result<()> {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let mut bytes = Attributes::default();
        message(&mut bytes, (kind, ACK, number), (family, 0), make);
        self.send(&bytes.0)?;
        self.await_answer(number, number)
    }

    /// Calls `each` with all that `kind` lists, which did not change meanwhile; `restart` first, each
    /// time it begins anew.
    ///
    /// # Errors
    /// The kernel's, and `EINTR` if the listing never stood still.
    pub(crate) fn dump<T>(
        &mut self,
        kind: u16,
        family: u8,
        make: impl Fn(&mut Attributes),
        mut each: impl FnMut(&mut Vec<T>, Message<'_>),
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            let mut bytes = Attributes::default();
            message(&mut bytes, (kind, DUMP, number), (family, 0), &make);
            self.send(&bytes.0)?;
            let mut found = Vec::new();
            match self.gather(number, |message| each(&mut found, message)) {
                Ok(()) => return Ok(found),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::EINTR.into())
    }

    /// Reads a dump to its end, even if it has to be thrown away.
    fn gather(&mut self, number: u32, mut each: impl FnMut(Message<'_>)) -> Result<(), Errno> {
        let mut changed = false;
        loop {
            let count = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            for message in messages(&self.buffer[..count]).filter(|message| message.number == number) {
                changed |= message.flags & DUMP_INTERRUPTED != 0;
                if !message.is_control {
                    each(message);
                } else if message.kind == DONE {
                    return if changed { Err(Errno::EINTR) } else { Ok(()) };
                } else if message.kind == ERROR {
                    return if message.error == 0 { Ok(()) } else { Err(Errno::from_raw(-message.error)) };
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let room = bytes.len().saturating_mul(2).max(1 << 18);
        // What an ordinary socket may have is too little for thousands of elements.
        if setsockopt(&self.fd, sockopt::SndBufForce, &room).is_err() {
            setsockopt(&self.fd, sockopt::SndBuf, &room)?;
        }
        sendto(self.fd.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// Reads until `last` is answered. If the first is refused, as when memory is short, no other is.
    fn await_answer(&mut self, first: u32, last: u32) -> io::Result<()> {
        let mut refused = None;
        loop {
            let count = match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                // More errors than there is room for.
                Err(Errno::ENOBUFS) => return Err(refused.unwrap_or(Errno::ENOBUFS).into()),
                other => other?,
            };
            for message in messages(&self.buffer[..count]) {
                let number = message.number.wrapping_sub(first);
                if !message.is_control || message.kind != ERROR || number > last.wrapping_sub(first) {
                    continue;
                }
                if message.error != 0 {
                    refused = refused.or(Some(Errno::from_raw(-message.error)));
                }
                if message.number == last || (number == 0 && message.error != 0) {
                    return refused.map_or(Ok(()), |error| Err(error.into()));
                }
            }
        }
    }
}

/// A socket that is not bound yet.
pub(super) fn new(flags: SockFlag) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BYTES).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BYTES)?;
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_message_of_a_batch_asks_for_an_answer() {
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        for text in ["a", "bcdef"] {
            batch.add(0, 0x400, 2, |body| {
                body.text(1, text);
            });
        }
        assert!(!batch.is_empty());
        let bytes = batch.finish(7);
        let all: Vec<_> = messages(&bytes).collect();
        let flags: Vec<_> = all.iter().map(|message| message.flags).collect();
        assert_eq!(flags, [REQUEST, REQUEST | 0x400, REQUEST | ACK | 0x400, REQUEST]);
        assert_eq!(all.iter().map(|message| message.number).collect::<Vec<_>>(), [7, 8, 9, 10]);
        assert_eq!(all.iter().map(|message| message.kind).collect::<Vec<_>>(), [16, 0, 0, 17]);
    }

    #[test]
    fn what_the_kernel_says_is_read_and_what_is_cut_off_is_not() {
        let mut answer = vec![36, 0, 0, 0, 2, 0, 0, 0];
        answer.extend([0; 8]);
        answer.extend((-2_i32).to_ne_bytes());
        answer.resize(36, 0);
        let both = [answer.as_slice(), &answer].concat();
        assert_eq!(messages(&both).map(|message| message.error).collect::<Vec<_>>(), [-2, -2]);
        assert_eq!(messages(&answer[..10]).count(), 0);
    }
}
