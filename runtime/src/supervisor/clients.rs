//! Connections to the supervisor's socket: lines in, lines out, never waiting for anyone.

use super::protocol::{MAX_REQUEST_BYTES, Reply, Request, VERSION};
use crate::sys::descriptors;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A client that does not read loses its connection when this much waits for it.
const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// Descriptors that wait for their line.
const MAX_DESCRIPTORS: usize = 32;

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Came with lines that are not answered yet.
    descriptors: Vec<OwnedFd>,
    subscribed: bool,
    open: bool,
    /// Never that of another.
    pub(super) id: u64,
}

impl Client {
    pub(super) fn new(stream: UnixStream, id: u64) -> Self {
        let open = stream.set_nonblocking(true).is_ok();
        let (input, output, descriptors) = (Vec::new(), Vec::new(), Vec::new());
        let mut client = Self { stream, input, output, descriptors, subscribed: false, open, id };
        client.send(&Reply::Hello { version: VERSION });
        client
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    pub(super) fn subscribe(&mut self) {
        self.subscribed = true;
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Reads what is there; returns whole requests, or the error to answer one with.
    pub(super) fn receive(&mut self) -> Vec<Result<Request, String>> {
        let mut buffer = [0; 4096];
        loop {
            match descriptors::receive(&self.stream, &mut buffer, &mut self.descriptors) {
                Ok(0) => self.open = false,
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    if self.input.len() <= MAX_REQUEST_BYTES {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.open = false,
            }
            break;
        }
        let whole = self.input.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.input.drain(..whole).collect();
        let mut requests: Vec<_> = lines
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| serde_json::from_slice(line).map_err(|error| error.to_string()))
            .collect();
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        if self.descriptors.len() > MAX_DESCRIPTORS {
            // Nobody will ask for them.
            self.descriptors.clear();
        }
        if self.input.len() > MAX_REQUEST_BYTES {
            requests.push(Err(format!("a request has more than {MAX_REQUEST_BYTES} bytes")));
            self.input = Vec::new();
        }
        requests
    }

    /// The oldest descriptors that came, if there are so many.
    pub(super) fn take_descriptors(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        (self.descriptors.len() >= count).then(|| self.descriptors.drain(..count).collect())
    }

    /// Like [`Client::send`], with a descriptor; false if it could not go along.
    pub(super) fn send_with(&mut self, reply: &Reply, descriptor: &OwnedFd) -> bool {
        self.flush();
        let Ok(mut line) = serde_json::to_vec(reply) else { return false };
        line.push(b'\n');
        // Lines and descriptors must not overtake one another.
        if !self.output.is_empty() {
            return false;
        }
        descriptors::send(&self.stream, &line, &[descriptor.as_fd()]).is_ok_and(|sent| sent == line.len())
    }

    pub(super) fn send(&mut self, reply: &Reply) {
        if let Ok(line) = serde_json::to_vec(reply) {
            self.output.extend_from_slice(&line);
            self.output.push(b'\n');
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.open = false;
                    return;
                }
            }
        }
        if self.output.is_empty() {
            self.output = Vec::new();
        }
        self.open &= self.output.len() <= MAX_OUTPUT_BYTES;
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// What a supervisor makes of `bytes` on its socket, for the fuzzer.
#[cfg(fuzzing)]
pub fn receive(bytes: &[u8]) -> usize {
    let Ok((ours, theirs)) = UnixStream::pair() else { return 0 };
    let mut client = Client::new(theirs, 0);
    let mut found = 0;
    // In pieces: a line may come in any number of them.
    for piece in bytes.chunks(1024) {
        let _ = (&ours).write_all(piece);
        found += client.receive().len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let client = Client::new(ours, 1);
        theirs.set_nonblocking(true).expect("set");
        (client, theirs)
    }

    /// What a client gets for `bytes`, sent in pieces of `size`.
    fn received(bytes: &[u8], size: usize) -> Vec<Result<Request, String>> {
        let (mut client, mut theirs) = pair();
        let mut all = Vec::new();
        for piece in bytes.chunks(size.max(1)) {
            theirs.write_all(piece).expect("send");
            all.extend(client.receive());
        }
        assert!(client.is_open());
        drop(theirs);
        all.extend(client.receive());
        assert!(!client.is_open(), "its end is seen");
        all
    }

    proptest! {
        #[test]
        fn whatever_comes_each_line_gets_one_answer(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'{'), Just(b'"'), any::<u8>()], 0..2000),
            size in 1..700_usize,
        ) {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            let answers = received(&bytes, size);
            prop_assert_eq!(answers.len(), lines);
            prop_assert_eq!(answers, received(&bytes, bytes.len()));
        }

        #[test]
        fn requests_arrive_whole_whatever_their_pieces(count in 1..20_u32, size in 1..200_usize) {
            let wanted: Vec<_> = (0..count).map(|grace_seconds| Request::Stop { grace_seconds }).collect();
            let mut bytes = Vec::new();
            for request in &wanted {
                serde_json::to_writer(&mut bytes, request).expect("encode");
                bytes.push(b'\n');
            }
            let requests: Result<Vec<_>, _> = received(&bytes, size).into_iter().collect();
            prop_assert_eq!(requests, Ok(wanted));
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_and_forgotten() {
        let (mut client, mut theirs) = pair();
        let mut refused = 0;
        for _ in 0..20 {
            theirs.write_all(&[b'x'; 8192]).expect("send");
            refused += client.receive().len();
            assert!(client.input.len() <= MAX_REQUEST_BYTES);
        }
        assert_eq!(refused, 2);
    }

    #[test]
    fn who_does_not_read_is_left() {
        let (mut client, _theirs) = pair();
        let message = "x".repeat(100_000);
        let mut sent = 0;
        while client.is_open() {
            client.send(&Reply::Error { message: message.clone() });
            sent += 1;
            assert!(sent < 100, "nobody reads, and still it goes on");
        }
        assert!(sent > 5);
    }
}
