//! Hears when others change links, routes and neighbours.

use crate::sys::route;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::SocketAddr;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// Who changes things over and over is not followed faster.
const BREATH: Duration = Duration::from_millis(100);
const GROUPS: [MulticastGroup; 4] =
    [MulticastGroup::Link, MulticastGroup::Neigh, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];

type Heard = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);

/// Hears of what concerns the ways to other nodes.
#[derive(Debug)]
pub(super) struct Ear {
    messages: UnboundedReceiver<Heard>,
    task: tokio::task::JoinHandle<()>,
    device: Option<u32>,
    links: BTreeSet<u32>,
    /// Something was heard that nobody was told of.
    pending: bool,
}

impl Ear {
    /// In the network namespace of the calling thread, on its tokio runtime.
    pub(super) fn open() -> io::Result<Self> {
        let (connection, _, messages) = new_multicast_connection(&GROUPS)?;
        let task = tokio::spawn(connection);
        Ok(Self { messages, task, device: None, links: BTreeSet::new(), pending: false })
    }

    /// Neighbours of this device and these links matter from here on.
    pub(super) fn mind(&mut self, device: Option<u32>, links: impl Iterator<Item = u32>) {
        self.device = device;
        self.links = links.chain(device).collect();
    }

    /// Ends some time after something that matters was heard.
    pub(super) async fn hear(&mut self) {
        while !self.pending {
            match self.messages.next().await {
                Some((message, _)) => self.pending = self.matters(&message),
                // Whoever looks from time to time finds out.
                None => std::future::pending().await,
            }
        }
        tokio::time::sleep(BREATH).await;
        // What was said meanwhile is seen by the same look.
        while self.messages.try_recv().is_ok() {}
        self.pending = false;
    }

    fn matters(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let NetlinkPayload::InnerMessage(message) = &message.payload else { return false };
        #[allow(clippy::wildcard_enum_match_arm, reason = "nothing else was asked for")]
        match message {
            RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message) => {
                route::is_ours(message)
            }
            RouteNetlinkMessage::NewNeighbour(message) | RouteNetlinkMessage::DelNeighbour(message) => {
                Some(message.header.ifindex) == self.device
            }
            RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message) => {
                self.links.contains(&message.header.index)
            }
            _ => false,
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}
