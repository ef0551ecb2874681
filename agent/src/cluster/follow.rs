//! Keeps what the node knows of its cluster as the store has it: who the members are, which
//! nodes are alive, who was removed, and the authority for those who may sign.

use super::SharedRecords;
use crate::peers::{Peers, Records};
use jiff::{SignedDuration, Timestamp};
use reconciler::heartbeats::Heartbeats;
use reconciler::store::{Leadership, Store};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// The record that holds the authority's key. Members that vote take it, so that any can sign.
const AUTHORITY: &str = "authority";

/// Looks every second, until `stop`.
///
/// # Errors
/// Never: what fails is tried again.
pub(crate) async fn follow(
    store: Arc<Store>,
    peers: Option<Arc<Peers>>,
    records: Arc<SharedRecords>,
    heartbeats: Arc<Heartbeats>,
    (me, stop): (String, CancellationToken),
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let (now, wall) = (Instant::now(), Timestamp::now());
        heartbeats.hear(&me, now, wall);
        let Some(peers) = &peers else { continue };
        let members = store.cluster().members();
        for member in &members {
            if let Some(ago) = member.heard
                && let Some(at) = now.checked_sub(ago)
            {
                let ago = SignedDuration::try_from(ago).unwrap_or_default();
                heartbeats.hear(&member.peer.name, at, wall - ago);
            }
        }
        let result = look(&store, peers, &records).await;
        let kept = peers.set_members(members.into_iter().map(|member| member.peer).collect());
        if let Err(error) = result.and(kept) {
            tracing::debug!(error = crate::chain::chain(&*error), "will be looked at again");
        }
    }
    Ok(())
}

async fn look(store: &Store, peers: &Peers, records: &SharedRecords) -> anyhow::Result<()> {
    peers.office().look().await?;
    let cluster = store.cluster();
    if peers.authority_pem().is_some() && cluster.leadership() == Leadership::Leads {
        peers.office().know(&peers.me().name, peers.passport().key, Timestamp::now()).await?;
    }
    let stored = records.get(AUTHORITY).await?;
    match (peers.authority_pem(), stored) {
        (Some(pem), None) if cluster.leadership() == Leadership::Leads => {
            records.swap(AUTHORITY, None, Some(json!({ "pem": pem }))).await?;
        }
        (None, Some(Value::Object(record))) => {
            let votes = cluster.members().iter().any(|member| member.id == cluster.node() && member.is_voter);
            if votes && let Some(pem) = record.get("pem").and_then(Value::as_str) {
                peers.set_authority(pem)?;
                tracing::info!("this node can let others in from here on");
            }
        }
        (Some(_) | None, _) => {}
    }
    Ok(())
}
