//! The ways to a repository on another machine, for libgit2 to speak Git over.
//!
//! libgit2 creates a transport by the scheme of an address, for the whole process; what
//! a fetch needs (the true address, its credentials, its bounds) reaches the transport as
//! the thread's current [`Session`]. The address that libgit2 is given says nothing, so
//! nothing of the true one can be written to a file or a message by it.

pub(super) mod http;
pub(super) mod ssh;

use super::error::GitError;
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{Error, ErrorClass, ErrorCode, Remote};
use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const HTTP_SCHEME: &str = "keel-http";
const SSH_SCHEME: &str = "keel-ssh";

/// What kept a transport from reaching a Git server, or from understanding it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nothing came for too long, or all of it took too long.
    #[error("no answer within {seconds} s")]
    TimedOut {
        /// How long was waited.
        seconds: u64,
    },
    /// An http status that stands for no success.
    #[error("the server answered with status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// Something answered that is no smart Git server.
    #[error("the server does not speak Git's smart http protocol there")]
    NotGit,
    /// Connection, TLS or http failed.
    #[error("the connection failed")]
    Http(#[source] reqwest::Error),
    /// The connection broke in the middle.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The ssh client gave up, in its words.
    #[error("the ssh client says: {said}")]
    Ssh {
        /// The first lines of its output.
        said: String,
    },
    /// The ssh client cannot be started.
    #[error("the ssh client {} cannot be started", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server wants other credentials.
    #[error("the credentials were refused")]
    Denied,
    /// The server is not the known one.
    #[error("the host key is not the known one")]
    HostKey,
    /// There is no such repository.
    #[error("there is no such repository")]
    NotFound,
}

impl Fault {
    /// The error that a source shows for this fault on the way to `url`.
    pub(super) fn into_error(self, url: &str) -> GitError {
        let url = url.to_owned();
        if matches!(self, Self::Denied) {
            GitError::AuthenticationFailed { url }
        } else if matches!(self, Self::HostKey) {
            GitError::HostKeyRejected { url }
        } else if matches!(self, Self::NotFound) {
            GitError::RepositoryNotFound { url }
        } else {
            GitError::Unreachable { url, source: self }
        }
    }
}

/// Where a fetch goes.
#[derive(Debug)]
pub(super) enum Endpoint {
    Http(http::HttpEndpoint),
    Ssh(ssh::SshEndpoint),
}

/// One fetch: where it goes, how long it may take, and what became of it.
#[derive(Debug)]
pub(super) struct Session {
    endpoint: Endpoint,
    idle_timeout: Duration,
    fetch_timeout: Duration,
    deadline: Instant,
    fault: Mutex<Option<Fault>>,
}

impl Session {
    /// A fetch that starts now.
    pub(super) fn start(endpoint: Endpoint, idle_timeout: Duration, fetch_timeout: Duration) -> Arc<Self> {
        let deadline = Instant::now() + fetch_timeout;
        Arc::new(Self { endpoint, idle_timeout, fetch_timeout, deadline, fault: Mutex::new(None) })
    }

    /// The address to give to libgit2.
    pub(super) fn address(&self) -> String {
        let scheme = match self.endpoint {
            Endpoint::Http(_) => HTTP_SCHEME,
            Endpoint::Ssh(_) => SSH_SCHEME,
        };
        format!("{scheme}://source")
    }

    /// What went wrong on the way, if anything did since the last call.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How long to wait for the next byte.
    fn patience(&self) -> Result<Duration, Fault> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::TimedOut { seconds: self.fetch_timeout.as_secs() });
        }
        Ok(left.min(self.idle_timeout))
    }

    fn timed_out(&self, waited: Duration) -> Fault {
        let whole = if waited < self.idle_timeout { self.fetch_timeout } else { self.idle_timeout };
        Fault::TimedOut { seconds: whole.as_secs() }
    }

    /// Keeps the first fault; libgit2 only learns that there was one.
    fn fail(&self, fault: Fault) -> io::Error {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        io::Error::other("the transport failed")
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Session>>> = const { RefCell::new(None) };
}

/// Runs `fetch`, whose remotes reach the repository as `session` says.
pub(super) fn during<T>(session: &Arc<Session>, fetch: impl FnOnce() -> T) -> T {
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            CURRENT.with_borrow_mut(Option::take);
        }
    }
    CURRENT.with_borrow_mut(|current| *current = Some(Arc::clone(session)));
    let _forget = Forget;
    fetch()
}

/// Makes libgit2 use these transports, once per process.
///
/// # Errors
/// [`GitError::Library`] if libgit2 refuses.
pub(super) fn prepare() -> Result<(), GitError> {
    let transports: [(&str, crate::sys::libgit2::Factory); 2] =
        [(HTTP_SCHEME, |remote| open(remote, true)), (SSH_SCHEME, |remote| open(remote, false))];
    crate::sys::libgit2::prepare(&transports).map_err(|reason| GitError::Library { reason })
}

fn open(remote: &Remote<'_>, stateless: bool) -> Result<Transport, Error> {
    let session = CURRENT.with_borrow(Option::clone).ok_or_else(|| failure("no fetch is under way"))?;
    Transport::smart(remote, stateless, Way(session))
}

struct Way(Arc<Session>);

impl SmartSubtransport for Way {
    fn action(&self, _: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        let session = Arc::clone(&self.0);
        let stream: Result<Box<dyn SmartSubtransportStream>, Fault> = match (&self.0.endpoint, service) {
            (_, Service::ReceivePackLs | Service::ReceivePack) => {
                return Err(failure("sources are only read"));
            }
            (Endpoint::Http(_), Service::UploadPackLs) => Ok(Box::new(http::Exchange::references(session))),
            (Endpoint::Http(_), Service::UploadPack) => Ok(Box::new(http::Exchange::pack(session))),
            (Endpoint::Ssh(_), _) => ssh::Connection::open(session).map(|open| Box::new(open) as Box<_>),
        };
        stream.map_err(|fault| failure(&self.0.fail(fault).to_string()))
    }

    fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn failure(message: &str) -> Error {
    Error::new(ErrorCode::GenericError, ErrorClass::Net, message)
}
