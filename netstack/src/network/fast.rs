//! The pods' links on the fast path, where the kernel can do that.

use super::{Network, NetworkOptions, Warning, forwarding};
use crate::fast_path::{self, FastPath};
use crate::sys::link;
use rtnetlink::Handle;
use std::io;

/// There is a fast path exactly if that is wanted; or a warning says why not.
pub(super) async fn ensure(
    handle: &Handle,
    options: &NetworkOptions,
    bridge: u32,
) -> (Option<FastPath>, Option<Warning>) {
    let done = if options.fast_path {
        open(handle, &options.bridge, bridge).await.map(Some)
    } else {
        fast_path::close(handle, &options.bridge).await.map(|()| None)
    };
    match done {
        Ok(fast_path) => (fast_path, None),
        Err(error) => (None, Some(Warning::FastPath { wanted: options.fast_path, error })),
    }
}

async fn open(handle: &Handle, bridge: &str, index: u32) -> io::Result<FastPath> {
    let fast_path = FastPath::open(handle, (bridge, index)).await?;
    // There are variables of connection tracking once somebody wants to know what it says.
    if let Err(error) = forwarding::ensure_liberal(handle, bridge).await {
        fast_path::close(handle, bridge).await?;
        return Err(error);
    }
    Ok(fast_path)
}

impl Network {
    /// The pod of that link takes the fast path, if there is one. Where the kernel refuses, the pod's packets take the
    /// long way.
    pub(super) async fn take_fast_path(&self, name: &str) {
        let Some(fast_path) = &self.fast_path else { return };
        if let Ok(Some(link)) = link::find(&self.handle, name).await {
            let _long_way = fast_path.join(&link).await;
        }
    }
}
