//! Git's smart protocol over http and https, by reqwest and rustls.

use super::{Endpoint, Fault, Session};
use crate::git::credentials;
use crate::git::error::GitError;
use crate::git::limits::Limits;
use crate::git::location::HttpLocation;
use manifests::config::GitAuth;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, StatusCode, Url, redirect};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Some servers tell Git from a browser by the first word.
const USER_AGENT: &str = concat!("git/2.0 (keel/", env!("CARGO_PKG_VERSION"), ")");
const REFERENCES: &str = "/info/refs?service=git-upload-pack";
const MAX_REDIRECTS: usize = 5;

/// A client and the authorities that it was made with; kept while these stay the same.
#[derive(Debug)]
pub(in crate::git) struct HttpClient {
    authorities: Option<Vec<u8>>,
    client: Client,
}

impl HttpClient {
    /// The client for a fetch from `location`: the `kept` one if its authorities still hold.
    ///
    /// # Errors
    /// [`GitError::CredentialFile`] for an unusable `caFile`, [`GitError::Unreachable`] if
    /// the host has no authorities at all.
    pub(in crate::git) fn for_fetch(
        kept: Option<Self>,
        auth: &GitAuth,
        location: &HttpLocation,
        limits: &Limits,
    ) -> Result<Self, GitError> {
        let authorities = auth.ca_file.as_deref().map(credentials::read_authorities).transpose()?;
        if let Some(kept) = kept.filter(|kept| kept.authorities == authorities) {
            return Ok(kept);
        }
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(limits.connect_timeout)
            // The blocking client applies it to each read, not to the whole.
            .timeout(limits.idle_timeout)
            .redirect(redirect_policy());
        if let (Some(pem), Some(path)) = (&authorities, &auth.ca_file) {
            let unusable = |error| credentials::unusable(path.clone(), io::Error::other(error));
            let certificates = Certificate::from_pem_bundle(pem).map_err(unusable)?;
            if certificates.is_empty() {
                let empty = io::Error::new(io::ErrorKind::InvalidData, "it holds no PEM certificate");
                return Err(credentials::unusable(path.clone(), empty));
            }
            builder = builder.tls_certs_merge(certificates);
        } else if !location.is_encrypted() {
            // A host without any authority can still use http.
            builder = builder.tls_certs_only([]);
        }
        let failed =
            |error| GitError::Unreachable { url: location.base().into(), source: Fault::Http(error) };
        Ok(Self { authorities, client: builder.build().map_err(failed)? })
    }

    /// Where a fetch from `location` goes, with the credentials of this moment.
    ///
    /// # Errors
    /// [`GitError::CredentialFile`].
    pub(in crate::git) fn endpoint(
        &self,
        auth: &GitAuth,
        location: &HttpLocation,
    ) -> Result<HttpEndpoint, GitError> {
        let authorization = credentials::authorization(auth, location)?;
        let base = Mutex::new(Base { url: location.base().to_owned(), authorization });
        Ok(HttpEndpoint { client: self.client.clone(), base })
    }
}

/// Follows a few redirections, never out of TLS.
fn redirect_policy() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let encrypted = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("too many redirections")
        } else if encrypted && attempt.url().scheme() != "https" {
            attempt.error("a redirection out of https")
        } else {
            attempt.follow()
        }
    })
}

/// Where a fetch goes, and with which credentials.
#[derive(Debug)]
pub(in crate::git) struct HttpEndpoint {
    client: Client,
    base: Mutex<Base>,
}

#[derive(Debug, Clone)]
struct Base {
    url: String,
    authorization: Option<HeaderValue>,
}

impl HttpEndpoint {
    fn base(&self) -> Base {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As Git does, goes on where the first answer came from; without the credentials if
    /// that is another server.
    fn redirected(&self, to: &Url) {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(url) = to.as_str().strip_suffix(REFERENCES) else { return };
        if url != base.url {
            let same_server = Url::parse(&base.url).is_ok_and(|old| old.origin() == to.origin());
            base.authorization = base.authorization.take().filter(|_| same_server);
            url.clone_into(&mut base.url);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    References,
    Pack,
}

/// One request and its answer: sent when libgit2 first reads.
pub(super) struct Exchange {
    session: Arc<Session>,
    question: Question,
    body: Vec<u8>,
    response: Option<Response>,
}

impl Exchange {
    pub(super) fn references(session: Arc<Session>) -> Self {
        Self { session, question: Question::References, body: Vec::new(), response: None }
    }

    pub(super) fn pack(session: Arc<Session>) -> Self {
        Self { session, question: Question::Pack, body: Vec::new(), response: None }
    }

    fn answer(&mut self) -> Result<&mut Response, Fault> {
        if self.response.is_none() {
            self.response = Some(self.send()?);
        }
        self.response.as_mut().ok_or(Fault::NotGit)
    }

    fn send(&mut self) -> Result<Response, Fault> {
        let Endpoint::Http(endpoint) = &self.session.endpoint else { return Err(Fault::NotGit) };
        self.session.patience()?;
        let response = self.request(endpoint).send().map_err(|error| self.http_fault(error))?;
        check_status(response.status())?;
        if self.question == Question::References {
            let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
            if kind != Some(b"application/x-git-upload-pack-advertisement") {
                return Err(Fault::NotGit);
            }
            endpoint.redirected(response.url());
        }
        Ok(response)
    }

    fn request(&self, endpoint: &HttpEndpoint) -> RequestBuilder {
        let base = endpoint.base();
        let request = match self.question {
            Question::References => endpoint.client.get(format!("{}{REFERENCES}", base.url)),
            Question::Pack => endpoint
                .client
                .post(format!("{}/git-upload-pack", base.url))
                .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
                .header(ACCEPT, "application/x-git-upload-pack-result")
                .body(self.body.clone()),
        };
        match base.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    fn http_fault(&self, error: reqwest::Error) -> Fault {
        if error.is_timeout() && !error.is_connect() {
            return self.session.timed_out(self.session.idle_timeout);
        }
        Fault::Http(error.without_url())
    }
}

fn check_status(status: StatusCode) -> Result<(), Fault> {
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Fault::Denied),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Fault::NotFound),
        other => Err(Fault::Status { status: other.as_u16() }),
    }
}

impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(fault) = self.session.patience() {
            return Err(self.session.fail(fault));
        }
        let read = match self.answer() {
            Ok(response) => response.read(buffer),
            Err(fault) => return Err(self.session.fail(fault)),
        };
        read.map_err(|error| {
            let timed_out = error.kind() == io::ErrorKind::TimedOut;
            let fault = if timed_out {
                self.session.timed_out(self.session.idle_timeout)
            } else {
                Fault::Broken(error)
            };
            self.session.fail(fault)
        })
    }
}

impl Write for Exchange {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
