//! Datagrams with numbers.

use crate::machine::Pod;
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Datagrams of a flow that are on their way at once: no more than any queue holds.
const UNDER_WAY: u32 = 16;
/// How long after a datagram there may be none; reached only when some are lost.
const SILENCE: Duration = Duration::from_secs(5);
const PORT: u16 = 7007;

/// Datagrams with numbers, from one pod to another, until it is told to stop.
pub(super) struct Flow {
    stop: Arc<AtomicBool>,
    sender: std::thread::JoinHandle<u32>,
    receiver: std::thread::JoinHandle<Arrivals>,
}

/// What became of the datagrams.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) sent: u32,
    /// Numbers of those that never came.
    pub(super) missing: Vec<u32>,
    /// How many came after one that was sent later.
    pub(super) overtaken: u32,
}

#[derive(Default)]
struct Arrivals {
    numbers: BTreeSet<u32>,
    overtaken: u32,
    /// As the sender says in the end.
    sent: Option<u32>,
}

impl Arrivals {
    /// A datagram has a number; the last one has, behind it, that there is no other.
    fn note(&mut self, datagram: &[u8]) {
        let number = datagram[..4].try_into().map(u32::from_be_bytes).unwrap();
        self.overtaken += u32::from(self.numbers.last().is_some_and(|latest| *latest > number));
        self.numbers.insert(number);
        if datagram.len() > 4 {
            self.sent = Some(number + 1);
        }
    }

    /// Nothing more can come.
    fn are_whole(&self) -> bool {
        self.sent.is_some_and(|sent| self.numbers.len() == usize::try_from(sent).unwrap())
    }
}

impl Flow {
    pub(super) fn start(from: &Pod, to: &Pod, address: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU32::new(0));
        let noted = Arc::clone(&seen);
        let receiver = to.run(move || {
            let socket = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            // Whoever waits for a busy machine is to find all that came meanwhile.
            setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
            std::thread::spawn(move || {
                let mut arrivals = Arrivals::default();
                let mut buffer = [0; 8];
                while !arrivals.are_whole() {
                    let Ok(length) = socket.recv(&mut buffer) else { break };
                    arrivals.note(&buffer[..length]);
                    noted.store(u32::try_from(arrivals.numbers.len()).unwrap(), Ordering::Relaxed);
                }
                arrivals
            })
        });
        let stopped = Arc::clone(&stop);
        let sender = from.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((address, PORT)).unwrap();
            std::thread::spawn(move || {
                let mut count = 0_u32;
                while !stopped.load(Ordering::Relaxed) {
                    if count - seen.load(Ordering::Relaxed) < UNDER_WAY {
                        socket.send(&count.to_be_bytes()).unwrap();
                        count += 1;
                    } else {
                        std::thread::yield_now();
                    }
                }
                socket.send(&[count.to_be_bytes(), [0; 4]].concat()).unwrap();
                count + 1
            })
        });
        Self { stop, sender, receiver }
    }

    pub(super) fn end(self) -> Course {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, arrivals) = (self.sender.join().unwrap(), self.receiver.join().unwrap());
        let missing = (0..sent).filter(|number| !arrivals.numbers.contains(number)).collect();
        Course { sent, missing, overtaken: arrivals.overtaken }
    }
}
