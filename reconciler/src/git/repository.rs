//! One source's repository: what it holds now, as far as it may take force.

use super::bare_clone::BareClone;
use super::error::{Failure, GitError};
use super::history::{Ancestry, ancestry};
use super::limits::Limits;
use super::local;
use super::location::Location;
use super::reference::Wanted;
use super::remote::{self, Answer, Question};
use super::transport::http::HttpClient;
use super::transport::ssh::SshEndpoint;
use super::transport::{self, Endpoint, Session};
use super::tree::{self, Manifests};
use git2::{Commit, Oid};
use jiff::Timestamp;
use manifests::config::{GitAuth, GitSource};
use manifests::parse::SourceFile;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a look at the repository brought.
#[derive(Debug)]
pub enum Outcome {
    /// The followed reference is the commit in force.
    Unchanged,
    /// It is another one, which may take force.
    New(Fetched),
}

/// A commit and the manifests in it.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The full id.
    pub commit: String,
    /// `Name <email>`.
    pub author: String,
    /// When the committer says that it was made.
    pub committed_at: Timestamp,
    /// First line of the message.
    pub subject: String,
    /// Every `*.yaml`, `*.yml` and `*.json` below the configured paths, sorted by path.
    pub files: Vec<SourceFile>,
    /// Configured paths that the commit does not have; only ever filled under `allowEmpty`.
    pub missing_paths: Vec<String>,
}

impl Fetched {
    /// Whether there is no manifest at all. A file without any object is the caller's to see.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// A source's repository. Used by one thread at a time, and the only user of its folder.
#[derive(Debug)]
pub struct Repository {
    location: Location,
    url: String,
    wanted: Wanted,
    paths: Vec<String>,
    auth: GitAuth,
    allow_empty: bool,
    allow_history_rewrite: bool,
    dir: PathBuf,
    limits: Limits,
    ssh_program: PathBuf,
    http: Option<HttpClient>,
}

impl Repository {
    /// The repository of `source`, whose clone, if it needs one, lives in `dir`. Reads and
    /// contacts nothing yet.
    ///
    /// # Errors
    /// `InvalidUrl`, `InvalidReference` or `InvalidPath`, if the source can never work;
    /// `Library` if libgit2 cannot be used.
    pub fn open(source: &GitSource, dir: &Path) -> Result<Self, GitError> {
        transport::prepare()?;
        let location = Location::parse(&source.url)?;
        Ok(Self {
            url: location.shown(),
            location,
            wanted: Wanted::of(source)?,
            paths: tree::normalized(&source.paths)?,
            auth: source.auth.clone(),
            allow_empty: source.allow_empty,
            allow_history_rewrite: source.allow_history_rewrite,
            dir: dir.to_owned(),
            limits: Limits::default(),
            ssh_program: "ssh".into(),
            http: None,
        })
    }

    /// Bounded by `limits` instead of the defaults.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Uses `program` as the ssh client; it must take OpenSSH's arguments.
    #[must_use]
    pub fn with_ssh_program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.ssh_program);
        self
    }

    /// The repository's address without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The followed branch, tag or commit by its name, or `HEAD`.
    #[must_use]
    pub fn reference(&self) -> String {
        self.wanted.name()
    }

    /// Looks at the repository, and reads the manifests if the followed reference is not
    /// `in_force`, the full id of the commit in force. Blocks for as long as the limits allow.
    ///
    /// A commit that a caller rejects is [`Outcome::New`] again at the next call.
    ///
    /// # Errors
    /// Every [`GitError`] but those of [`open`](Self::open). What is in force is untouched.
    pub fn fetch(&mut self, in_force: Option<&str>) -> Result<Outcome, GitError> {
        let in_force = parse_commit(in_force)?;
        Ok(self.look(in_force, in_force)?.map_or(Outcome::Unchanged, Outcome::New))
    }

    /// As [`fetch`](Self::fetch), but reads the manifests although the commit is in force
    /// already: for a source whose paths were changed in the configuration.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn fetch_again(&mut self, in_force: &str) -> Result<Fetched, GitError> {
        let in_force = parse_commit(Some(in_force))?;
        let missing = || GitError::NoSuchReference {
            url: self.url.clone(),
            reference: self.wanted.to_string(),
            nearest: Vec::new(),
        };
        let missing = missing();
        self.look(in_force, None)?.ok_or(missing)
    }

    /// Returns nothing if the reference is at `known`.
    fn look(&mut self, in_force: Option<Oid>, known: Option<Oid>) -> Result<Option<Fetched>, GitError> {
        if let (Wanted::Commit(pinned), Some(known)) = (&self.wanted, known)
            && *pinned == known
        {
            return Ok(None);
        }
        let trusted = self.allow_history_rewrite || matches!(self.wanted, Wanted::Commit(_));
        let must_descend_from = in_force.filter(|_| !trusted);
        if let Location::Local(path) = &self.location {
            let failed = |failure| match failure {
                Failure::Refused(error) => error,
                Failure::Repository(source) => GitError::LocalRepository { path: path.clone(), source },
            };
            return self.look_in_place(path, must_descend_from, known).map_err(failed);
        }
        self.look_through_clone(must_descend_from, known)
    }

    fn look_in_place(
        &self,
        path: &Path,
        must_descend_from: Option<Oid>,
        known: Option<Oid>,
    ) -> Result<Option<Fetched>, Failure> {
        let repository = local::open(path)?;
        let tip = local::resolve(&repository, &self.wanted, &self.url)?;
        if known == Some(tip) {
            return Ok(None);
        }
        self.read(&repository, tip, must_descend_from).map(Some)
    }

    fn look_through_clone(
        &mut self,
        must_descend_from: Option<Oid>,
        known: Option<Oid>,
    ) -> Result<Option<Fetched>, GitError> {
        let clone = BareClone::below(&self.dir);
        let mut renewed = false;
        loop {
            let session = self.session()?;
            let question = Question {
                wanted: &self.wanted,
                must_descend_from,
                known,
                url: &self.url,
                limits: &self.limits,
            };
            let answer = remote::ask(&clone, &session, &question).and_then(|answer| match answer {
                Answer::Known => Ok(None),
                Answer::Tip(tip) => self.read(&clone.open()?, tip, must_descend_from).map(Some),
            });
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Repository(source)) if renewed => {
                    return Err(GitError::Damaged { path: clone.path().to_owned(), source });
                }
                Err(Failure::Repository(source)) => {
                    tracing::warn!(
                        url = self.url,
                        error = source.message(),
                        "clone is damaged, making it anew"
                    );
                    clone.discard()?;
                    renewed = true;
                }
            }
        }
    }

    fn session(&mut self) -> Result<Arc<Session>, GitError> {
        let endpoint = match &self.location {
            Location::Http(location) => {
                let client = HttpClient::for_fetch(self.http.take(), &self.auth, location, &self.limits)?;
                let endpoint = client.endpoint(&self.auth, location);
                self.http = Some(client);
                Endpoint::Http(endpoint?)
            }
            Location::Ssh(location) => {
                let (program, auth, limits) = (&self.ssh_program, &self.auth, &self.limits);
                Endpoint::Ssh(SshEndpoint::new(program, auth, location, limits, &self.dir)?)
            }
            Location::Local(path) => {
                return Err(GitError::RepositoryNotFound { url: path.display().to_string() });
            }
        };
        Ok(Session::start(endpoint, self.limits.idle_timeout, self.limits.fetch_timeout))
    }

    fn read(
        &self,
        repository: &git2::Repository,
        tip: Oid,
        must_descend_from: Option<Oid>,
    ) -> Result<Fetched, Failure> {
        if let Some(in_force) = must_descend_from
            && ancestry(repository, tip, in_force)? != Ancestry::Descends
        {
            let (in_force, tip) = (in_force.to_string(), tip.to_string());
            return Err(
                GitError::HistoryRewritten { reference: self.wanted.to_string(), in_force, tip }.into()
            );
        }
        let commit = repository.find_commit(tip)?;
        let Manifests { files, missing_paths } = tree::read(repository, &commit, &self.paths, &self.limits)?;
        if let Some(path) = missing_paths.first().filter(|_| !self.allow_empty) {
            return Err(GitError::NoSuchPath { path: path.clone(), commit: tip.to_string() }.into());
        }
        Ok(fetched(&commit, files, missing_paths))
    }
}

fn fetched(commit: &Commit<'_>, files: Vec<SourceFile>, missing_paths: Vec<String>) -> Fetched {
    let author = commit.author();
    let text = String::from_utf8_lossy;
    let subject = text(commit.message_bytes()).lines().next().unwrap_or_default().trim().to_owned();
    Fetched {
        commit: commit.id().to_string(),
        author: format!("{} <{}>", text(author.name_bytes()), text(author.email_bytes())),
        // A commit can claim any time; one that is none becomes the epoch.
        committed_at: Timestamp::from_second(commit.time().seconds()).unwrap_or(Timestamp::UNIX_EPOCH),
        subject,
        files,
        missing_paths,
    }
}

fn parse_commit(id: Option<&str>) -> Result<Option<Oid>, GitError> {
    let invalid = |id: &str| GitError::InvalidReference {
        reference: id.to_owned(),
        reason: "the commit in force is not a full commit id",
    };
    id.map(|id| Oid::from_str(id).ok().filter(|_| id.len() == 40).ok_or_else(|| invalid(id))).transpose()
}
