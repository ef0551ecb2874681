//! Answers members.

use super::passport::Passport;
use super::wire::VERSION;
use super::wire::v1::peers_server::Peers;
use super::wire::v1::{Answer, Question};
use reconciler::peer::{Answerer, Topic};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Hears questions of members, and brings the answers of the store.
#[derive(Clone)]
pub(super) struct Ears(pub(super) Arc<dyn Answerer>);

#[tonic::async_trait]
impl Peers for Ears {
    async fn ask(&self, request: Request<Question>) -> Result<Response<Answer>, Status> {
        let name = request.extensions().get::<Passport>().map(|passport| passport.name.clone());
        let name = name.ok_or_else(|| Status::unauthenticated("nobody asks"))?;
        let Question { version, topic, body } = request.into_inner();
        if version != VERSION {
            let words = format!("messages of version {version} are not understood here, only of {VERSION}");
            return Err(Status::failed_precondition(words));
        }
        let topic = u8::try_from(topic).ok().and_then(Topic::of).ok_or_else(|| {
            Status::unimplemented(format!("messages about topic {topic} are not understood by this version"))
        })?;
        match self.0.answer(name, topic, body).await {
            Ok(body) => Ok(Response::new(Answer { body })),
            Err(reason) => Err(Status::aborted(reason)),
        }
    }
}
