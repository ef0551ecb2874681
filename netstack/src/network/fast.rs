//! The pods' links on the fast path, where the kernel can do that.

use super::{Network, NetworkOptions, Warning, variables};
use crate::fast_path::{self, FastPath};
use crate::sys::link;
use rtnetlink::Handle;
use std::io;

/// There is a fast path exactly if that is wanted and can be; or a warning says why not, or why there still is one.
pub(super) async fn ensure(
    handle: &Handle,
    options: &NetworkOptions,
    bridge: u32,
) -> (Option<FastPath>, Option<Warning>) {
    let name = &options.bridge;
    let opened = if options.fast_path { open(handle, name, bridge).await.map(Some) } else { Ok(None) };
    let closed = match opened {
        Ok(Some(fast_path)) => return (Some(fast_path), None),
        Ok(None) => fast_path::close(handle, name).await,
        Err(error) => {
            // That of an agent before this one would be nobody's.
            let _still_there = fast_path::close(handle, name).await;
            Err(error)
        }
    };
    (None, closed.err().map(|error| Warning::FastPath { wanted: options.fast_path, error }))
}

async fn open(handle: &Handle, bridge: &str, index: u32) -> io::Result<FastPath> {
    let fast_path = FastPath::open(handle, (bridge, index)).await?;
    // There are variables of connection tracking once somebody wants to know what it says.
    variables::ensure_liberal(handle, bridge).await?;
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
