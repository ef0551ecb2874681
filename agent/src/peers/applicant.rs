//! Asks members for a certificate: to join, or to renew the one that there is.

use super::dial::{DialError, dial};
use super::folder::{FolderError, Membership};
use super::identity::{Identity, IdentityError, NodeKey};
use super::key_hash::KeyHash;
use super::papers::Papers;
use super::tls::Expected;
use super::token::Invitation;
use super::trust::Trust;
use super::wire::v1::enrolment_client::EnrolmentClient;
use super::wire::v1::{EnrolRequest, RenewRequest, Welcome};
use super::wire::{MAX_MESSAGE_BYTES, VERSION};
use reconciler::peer::Peer;
use std::sync::Arc;
use std::time::Duration;
use tonic::codegen::http::Uri;
use tonic::{Code, Status};

/// A member signs in milliseconds; its records may need a leader first.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no certificate from one member.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// It could not be asked.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It said no.
    #[error("{server} refused: {reason}")]
    Refused {
        /// Who.
        server: String,
        /// Its words.
        reason: String,
    },
    /// It cannot say yes now.
    #[error("{server} cannot give a certificate now: {reason}")]
    NotNow {
        /// Who.
        server: String,
        /// Its words, or the transport's.
        reason: String,
    },
    /// The key cannot ask, or what came back is no certificate for it.
    #[error("the certificate cannot be used")]
    Identity(#[from] IdentityError),
    /// What came back is of another authority than the token names.
    #[error("{server} gave a certificate of another authority than the token names")]
    OtherAuthority {
        /// Who.
        server: String,
    },
    /// It cannot be kept.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// The node that wants a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applicant<'a> {
    pub(crate) name: &'a str,
    /// Where its peers will find it.
    pub(crate) address: &'a str,
    pub(crate) key: &'a NodeKey,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) membership: Membership,
    pub(crate) identity: Identity,
    pub(crate) members: Vec<Peer>,
}

fn told(server: &str, status: &Status) -> ApplyError {
    let (server, reason) = (server.to_owned(), status.message().to_owned());
    let final_word = matches!(
        status.code(),
        Code::PermissionDenied | Code::FailedPrecondition | Code::Unimplemented | Code::Unauthenticated
    );
    if final_word { ApplyError::Refused { server, reason } } else { ApplyError::NotNow { server, reason } }
}

fn client(line: super::dial::Line) -> EnrolmentClient<super::dial::Line> {
    EnrolmentClient::with_origin(line, Uri::from_static("https://peer.keel"))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Waits for an answer, not for ever.
async fn answered(
    server: &str,
    asked: impl Future<Output = Result<tonic::Response<Welcome>, Status>>,
) -> Result<Welcome, ApplyError> {
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    Ok(answer.map_err(|status| told(server, &status))?.into_inner())
}

impl Applicant<'_> {
    /// A membership by `invitation`, from the member at `server`. Nothing is kept yet.
    ///
    /// # Errors
    /// Why not; asking again with the same key does no harm.
    pub(crate) async fn join(&self, server: &str, invitation: &Invitation) -> Result<Admission, ApplyError> {
        let authority = invitation.authority;
        let line = dial(server, Expected::Pinned { authority }, None).await?;
        let request = EnrolRequest {
            version: VERSION,
            token: invitation.secret.to_string(),
            node_name: self.name.to_owned(),
            address: self.address.to_owned(),
            certificate_request: self.key.request()?.into(),
        };
        let welcome = answered(server, client(line).enrol(request)).await?;
        self.admission(server, welcome, &[authority])
    }

    /// A new certificate from the member `peer`, for the node of `papers`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn renew(&self, peer: &Peer, papers: &Papers) -> Result<Admission, ApplyError> {
        let expected = Expected::Member { papers: papers.clone(), name: peer.name.clone() };
        let line = dial(&peer.address, expected, Some(papers.clone())).await?;
        let request = RenewRequest {
            version: VERSION,
            address: self.address.to_owned(),
            certificate_request: self.key.request()?.into(),
        };
        let welcome = answered(&peer.address, client(line).renew(request)).await?;
        let pins: Vec<KeyHash> = papers.identity().trust().pins().collect();
        self.admission(&peer.address, welcome, &pins)
    }

    fn admission(&self, server: &str, welcome: Welcome, pins: &[KeyHash]) -> Result<Admission, ApplyError> {
        let trust = Trust::from_pem(&welcome.cluster_id, &welcome.authorities);
        let trust = Arc::new(trust.map_err(IdentityError::Trust)?);
        if !trust.pins().any(|pin| pins.contains(&pin)) {
            return Err(ApplyError::OtherAuthority { server: server.to_owned() });
        }
        let identity = Identity::new(&welcome.certificates, self.key, trust)?;
        let members = welcome.members.into_iter();
        let members = members.map(|it| Peer { name: it.name, address: it.address, zone: it.zone }).collect();
        let (certificates, authorities) = (welcome.certificates, welcome.authorities);
        Ok(Admission { membership: Membership { certificates, authorities }, identity, members })
    }
}
