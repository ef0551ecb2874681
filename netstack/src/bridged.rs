//! What goes from port to port of the bridge, and whether netfilter sees it.

use crate::sys::{link, netns, nft, sysctl};
use rtnetlink::Handle;
use tokio::sync::Mutex;

/// The kernel asks for the module once, and does not have others wait for it.
static LOADING: Mutex<()> = Mutex::const_new(());

/// Netfilter sees what goes from port to port of the bridge; false if the kernel cannot do that.
///
/// Where that is a module, a rule that asks for it has it loaded: the kernel has no other name for it.
/// The rule is in a network namespace of its own, so that nobody else's change of rules or links waits for
/// the module, and it for them. Other bridges of this namespace are not seen for that.
pub(crate) async fn ensure_seen(handle: &Handle, bridge: u32) -> bool {
    let alone = LOADING.lock().await;
    if !sysctl::can_see_bridged() {
        // Whether it helped is seen below.
        let _ = netns::in_new(nft::load_bridge_filter).await;
        if sysctl::can_see_bridged() {
            let _ = sysctl::hide_bridged();
        }
    }
    drop(alone);
    sysctl::can_see_bridged() && link::let_netfilter_see(handle, bridge).await.is_ok()
}
