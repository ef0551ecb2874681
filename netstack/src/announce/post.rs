//! One link: who asks there is answered, and all are told what is new.

use super::frame::{Mac, answer, news, question};
use crate::sys::packet::{Frames, Packets};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// More than any question has.
const FRAME_BYTES: usize = 256;
/// How often all are told of a new address, for those who did not hear it, and how long it is between.
const TIMES: u8 = 5;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Post {
    link: u32,
    mac: Mac,
    arp: Packets,
    solicitations: Packets,
    /// Which groups of the link hear this node; none where there is no IPv6.
    groups: Option<UdpSocket>,
}

/// What is answered for.
#[derive(Debug, Default)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    /// How often all are still to be told.
    news: BTreeMap<IpAddr, u8>,
}

impl Post {
    /// On the link of that number, which has that hardware address. Acts in the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub(super) fn open(link: u32, mac: Mac) -> io::Result<Self> {
        let groups = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok();
        let (arp, solicitations) =
            (Packets::open(link, Frames::Arp)?, Packets::open(link, Frames::Solicitations)?);
        Ok(Self { link, mac, arp, solicitations, groups })
    }

    /// Answers for the addresses that `told` has, until nobody tells any more.
    ///
    /// # Errors
    /// The link's.
    pub(super) async fn run(self, mut told: watch::Receiver<BTreeSet<IpAddr>>) -> io::Result<()> {
        let mut held = Held::default();
        let mut next = self.take(&mut held, told.borrow_and_update().clone())?;
        let (mut of_arp, mut of_v6) = ([0; FRAME_BYTES], [0; FRAME_BYTES]);
        loop {
            // Every arm is cancel-safe, and none awaits in its body.
            tokio::select! {
                biased;
                changed = told.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let addresses = told.borrow_and_update().clone();
                    next = self.take(&mut held, addresses)?;
                }
                () = tokio::time::sleep_until(next), if !held.news.is_empty() => next = self.tell(&mut held)?,
                count = self.arp.receive(&mut of_arp) => self.reply(&held, &of_arp[..count?])?,
                count = self.solicitations.receive(&mut of_v6) => self.reply(&held, &of_v6[..count?])?,
            }
        }
    }

    /// These are answered for; all are told of those that are new. Returns when to tell again.
    fn take(&self, held: &mut Held, addresses: BTreeSet<IpAddr>) -> io::Result<Instant> {
        let news = addresses.difference(&held.addresses).map(|address| (*address, TIMES));
        held.news.extend(news);
        held.news.retain(|address, _| addresses.contains(address));
        let old = std::mem::replace(&mut held.addresses, addresses);
        self.join(&old, &held.addresses);
        self.tell(held)
    }

    fn tell(&self, held: &mut Held) -> io::Result<Instant> {
        for (address, times) in &mut held.news {
            for frame in news(*address, self.mac) {
                let packets = if address.is_ipv4() { &self.arp } else { &self.solicitations };
                packets.send(&frame)?;
            }
            *times -= 1;
        }
        held.news.retain(|_, times| *times > 0);
        Ok(Instant::now() + PAUSE)
    }

    /// Switches pass on what is for a group to those who said that they are in it.
    fn join(&self, old: &BTreeSet<IpAddr>, new: &BTreeSet<IpAddr>) {
        let groups = |all: &BTreeSet<IpAddr>| all.iter().filter_map(group).collect::<BTreeSet<_>>();
        let (old, new) = (groups(old), groups(new));
        let Some(socket) = &self.groups else { return };
        // Without, some neighbours have to be told, and cannot ask; that is no reason to give up.
        for group in old.difference(&new) {
            let _ = socket.leave_multicast_v6(group, self.link);
        }
        for group in new.difference(&old) {
            let _ = socket.join_multicast_v6(group, self.link);
        }
    }

    fn reply(&self, held: &Held, frame: &[u8]) -> io::Result<()> {
        let Some(question) = question(frame, self.mac).filter(|q| held.addresses.contains(&q.wanted)) else {
            return Ok(());
        };
        let packets = if question.wanted.is_ipv4() { &self.arp } else { &self.solicitations };
        answer(&question, self.mac).map_or(Ok(()), |frame| packets.send(&frame))
    }
}

/// The group in which an address is asked for. Source: RFC 4291, section 2.7.1.
fn group(address: &IpAddr) -> Option<Ipv6Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [.., high, low] = address.segments();
    Some(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low))
}
