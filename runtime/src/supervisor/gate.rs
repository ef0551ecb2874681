//! What a supervisor is given before it begins: sockets that others held, and its place in the
//! cgroup tree.
//!
//! Whoever starts it may give it a Unix socket as standard input, and writes bytes: [`OPEN`] or
//! [`GIVEN`] for each socket of the plan, in its order, then [`PLACED`] or [`GO`].

use crate::sys::descriptors;
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;

/// The plan's next socket has to be opened.
pub(crate) const OPEN: u8 = b'o';
/// The plan's next socket comes along.
pub(crate) const GIVEN: u8 = b's';
/// The supervisor is in its pod's group, which others have made.
pub(crate) const PLACED: u8 = b'p';
/// It has to make its pod's group.
pub(crate) const GO: u8 = b'g';

/// What came through.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) is_placed: bool,
    /// In the order of the plan; what is missing has to be opened.
    pub(super) sockets: Vec<Option<OwnedFd>>,
}

impl Gate {
    /// Waits until this process may begin; where its standard input is no socket, that is now.
    ///
    /// # Errors
    /// If whoever started it is gone, or says something else.
    pub(super) fn pass() -> io::Result<Self> {
        let mut gate = Self::default();
        loop {
            let mut word = [0];
            let mut received = Vec::new();
            match descriptors::receive(io::stdin(), &mut word, &mut received) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(Errno::NOTSOCK.raw_os_error()) => return Ok(gate),
                Err(error) => return Err(error),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
            }
            match word[0] {
                OPEN => gate.sockets.push(None),
                GIVEN => gate.sockets.push(received.pop()),
                PLACED | GO => {
                    gate.is_placed = word[0] == PLACED;
                    return Ok(gate);
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}
