//! What goes from port to port of the bridge, and whether netfilter sees it.

use crate::sys::nfnetlink::Socket;
use crate::sys::{link, nft, sysctl};
use rtnetlink::Handle;

/// Netfilter sees what goes from port to port of the bridge; false if the kernel cannot do that.
///
/// Where that is a module it is loaded by asking for a match of `iptables` that needs it: the kernel
/// has no other name for it.
pub(crate) async fn ensure_seen(handle: &Handle, bridge: u32) -> bool {
    if !sysctl::can_see_bridged() {
        // Whether it helped is seen below.
        let _ = Socket::open().and_then(|mut socket| nft::load_match(&mut socket, "physdev"));
    }
    sysctl::can_see_bridged() && link::let_netfilter_see(handle, bridge).await.is_ok()
}
