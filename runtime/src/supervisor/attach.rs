//! Somebody who looks at a container's output as it comes.

use super::logs::Stream;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Who does not read for so long is left: the container must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Copies of a container's output on their way to a client.
#[derive(Debug)]
pub(super) struct Attachment {
    /// The client's.
    pub(super) client: u64,
    /// Of standard output and standard error; `None` when nobody reads there any more.
    pipes: [Option<OwnedFd>; 2],
    /// What did not fit in the pipe yet.
    pending: [Vec<u8>; 2],
    /// When a pipe was first found full.
    stuck_at: Option<Duration>,
}

fn place(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Attachment {
    pub(super) fn new(client: u64, pipes: [OwnedFd; 2]) -> Self {
        for pipe in &pipes {
            let _ = rustix::io::ioctl_fionbio(pipe, true);
        }
        Self { client, pipes: pipes.map(Some), pending: [Vec::new(), Vec::new()], stuck_at: None }
    }

    /// What the container wrote goes to the client, now or later.
    pub(super) fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let place = place(stream);
        if self.pipes[place].is_some() {
            self.pending[place].extend_from_slice(bytes);
            self.flush_one(place);
        }
    }

    fn flush_one(&mut self, place: usize) {
        while let Some(pipe) = self.pipes[place].as_ref().filter(|_| !self.pending[place].is_empty()) {
            match rustix::io::write(pipe, &self.pending[place]) {
                Ok(count) => {
                    self.pending[place].drain(..count);
                    self.stuck_at = None;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pipes[place] = None,
            }
        }
        self.pending[place] = Vec::new();
    }

    /// Writes what waits, as far as it can be written.
    pub(super) fn flush(&mut self, now: Duration) {
        (0..2).for_each(|place| self.flush_one(place));
        if !self.is_stuck() {
            self.stuck_at = None;
        } else if now.saturating_sub(*self.stuck_at.get_or_insert(now)) >= PATIENCE {
            (self.pipes, self.pending) = ([None, None], [Vec::new(), Vec::new()]);
        }
    }

    /// True if the client has to read before the container can go on writing.
    pub(super) fn is_stuck(&self) -> bool {
        self.pending.iter().any(|pending| !pending.is_empty())
    }

    /// When patience with the client ends.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        self.stuck_at.map(|at| at + PATIENCE)
    }

    /// The pipes that have to be writable.
    pub(super) fn full_pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let full = self.pipes.iter().zip(&self.pending).filter(|(_, pending)| !pending.is_empty());
        full.filter_map(|(pipe, _)| pipe.as_ref()).map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::Read as _;

    fn pair() -> (Attachment, File, File) {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let ((out, stdout), (err, stderr)) = (pipe(), pipe());
        (Attachment::new(1, [stdout, stderr]), File::from(out), File::from(err))
    }

    #[test]
    fn nothing_is_lost_to_a_slow_reader() {
        let (mut attachment, out, _err) = pair();
        let text: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        attachment.take(Stream::Stdout, &text);
        assert!(attachment.is_stuck());
        let (sent, received) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut out = out;
            let read = out.read_to_end(&mut all);
            sent.send((read.is_ok(), all)).expect("send");
        });
        while attachment.is_stuck() {
            attachment.flush(Duration::ZERO);
            std::thread::yield_now();
        }
        drop(attachment);
        assert_eq!(received.recv().expect("received"), (true, text));
        reader.join().expect("joined");
    }

    #[test]
    fn who_does_not_read_for_long_is_left() {
        let (mut attachment, _out, _err) = pair();
        attachment.take(Stream::Stderr, &vec![0; 1 << 20]);
        attachment.flush(Duration::from_secs(5));
        assert!(attachment.is_stuck());
        assert_eq!(attachment.wake_at(), Some(Duration::from_secs(15)));
        attachment.flush(Duration::from_secs(15));
        assert!(!attachment.is_stuck());
    }

    #[test]
    fn a_reader_that_is_gone_holds_up_nothing() {
        let (mut attachment, out, _err) = pair();
        drop(out);
        attachment.take(Stream::Stdout, b"text");
        assert!(!attachment.is_stuck());
    }
}
