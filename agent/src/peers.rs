//! The node's peers: who they are, and how messages get to and from them.
//!
//! One port. TLS 1.3 both ways with certificates of the cluster's own authority, and HTTP/2
//! with gRPC in it. See docs/adr/0006-peers-over-mtls.md. Decisions are pure: `trust` judges
//! certificates, `token` tokens, `renewal` and `backoff` say when; nothing here understands
//! what messages say.

mod applicant;
mod authority;
mod backoff;
mod desk;
mod dial;
mod door;
mod ears;
mod folder;
mod guesses;
mod identity;
mod key_hash;
mod link;
mod links;
mod membership;
mod office;
mod papers;
mod passport;
mod records;
mod renewal;
mod tls;
mod token;
mod trust;
mod wire;

pub(crate) use authority::ClusterCa;
pub(crate) use folder::{Folder, FolderError};
pub(crate) use membership::MembershipError;
pub(crate) use office::{Denial, Office};
pub(crate) use records::{Records, RecordsError};
pub(crate) use token::{JoinToken, TokenRefusal};

use anyhow::Context as _;
use applicant::{Applicant, ApplyError};
use desk::Desk;
use door::Door;
use identity::NodeKey;
use jiff::{SignedDuration, Timestamp};
use links::Links;
use manifests::config::{ClusterConfiguration, JoinConfiguration};
use papers::Papers;
use passport::Passport;
use prometheus::GaugeVec;
use reconciler::peer::{Answerer, Peer, Transport};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The clock may be set while we wait for a time of it; it is looked at so often.
const LOOK: SignedDuration = SignedDuration::from_mins(10);

/// The node's part in its cluster.
#[derive(Debug)]
pub(crate) struct Peers {
    me: Peer,
    key: NodeKey,
    papers: Papers,
    links: Arc<Links>,
    office: Arc<Office>,
    members: watch::Sender<Vec<Peer>>,
    folder: Folder,
    lifetime: Duration,
}

/// A number from 0 to 1 that nobody can guess; 0 where the kernel has none.
fn chance() -> f64 {
    let bits = getrandom::u32().unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

/// An address of this machine that others can reach: the one that leads out of it.
fn own_address() -> IpAddr {
    let found = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // Nothing is sent: the kernel only chooses a route. The address is one for documentation.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    found().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Where peers find a node that listens on `bound` and is configured so; pure.
fn advertised(cluster: &ClusterConfiguration, bound: SocketAddr, own: IpAddr) -> String {
    if !cluster.advertise_address.is_empty() {
        return cluster.advertise_address.clone();
    }
    if bound.ip().is_unspecified() {
        SocketAddr::new(own, bound.port()).to_string()
    } else {
        bound.to_string()
    }
}

/// The node becomes a member of the cluster that `join` leads to, and keeps that in `state_dir`.
/// Says which cluster.
///
/// # Errors
/// If no server lets it in; if it is a member already.
pub(crate) async fn join(
    (cluster, node_name): (&ClusterConfiguration, &str),
    state_dir: &Path,
    join: &JoinConfiguration,
) -> Result<String, MembershipError> {
    let folder = Folder::open(state_dir)?;
    let key = membership::node_key(&folder)?;
    if let Some(identity) = membership::kept(&folder, node_name, &key)? {
        return Ok(identity.trust().cluster().to_owned());
    }
    let bound = cluster.listen_address.parse().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let address = advertised(cluster, bound, own_address());
    let applicant = Applicant { name: node_name, address: &address, key: &key };
    let identity = membership::join_once(&folder, applicant, join).await?;
    Ok(identity.trust().cluster().to_owned())
}

impl Peers {
    /// The node is a member, of its own new cluster if no other was configured, and listens. It
    /// fails together with the others of its `zone`.
    ///
    /// # Errors
    /// If the port is taken; if the node can be no member.
    pub(crate) async fn open(
        (cluster, node_name, zone): (&ClusterConfiguration, &str, &str),
        state_dir: &Path,
        records: Arc<dyn Records>,
    ) -> anyhow::Result<(Self, TcpListener)> {
        let listener = TcpListener::bind(&cluster.listen_address)
            .await
            .with_context(|| format!("cannot listen for peers on {}", cluster.listen_address))?;
        let address = advertised(cluster, listener.local_addr()?, own_address());
        let folder = Folder::open(state_dir)?;
        let key = membership::node_key(&folder)?;
        let applicant = Applicant { name: node_name, address: &address, key: &key };
        let lifetime = cluster.lifetime();
        let identity = match (membership::kept(&folder, node_name, &key)?, &cluster.join) {
            (Some(identity), _) => identity,
            (None, Some(join)) => membership::join(&folder, applicant, join).await?,
            (None, None) => membership::found(&folder, applicant, lifetime, Timestamp::now())?,
        };
        let me = Peer { name: node_name.to_owned(), address, zone: zone.to_owned() };
        let mut known = folder.members()?;
        known.retain(|member| member.name != me.name);
        known.push(me.clone());
        let papers = Papers::new(identity);
        let office = Office::new(records, papers.clone(), lifetime);
        if let Some(pem) = folder.authority()? {
            office.set_authority(ClusterCa::from_pem(&pem)?);
        }
        let (links, office) = (Arc::new(Links::new(papers.clone())), Arc::new(office));
        let members = watch::Sender::new(known);
        Ok((Self { me, key, papers, links, office, members, folder, lifetime }, listener))
    }

    /// This node, as its peers know it.
    pub(crate) fn me(&self) -> &Peer {
        &self.me
    }

    /// What this node's certificate says.
    pub(crate) fn passport(&self) -> Passport {
        self.papers.identity().passport().clone()
    }

    /// The keys of the cluster's authorities.
    pub(crate) fn authorities(&self) -> Vec<String> {
        self.papers.identity().trust().pins().map(|pin| pin.to_string()).collect()
    }

    /// When the certificate is renewed, at the latest.
    pub(crate) fn renew_at(&self) -> Timestamp {
        renewal::renew_at(&self.passport(), 0.0)
    }

    /// True if this node made the cluster and knows of nobody else in it: there is nobody to join. Never
    /// of one that was told to rejoin.
    pub(crate) fn begins_alone(&self) -> bool {
        !self.folder.rejoins()
            && self.office.authority().is_some()
            && self.members().iter().all(|member| member.name == self.me.name)
    }

    /// The node has its place in the cluster's store.
    ///
    /// # Errors
    /// If that cannot be kept.
    pub(crate) fn has_begun(&self) -> anyhow::Result<()> {
        Ok(self.folder.set_rejoins(false)?)
    }

    /// Tokens, certificates and removals.
    pub(crate) fn office(&self) -> &Arc<Office> {
        &self.office
    }

    /// The members that were last known.
    pub(crate) fn members(&self) -> Vec<Peer> {
        self.members.borrow().clone()
    }

    /// Answers peers on `listener`, and keeps the certificate good, until `stop`.
    ///
    /// # Errors
    /// If the records cannot be used at all.
    pub(crate) async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        answerer: Arc<dyn Answerer>,
        expiration: GaugeVec,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        self.office.look().await?;
        let (office, papers) = (Arc::clone(&self.office), self.papers.clone());
        let desk = Desk { office, papers, members: self.members.subscribe() };
        let door = Door::new(self.papers.clone(), answerer, Some(desk));
        let served = door.serve(listener, stop.clone());
        let (served, ()) = tokio::join!(served, self.stay(expiration, stop));
        served.context("TLS for peers cannot be set up")
    }

    /// Renews the certificate whenever it is time, until `stop`.
    async fn stay(&self, expiration: GaugeVec, stop: CancellationToken) {
        let mut luck = chance();
        loop {
            let (passport, now) = (self.passport(), Timestamp::now());
            expiration.with_label_values(&["node"]).set(passport.until.as_duration().as_secs_f64());
            let wait = now.duration_until(renewal::renew_at(&passport, luck));
            let wait = if wait.is_positive() {
                wait.min(LOOK)
            } else {
                match self.renew(now).await {
                    Ok(()) => {
                        tracing::info!(until = %self.passport().until, "the node's certificate was renewed");
                        luck = chance();
                        SignedDuration::ZERO
                    }
                    Err(error) => {
                        let reason = crate::chain::chain(&*error);
                        tracing::warn!(until = %passport.until, reason, "the certificate is not renewed");
                        renewal::try_again_after(&passport, now)
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait.unsigned_abs()) => {}
            }
        }
    }

    /// The certificate is a new one: of the own authority, or of a member's.
    async fn renew(&self, now: Timestamp) -> anyhow::Result<()> {
        let applicant = Applicant { name: &self.me.name, address: &self.me.address, key: &self.key };
        if let Some(authority) = self.office.authority() {
            let subject = authority::Subject { name: applicant.name, address: applicant.address };
            let certificates = authority.sign(&self.key.request()?, subject, self.lifetime, now)?;
            let authorities = self.papers.identity().trust().to_pem();
            let membership = folder::Membership { certificates, authorities };
            let identity = identity::Identity::kept(&membership, &self.key)?;
            self.folder.set_membership(&membership)?;
            self.papers.renew(identity);
            return Ok(());
        }
        let mut last = None;
        for member in self.members().iter().filter(|member| member.name != self.me.name) {
            match applicant.renew(member, &self.papers).await {
                Ok(admission) => {
                    self.folder.set_membership(&admission.membership)?;
                    self.papers.renew(admission.identity);
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        let error: Option<ApplyError> = last;
        Err(error.map_or_else(|| anyhow::anyhow!("no other member is known"), Into::into))
    }
}

/// What a shared store takes part by.
impl Peers {
    /// Carries messages to peers.
    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        let links: Arc<Links> = Arc::clone(&self.links);
        links
    }

    /// The authority with its key, PEM, if this node has it: to be given to who shall sign too.
    pub(crate) fn authority_pem(&self) -> Option<String> {
        self.office.authority().map(|authority| authority.to_pem())
    }

    /// This node signs too, from here on and after its next start.
    ///
    /// # Errors
    /// If `pem` is no authority of this cluster, or cannot be kept.
    pub(crate) fn set_authority(&self, pem: &str) -> anyhow::Result<()> {
        let authority = ClusterCa::from_pem(pem)?;
        if !self.papers.identity().trust().pins().any(|pin| pin == authority.pin()) {
            anyhow::bail!("the authority is of another cluster");
        }
        self.folder.set_authority(pem)?;
        self.office.set_authority(authority);
        Ok(())
    }

    /// The members are these now: who joins is told, and the next start knows them. A store that has
    /// just begun knows of none, and that says nothing.
    ///
    /// # Errors
    /// If they cannot be kept.
    pub(crate) fn set_members(&self, members: Vec<Peer>) -> anyhow::Result<()> {
        if members.is_empty() || *self.members.borrow() == members {
            return Ok(());
        }
        self.folder.set_members(&members)?;
        self.links.keep_only(&members);
        self.members.send_replace(members);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
