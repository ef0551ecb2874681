//! Output of a process on its way to ours.

use super::CommandError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// A thread that copies, until the end or until it is finished.
pub(super) struct Pump {
    thread: JoinHandle<()>,
    enough: OwnedFd,
}

impl Pump {
    /// What comes from `from` goes to `to` from now on.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub(super) fn start(from: OwnedFd, to: impl Write + Send + 'static) -> Result<Self, CommandError> {
        let (told, enough) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| CommandError::Runtime(error.into()))?;
        let thread = std::thread::spawn(move || copy(&from, &told, to));
        Ok(Self { thread, enough })
    }

    /// All that was written so far has been copied. Does not wait for others that may still
    /// hold the other end, such as a daemon that was left behind.
    pub(super) fn finish(self) {
        drop(self.enough);
        let _ = self.thread.join();
    }
}

fn copy(from: &OwnedFd, told: &OwnedFd, mut to: impl Write) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut polls = [PollFd::new(from, PollFlags::IN), PollFd::new(told, PollFlags::IN)];
        match poll(&mut polls, None) {
            Err(Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if polls[0].revents().is_empty() {
            return;
        }
        match rustix::io::read(from, &mut buffer[..]) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A terminal whose other side is closed says EIO.
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Channel(mpsc::Sender<Vec<u8>>);

    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_written_comes_through_though_the_other_end_stays_open() {
        let (from, ours) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (sender, receiver) = mpsc::channel();
        let pump = Pump::start(from, Channel(sender)).unwrap();
        let text = vec![7; 10_000];
        rustix::io::write(&ours, &text).unwrap();
        pump.finish();
        assert_eq!(receiver.try_iter().flatten().collect::<Vec<u8>>(), text);
    }
}
