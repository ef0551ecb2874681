//! Threads that read datagrams and answer what can be answered at once; the rest is left to tasks.

use super::counters::Channel;
use super::desk::{Asked, Verdict};
use super::resolver::Resolver;
use super::tasks::Tasks;
use crate::sys::datagrams::{BATCH, Batch};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Bytes of a thread's stack.
const STACK: usize = 256 << 10;

/// What all threads share.
struct Shared {
    resolver: Arc<Resolver>,
    /// How many questions may wait for others at once.
    room: Arc<Semaphore>,
    tasks: Tasks,
    runtime: Handle,
    stop: OwnedFd,
}

/// Running threads. They end when it is dropped.
pub(super) struct Threads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("count", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Threads {
    /// `count` threads answer at each of `sockets`, and use the runtime of the caller for what takes
    /// time; for at most as many questions at once as `room` has.
    ///
    /// # Errors
    /// The kernel's: no thread, or too many open files.
    pub(super) fn start(
        sockets: Vec<UdpSocket>,
        count: usize,
        resolver: &Arc<Resolver>,
        room: &Arc<Semaphore>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            resolver: Arc::clone(resolver),
            room: Arc::clone(room),
            tasks: Tasks::default(),
            runtime: Handle::current(),
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let mut all = Self { shared, threads: Vec::new() };
        for socket in sockets {
            let socket = Arc::new(socket);
            for _ in 0..count {
                let (shared, socket) = (Arc::clone(&all.shared), Arc::clone(&socket));
                let thread = std::thread::Builder::new().name("dns".into()).stack_size(STACK);
                all.threads.push(thread.spawn(move || serve(&shared, &socket))?);
            }
        }
        Ok(all)
    }

    /// Nothing more is read; what waits for others goes on.
    pub(super) fn stop_reading(&mut self) {
        let _told = rustix::io::write(&self.shared.stop, &1_u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop_reading();
    }
}

fn serve(shared: &Arc<Shared>, socket: &Arc<UdpSocket>) {
    let mut batch = Batch::new();
    let mut answers: Vec<Vec<u8>> = (0..BATCH).map(|_| Vec::new()).collect();
    loop {
        match batch.receive(socket) {
            Ok(count) => answer(shared, socket, (&batch, count), &mut answers),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut events =
                    [PollFd::new(socket, PollFlags::IN), PollFd::new(&shared.stop, PollFlags::IN)];
                let _interrupted = poll(&mut events, None);
                if !events[1].revents().is_empty() {
                    return;
                }
            }
            // Of a packet that was sent before, to somebody who is gone.
            Err(_) => {}
        }
    }
}

fn answer(
    shared: &Arc<Shared>,
    socket: &Arc<UdpSocket>,
    (batch, count): (&Batch, usize),
    answers: &mut [Vec<u8>],
) {
    let desk = shared.resolver.desk();
    let start = Instant::now();
    let now = start.into_std();
    let mut answered = 0;
    for (number, out) in answers.iter_mut().enumerate().take(count) {
        let Some(from) = batch.from(number) else {
            out.clear();
            continue;
        };
        let packet = batch.packet(number);
        let asked =
            Asked { packet, from: from.ip(), channel: Channel::Udp, now, again: false, searches: true };
        match desk.answer(asked, out) {
            Verdict::Answered => answered += 1,
            Verdict::Silence => out.clear(),
            Verdict::Ask(..) => {
                out.clear();
                leave(shared, socket, (packet, from), out);
            }
        }
    }
    batch.send(socket, &answers[..count]);
    desk.counters().count_time(start.elapsed(), answered);
}

/// A task finds the answer, and sends it. `out` has one if there are too many such tasks.
fn leave(
    shared: &Arc<Shared>,
    socket: &Arc<UdpSocket>,
    (packet, from): (&[u8], SocketAddr),
    out: &mut Vec<u8>,
) {
    let desk = shared.resolver.desk();
    let Ok(permit) = Arc::clone(&shared.room).try_acquire_owned() else {
        desk.counters().count_dropped();
        if let Verdict::Silence = desk.give_up(packet, out) {
            out.clear();
        }
        return;
    };
    let (resolver, socket, packet) = (Arc::clone(&shared.resolver), Arc::clone(socket), packet.to_vec());
    shared.tasks.spawn_on(&shared.runtime, async move {
        let start = Instant::now();
        let mut out = Vec::new();
        let now = start.into_std();
        let asked = Asked {
            packet: &packet,
            from: from.ip(),
            channel: Channel::Udp,
            now,
            again: true,
            searches: true,
        };
        if let Verdict::Answered = resolver.answer(asked, &mut out).await {
            // As with any datagram: who does not get it asks again.
            let _sent = socket.send_to(&out, from);
            resolver.desk().counters().count_time(start.elapsed(), 1);
        }
        drop(permit);
    });
}
