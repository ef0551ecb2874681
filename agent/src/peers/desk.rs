//! Answers who wants to become a member, or to stay one.

use super::door::Caller;
use super::office::{Application, Denial, Office, members};
use super::papers::Papers;
use super::trust::Stranger;
use super::wire::VERSION;
use super::wire::v1::enrolment_server::Enrolment;
use super::wire::v1::{EnrolRequest, RenewRequest, Welcome};
use crate::chain::chain;
use jiff::Timestamp;
use reconciler::peer::Peer;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// Hears applications, and tells what the office says.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) office: Arc<Office>,
    pub(super) papers: Papers,
    pub(super) members: watch::Receiver<Vec<Peer>>,
}

fn understood(version: u32) -> Result<(), Status> {
    if version == VERSION {
        return Ok(());
    }
    let words = format!("requests of version {version} are not understood here, only of {VERSION}");
    Err(Status::failed_precondition(words))
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::unauthenticated("nobody asks"))
}

fn denied(denial: &Denial) -> Status {
    let words = chain(denial);
    match denial {
        Denial::NoAuthority | Denial::Records(_) | Denial::Contended | Denial::Random(_) => {
            Status::unavailable(words)
        }
        Denial::Token(_)
        | Denial::TooManyGuesses
        | Denial::BadName { .. }
        | Denial::Taken { .. }
        | Denial::Removed { .. }
        | Denial::Unknown { .. }
        | Denial::OtherKey
        | Denial::Authority(_)
        | Denial::Myself { .. } => Status::permission_denied(words),
    }
}

impl Desk {
    fn welcome(&self, certificates: String) -> Response<Welcome> {
        let identity = self.papers.identity();
        let trust = identity.trust();
        Response::new(Welcome {
            certificates,
            authorities: trust.to_pem(),
            cluster_id: trust.cluster().to_owned(),
            members: members(&self.members.borrow()),
        })
    }
}

#[tonic::async_trait]
impl Enrolment for Desk {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<Welcome>, Status> {
        let from = caller(&request)?.from;
        let asked = request.into_inner();
        understood(asked.version)?;
        let application = Application {
            name: &asked.node_name,
            address: &asked.address,
            request: &asked.certificate_request,
        };
        let enrolled = self.office.enrol(&asked.token, application, from.ip(), Timestamp::now()).await;
        match enrolled {
            Ok(certificates) => {
                tracing::info!(node = asked.node_name, %from, "a node joined the cluster");
                Ok(self.welcome(certificates))
            }
            Err(denial) => {
                tracing::warn!(node = asked.node_name, %from, reason = %denial, "a node was not let in");
                Err(denied(&denial))
            }
        }
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Welcome>, Status> {
        // Who comes back after its certificate expired is who it was.
        let passport = match caller(&request)?.shown {
            Ok(passport) => passport,
            Err(Stranger::Expired(passport)) => *passport,
            Err(stranger) => return Err(Status::permission_denied(stranger.to_string())),
        };
        let asked = request.into_inner();
        understood(asked.version)?;
        let parts = (asked.address.as_str(), &asked.certificate_request[..]);
        match self.office.renew(&passport, parts, Timestamp::now()).await {
            Ok(certificates) => {
                tracing::info!(node = passport.name, "a node's certificate was renewed");
                Ok(self.welcome(certificates))
            }
            Err(denial) => Err(denied(&denial)),
        }
    }
}
