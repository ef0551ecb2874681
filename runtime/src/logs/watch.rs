//! Waits for a folder to change.

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// A folder that is watched, with the files in it.
#[derive(Debug)]
pub(super) struct Watch {
    events: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Sees every change from now on.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let what = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&events, folder, what)?;
        #[allow(
            deprecated,
            reason = "the new call is unsafe, for types whose descriptor can change; ours cannot"
        )]
        let events = AsyncFd::new(events)?;
        Ok(Self { events })
    }

    /// Returns when something has changed since the last call; at once if it has already.
    ///
    /// # Cancel safety
    /// No change is lost: what was not read is seen by the next call.
    pub(super) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            match ready.try_io(|events| drain(events.get_ref())) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}

/// Takes all events: what they say is seen by looking at the folder.
fn drain(events: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(events, &mut buffer);
    let mut any = false;
    loop {
        match reader.next() {
            Ok(_event) => any = true,
            Err(Errno::AGAIN) if any => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
