//! How the node comes to be a member, at its start: it is one already, is let in, or founds a
//! cluster.

use super::applicant::{Applicant, ApplyError};
use super::authority::{AuthorityError, ClusterCa, Subject, new_cluster_id};
use super::folder::{Folder, FolderError, Membership};
use super::identity::{Identity, IdentityError, NodeKey};
use super::token::{Invitation, TokenRefusal};
use jiff::Timestamp;
use manifests::config::JoinConfiguration;
use std::path::PathBuf;
use std::time::Duration;

const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The node is no member, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembershipError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is in the folder does not fit together.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The authority cannot be made or used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The node had another name when it joined.
    #[error("the node's certificate is that of {was}, and its name is {is} now; a node keeps its `nodeName`")]
    Renamed {
        /// Then.
        was: String,
        /// Now.
        is: String,
    },
    /// The file with the token cannot be read.
    #[error("cannot read the join token {}", .path.display())]
    TokenFile {
        /// It.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token is none.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// No server let the node in.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The node's key, made now if there was none.
///
/// # Errors
/// If it can be neither read nor made.
pub(crate) fn node_key(folder: &Folder) -> Result<NodeKey, MembershipError> {
    if let Some(pem) = folder.node_key()? {
        return Ok(NodeKey::from_pem(&pem)?);
    }
    let key = NodeKey::generate()?;
    folder.set_node_key(&key.to_pem())?;
    Ok(key)
}

/// Who the node is, if it is a member already.
///
/// # Errors
/// If what is kept of it cannot be used, or is of another name.
pub(crate) fn kept(folder: &Folder, name: &str, key: &NodeKey) -> Result<Option<Identity>, MembershipError> {
    let Some(membership) = folder.membership()? else { return Ok(None) };
    let identity = Identity::kept(&membership, key)?;
    let was = &identity.passport().name;
    if was != name {
        return Err(MembershipError::Renamed { was: was.clone(), is: name.to_owned() });
    }
    Ok(Some(identity))
}

/// The node is the first of a cluster of its own. What was begun before a crash goes on.
///
/// # Errors
/// If files cannot be written.
pub(crate) fn found(
    folder: &Folder,
    applicant: Applicant<'_>,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Identity, MembershipError> {
    let authority = match folder.authority()? {
        Some(pem) => ClusterCa::from_pem(&pem)?,
        None => {
            let authority = ClusterCa::generate(&new_cluster_id()?, now)?;
            folder.set_authority(&authority.to_pem())?;
            authority
        }
    };
    let subject = Subject { name: applicant.name, address: applicant.address };
    let certificates = authority.sign(&applicant.key.request()?, subject, lifetime, now)?;
    let membership = Membership { certificates, authorities: authority.certificate_pem().to_owned() };
    let identity = Identity::kept(&membership, applicant.key)?;
    folder.set_membership(&membership)?;
    Ok(identity)
}

/// The invitation as it is configured now.
///
/// # Errors
/// If its file cannot be read; if it is none.
pub(crate) fn invitation(join: &JoinConfiguration) -> Result<Invitation, MembershipError> {
    let text = match (&join.token, &join.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|source| MembershipError::TokenFile { path: path.clone(), source })?,
        (None, None) => String::new(),
    };
    Ok(text.parse()?)
}

/// The node is let in by the first of the servers that does; tried once each.
///
/// # Errors
/// What the last server said.
pub(crate) async fn join_once(
    folder: &Folder,
    applicant: Applicant<'_>,
    join: &JoinConfiguration,
) -> Result<Identity, MembershipError> {
    let invitation = invitation(join)?;
    let mut result = Err(TokenRefusal::Malformed.into());
    for server in &join.servers {
        match applicant.join(server, &invitation).await {
            Ok(admission) => {
                folder.set_members(&admission.members)?;
                folder.set_membership(&admission.membership)?;
                return Ok(admission.identity);
            }
            Err(error) => {
                tracing::warn!(server, reason = crate::chain::chain(&error), "not let into the cluster");
                result = Err(error.into());
            }
        }
    }
    result
}

/// How long is waited after so many rounds without a server that lets the node in.
fn rest(rounds: u32) -> Duration {
    FIRST_REST.saturating_mul(1 << rounds.min(10)).min(LONGEST_REST)
}

/// The node is let in; asks until it is.
///
/// # Errors
/// If its own files cannot be used. What may pass (a server away, a token that is not yet there)
/// is waited for.
pub(crate) async fn join(
    folder: &Folder,
    applicant: Applicant<'_>,
    join: &JoinConfiguration,
) -> Result<Identity, MembershipError> {
    for rounds in 0.. {
        match join_once(folder, applicant, join).await {
            Ok(identity) => return Ok(identity),
            Err(error @ (MembershipError::Folder(_) | MembershipError::Identity(_))) => return Err(error),
            Err(error @ (MembershipError::Token(_) | MembershipError::TokenFile { .. })) => {
                tracing::warn!(reason = crate::chain::chain(&error), "no join token");
            }
            Err(
                MembershipError::Authority(_) | MembershipError::Renamed { .. } | MembershipError::Apply(_),
            ) => {}
        }
        tokio::time::sleep(rest(rounds).mul_f64(1.0 - super::chance() / 4.0)).await;
    }
    Err(TokenRefusal::Malformed.into())
}
