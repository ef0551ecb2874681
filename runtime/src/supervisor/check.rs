//! A TCP connection or a plain HTTP request, without waiting.

use crate::plan::HttpAction;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Enough for a status line.
const HEAD_BYTES: usize = 1024;

/// As the kubelet names itself.
const USER_AGENT: &str = "kube-probe/1.37";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connecting,
    Sending,
    Reading,
}

/// One of them under way.
#[derive(Debug)]
pub(super) struct Check {
    socket: OwnedFd,
    address: SocketAddr,
    /// `None` for a connection alone.
    url: Option<String>,
    step: Step,
    request: Vec<u8>,
    head: Vec<u8>,
}

impl Check {
    /// A connection to `address`, and with `http` a request on it.
    pub(super) fn begin(address: SocketAddr, http: Option<&HttpAction>) -> io::Result<Self> {
        let socket = begin_connection(address)?;
        let url = http.map(|http| format!("http://{address}{}", http.path));
        let request = http.map(|http| request(http, address)).unwrap_or_default();
        Ok(Self { socket, address, url, step: Step::Connecting, request, head: Vec::new() })
    }

    pub(super) fn wants(&self) -> PollFlags {
        match self.step {
            Step::Connecting | Step::Sending => PollFlags::OUT,
            Step::Reading => PollFlags::IN,
        }
    }

    /// Goes on as far as it can without waiting; the answer, once there is one.
    pub(super) fn go_on(&mut self) -> Option<Result<(), String>> {
        match self.advance() {
            Ok(true) => Some(self.verdict()),
            Ok(false) => None,
            Err(error) => {
                let why = std::io::Error::from(error).to_string().to_lowercase();
                let dial = format!("dial tcp {}: connect: {why}", self.address);
                Some(Err(match &self.url {
                    Some(url) => format!("Get \"{url}\": {dial}"),
                    None => dial,
                }))
            }
        }
    }

    /// True when everything that is needed is there.
    fn advance(&mut self) -> Result<bool, Errno> {
        if self.step == Step::Connecting {
            if !is_connected(&self.socket)? {
                return Ok(false);
            }
            self.step = Step::Sending;
        }
        while self.step == Step::Sending {
            if self.request.is_empty() {
                if self.url.is_none() {
                    return Ok(true);
                }
                self.step = Step::Reading;
                break;
            }
            match rustix::net::send(&self.socket, &self.request, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.request.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; HEAD_BYTES];
        loop {
            match rustix::io::read(&self.socket, &mut buffer[..]) {
                Ok(0) => return Ok(true),
                Ok(count) => {
                    self.head.extend_from_slice(&buffer[..count]);
                    if self.head.contains(&b'\n') || self.head.len() >= HEAD_BYTES {
                        return Ok(true);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn verdict(&self) -> Result<(), String> {
        let Some(url) = &self.url else { return Ok(()) };
        let line = String::from_utf8_lossy(&self.head);
        let mut words = line.lines().next().unwrap_or_default().split(' ');
        let version = words.next().is_some_and(|word| word.starts_with("HTTP/"));
        match words.next().and_then(|code| code.parse::<u16>().ok()).filter(|_| version) {
            Some(200..=399) => Ok(()),
            Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
            None => Err(format!("Get \"{url}\": malformed HTTP response")),
        }
    }

    pub(super) fn timed_out(&self) -> String {
        match (&self.url, self.step) {
            (Some(url), Step::Connecting) => format!("Get \"{url}\": dial tcp {}: i/o timeout", self.address),
            (Some(url), _) => {
                format!("Get \"{url}\": context deadline exceeded (timeout exceeded while awaiting headers)")
            }
            (None, _) => format!("dial tcp {}: i/o timeout", self.address),
        }
    }
}

impl AsFd for Check {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that is connecting, or is connected already.
///
/// # Errors
/// If the kernel refuses at once.
pub(super) fn begin_connection(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn is_connected(socket: &OwnedFd) -> Result<bool, Errno> {
    sockopt::socket_error(socket)??;
    match rustix::net::getpeername(socket) {
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error),
    }
}

fn request(http: &HttpAction, address: SocketAddr) -> Vec<u8> {
    let has = |name: &str| http.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut text = format!("GET {} HTTP/1.1\r\n", http.path);
    for (name, value) in &http.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    for (name, value) in
        [("Host", address.to_string()), ("User-Agent", USER_AGENT.to_owned()), ("Accept", "*/*".to_owned())]
    {
        if !has(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("Connection: close\r\n\r\n");
    text.into_bytes()
}
