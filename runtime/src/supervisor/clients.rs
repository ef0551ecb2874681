//! Connections to the supervisor's socket: lines in, lines out, never waiting for anyone.

use super::protocol::{MAX_REQUEST_BYTES, Reply, Request, VERSION};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A client that does not read loses its connection when this much waits for it.
const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    subscribed: bool,
    open: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        let open = stream.set_nonblocking(true).is_ok();
        let mut client = Self { stream, input: Vec::new(), output: Vec::new(), subscribed: false, open };
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
            match self.stream.read(&mut buffer) {
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
        let mut requests = Vec::new();
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            requests.push(serde_json::from_slice(&line).map_err(|error| error.to_string()));
        }
        if self.input.len() > MAX_REQUEST_BYTES {
            requests.push(Err(format!("a request has more than {MAX_REQUEST_BYTES} bytes")));
            self.input = Vec::new();
        }
        requests
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
