//! How fast pods may send and receive.
//!
//! What a pod receives waits before the host's end of its link, what it sends before its own: a pod
//! that may change its interfaces (`NET_ADMIN`) can lift the latter.

use super::{Namespace, Network, NetworkError, pod};
use crate::names;
use crate::sys::{link, netns, tc};
use rtnetlink::Handle;
use std::io;

/// Bits per second; what is not limited is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// What the pod receives.
    pub ingress: Option<u64>,
    /// What the pod sends.
    pub egress: Option<u64>,
}

impl Network {
    /// The pod `uid`, which is joined by that interface, is as fast as `rates` say, and no faster.
    /// Repeating is harmless.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn shape(
        &self,
        uid: &str,
        (pod, interface): (&Namespace, &str),
        rates: Rates,
    ) -> Result<(), NetworkError> {
        let name = names::link_of(&self.options.bridge, uid);
        let failed = |source| NetworkError::Bandwidth { name: name.clone(), source };
        set(&self.handle, &name, rates.ingress).await.map_err(failed)?;
        // What waits must not be passed by.
        self.take_fast_path(&name).await;
        let (namespace, interface) = (netns::open(pod).map_err(failed)?, interface.to_owned());
        let inside = async move {
            let handle = pod::visitor()?;
            set(&handle, &interface, rates.egress).await
        };
        netns::visit(namespace, inside).await.and_then(|done| done).map_err(failed)
    }
}

async fn set(handle: &Handle, name: &str, rate: Option<u64>) -> io::Result<()> {
    let found = link::find(handle, name).await?.ok_or(nix::errno::Errno::ENODEV)?;
    match rate {
        Some(rate) => tc::limit(handle, found.index, rate).await,
        None => tc::unlimit(handle, found.index).await,
    }
}
