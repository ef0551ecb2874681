//! Sockets of pods in the host's network, from the pod that had them to the next one.
//!
//! A pod's supervisor holds its sockets. In the host's network they have an address that stays,
//! so that a new pod gets them from the one before: while that runs, from its supervisor; after
//! it was stopped, from here, where they are kept for a while. Connections wait in them.

use super::{Shared, inside, remains};
use crate::plan::PodPlan;
use crate::state::Stage;
use crate::supervisor::gate::{GIVEN, OPEN};
use crate::supervisor::socket_path;
use crate::sys::descriptors;
use manifests::habits::Socket;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long after a pod's grace its sockets wait for the next pod.
const KEPT: Duration = Duration::from_secs(30);

/// Namespace, whether it is UDP, port: a pod gets no other namespace's sockets.
type Key = (String, bool, u16);

/// Sockets without a pod.
#[derive(Debug, Default)]
pub(super) struct Handover {
    kept: Mutex<BTreeMap<Key, Arc<OwnedFd>>>,
}

impl Handover {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<OwnedFd>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The plan's sockets that can be handed over, in the order in which a supervisor opens them.
pub(super) fn sockets(plan: &PodPlan) -> impl Iterator<Item = &Socket> {
    let all = plan.init_containers.iter().chain(&plan.containers).filter(|_| plan.host_network);
    all.flat_map(|container| &container.habits.wanted.sockets)
}

/// Those of the plan's sockets that somebody has.
pub(super) async fn find(shared: &Shared, plan: &PodPlan) -> Vec<Option<Arc<OwnedFd>>> {
    let mut found = Vec::new();
    for socket in sockets(plan) {
        let key = (plan.namespace.clone(), socket.udp, socket.port);
        let kept = shared.handover.kept().remove(&key);
        found.push(match kept {
            Some(kept) => Some(kept),
            None => ask_others(shared, plan, socket).await.map(Arc::new),
        });
    }
    found
}

/// The supervisor behind the gate has them, or knows that it has to open its own.
pub(super) fn give(gate: &UnixStream, sockets: &[Option<Arc<OwnedFd>>]) -> io::Result<()> {
    for socket in sockets {
        match socket {
            Some(socket) => drop(descriptors::send(gate, &[GIVEN], &[socket.as_fd()])?),
            None => (&mut &*gate).write_all(&[OPEN])?,
        }
    }
    Ok(())
}

/// Other pods of the namespace in the host's network, which therefore have no addresses.
async fn ask_others(shared: &Shared, plan: &PodPlan, socket: &Socket) -> Option<OwnedFd> {
    let others: Vec<String> = shared
        .pods()
        .iter()
        .filter(|(uid, pod)| **uid != plan.uid && pod.link.is_some())
        .filter(|(_, pod)| pod.state.namespace == plan.namespace && pod.state.addresses.is_empty())
        .map(|(uid, _)| uid.clone())
        .collect();
    for uid in others {
        if let Some(found) = ask(shared, &uid, socket).await {
            return Some(found);
        }
    }
    None
}

async fn ask(shared: &Shared, uid: &str, socket: &Socket) -> Option<OwnedFd> {
    let path = socket_path(&shared.options.run_dir, uid);
    let (udp, port) = (socket.udp, socket.port);
    tokio::task::spawn_blocking(move || inside::socket(&path, udp, port)).await.ok()?.ok()
}

/// The pod is about to be stopped: what it has is kept for the next one.
pub(super) async fn keep(shared: &Arc<Shared>, uid: &str, grace: Duration) {
    let in_host_network = shared
        .pods()
        .get(uid)
        .is_some_and(|pod| pod.state.stage == Stage::Started && pod.state.addresses.is_empty());
    if !in_host_network {
        return;
    }
    let Some(plan) = remains::plan(&shared.options, uid) else { return };
    for socket in sockets(&plan) {
        let Some(found) = ask(shared, uid, socket).await else { continue };
        let key = (plan.namespace.clone(), socket.udp, socket.port);
        let found = Arc::new(found);
        shared.handover.kept().insert(key.clone(), Arc::clone(&found));
        let (shared, found) = (Arc::clone(shared), Arc::downgrade(&found));
        // Ends with its time, or with the program.
        tokio::spawn(async move {
            let slept = shared.closed.run_until_cancelled(tokio::time::sleep(grace + KEPT)).await;
            let mut kept = shared.handover.kept();
            let is_ours = kept.get(&key).is_some_and(|now| Arc::downgrade(now).ptr_eq(&found));
            if slept.is_some() && is_ours {
                kept.remove(&key);
            }
        });
    }
}
