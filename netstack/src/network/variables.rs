//! Variables of the kernel that are changed while there is a network of pods, and put back when it is removed: for
//! forwarding between links, and for connection tracking as the fast path needs it.
//!
//! What was changed is written into the bridge's alias, before it is changed: the kernel forgets both together
//! when the machine restarts.

use super::{NetworkError, NetworkOptions, Warning, bridge};
use crate::names::MADE_HERE;
use crate::services::Family;
use crate::sys::link::{self, Link};
use crate::sys::{address, sysctl};
use rtnetlink::Handle;
use std::collections::BTreeSet;
use std::io;

/// The longest alias of a link, in bytes (`IFALIASZ`).
const LONGEST_ALIAS: usize = 255;
const IPV4: &str = "ip_forward";
const IPV6: &str = "ipv6.forwarding";
const LIBERAL: &str = "tcp_be_liberal";
/// Before the name of a link that learns routes from routers.
const LEARNS: &str = "accept_ra=";

/// The words of a bridge's alias; none if somebody else wrote it.
fn words(bridge: &Link) -> Option<BTreeSet<String>> {
    let text = bridge.alias.as_deref().unwrap_or_default();
    let words: BTreeSet<_> = text.split_whitespace().map(str::to_owned).collect();
    let is_ours =
        |word: &String| [MADE_HERE, IPV4, IPV6, LIBERAL].contains(&&**word) || word.starts_with(LEARNS);
    words.iter().all(is_ours).then_some(words)
}

/// Whether the alias says that the bridge was made here.
pub(super) fn says_made_here(bridge: &Link) -> bool {
    words(bridge).is_some_and(|words| words.contains(MADE_HERE))
}

/// The alias has those words, too. Of an alias that somebody else wrote nothing is changed.
pub(super) async fn note(handle: &Handle, name: &str, more: &[String]) -> io::Result<()> {
    let Some(bridge) = link::find(handle, name).await? else { return Ok(()) };
    let Some(mut words) = words(&bridge) else { return Ok(()) };
    let count = words.len();
    for word in more {
        let length: usize = words.iter().map(|known| known.len() + 1).sum();
        if length + word.len() <= LONGEST_ALIAS {
            words.insert(word.clone());
        }
    }
    if words.len() == count {
        return Ok(());
    }
    link::set_alias(handle, bridge.index, &words.into_iter().collect::<Vec<_>>().join(" ")).await
}

/// Packets are forwarded between links, or warnings say that they are not.
pub(super) async fn ensure(handle: &Handle, options: &NetworkOptions) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for family in Family::ALL.into_iter().filter(|family| options.pod_cidrs.of(*family).is_some()) {
        let (variable, done) = match family {
            Family::V4 => ("net.ipv4.ip_forward", ensure_ipv4(handle, &options.bridge).await),
            Family::V6 => ("net.ipv6.conf.all.forwarding", ensure_ipv6(handle, &options.bridge).await),
        };
        match done {
            Ok(false) => {}
            Ok(true) => warnings.push(Warning::ForwardingEnabled(variable)),
            Err(error) => warnings.push(Warning::ForwardingOff(variable, error)),
        }
    }
    warnings
}

async fn ensure_ipv4(handle: &Handle, bridge: &str) -> io::Result<bool> {
    if sysctl::forwards_ipv4()? {
        return Ok(false);
    }
    note(handle, bridge, &[IPV4.to_owned()]).await?;
    sysctl::forward_ipv4(true)?;
    Ok(true)
}

/// Links but `bridge`, where there are pods, go on learning routes from routers if they did.
async fn ensure_ipv6(handle: &Handle, bridge: &str) -> io::Result<bool> {
    if sysctl::forwards_ipv6()? {
        return Ok(false);
    }
    let mut links = sysctl::learning_links()?;
    links.retain(|link| link != bridge);
    let learning = links.iter().map(|link| format!("{LEARNS}{link}"));
    note(handle, bridge, &std::iter::once(IPV6.to_owned()).chain(learning).collect::<Vec<_>>()).await?;
    for link in links {
        // An interface may go while we look.
        let _gone = sysctl::learn_always(&link, true);
    }
    sysctl::forward_ipv6(true)?;
    Ok(true)
}

/// Connection tracking takes packets that are ahead of what it has seen, as they are where others went past it.
pub(super) async fn ensure_liberal(handle: &Handle, bridge: &str) -> io::Result<()> {
    if sysctl::tracks_liberally()? {
        return Ok(());
    }
    note(handle, bridge, &[LIBERAL.to_owned()]).await?;
    sysctl::track_liberally(true)
}

/// What was changed is as it was. Where the machine has the bridge of another agent, that one is to do it.
pub(super) async fn put_back(handle: &Handle, options: &NetworkOptions) -> Result<(), NetworkError> {
    let links = link::list(handle).await.map_err(NetworkError::List)?;
    let assigned = address::list(handle).await.map_err(NetworkError::List)?;
    let Some(own) = links.iter().find(|link| link.name == options.bridge) else { return Ok(()) };
    // Where somebody else wrote the alias, nothing was noted.
    let Some(mut changed) = words(own) else { return Ok(()) };
    let made_here = changed.take(MADE_HERE);
    let failed = |source| NetworkError::SetUpBridge { name: options.bridge.clone(), source };
    let mut others = links.iter().filter(|link| link.kind == "bridge" && link.name != options.bridge);
    if let Some(other) = others.find(|link| bridge::is_made_here(link, &assigned)) {
        let changed: Vec<_> = changed.into_iter().collect();
        note(handle, &other.name, &changed).await.map_err(failed)?;
    } else {
        undo(&changed).map_err(NetworkError::PutBack)?;
    }
    link::set_alias(handle, own.index, made_here.as_deref().unwrap_or_default()).await.map_err(failed)
}

fn undo(words: &BTreeSet<String>) -> io::Result<()> {
    if words.contains(IPV4) {
        sysctl::forward_ipv4(false)?;
    }
    if words.contains(IPV6) {
        sysctl::forward_ipv6(false)?;
    }
    if words.contains(LIBERAL) {
        sysctl::track_liberally(false)?;
    }
    for link in words.iter().filter_map(|word| word.strip_prefix(LEARNS)) {
        // It may be gone.
        let _gone = sysctl::learn_always(link, false);
    }
    Ok(())
}
