//! A repository on another machine, through a bare clone that is as shallow as it can be.

use super::bare_clone::{BareClone, remember};
use super::error::{Excess, Failure, GitError};
use super::history::{Ancestry, ancestry};
use super::limits::Limits;
use super::reference::Wanted;
use super::transport::{self, Session};
use git2::{AutotagOption, Direction, ErrorClass, FetchOptions, Oid, Remote, RemoteCallbacks, Repository};
use std::sync::Arc;

/// All of the history, in the words of the protocol.
const UNSHALLOW: i32 = 0x7fff_ffff;
/// How far back to ask, one after the other, until the commit in force is met. Most
/// commits land within the first of the one before.
const DEPTHS: [i32; 4] = [16, 256, 4096, UNSHALLOW];
/// Where fetched references would go; the clone's own names are set by [`remember`].
const FETCHED: &str = "refs/keel/fetched";

/// One source's question to its repository.
pub(super) struct Question<'a> {
    pub(super) wanted: &'a Wanted,
    /// The commit that the new one must descend from, if it must.
    pub(super) must_descend_from: Option<Oid>,
    /// The commit that needs no fetch, if there is one.
    pub(super) known: Option<Oid>,
    pub(super) url: &'a str,
    pub(super) limits: &'a Limits,
}

/// The repository's answer.
pub(super) enum Answer {
    /// The tip is the known commit; nothing was fetched.
    Known,
    /// The tip, complete in the clone. Its history reaches down to the commit that it must
    /// descend from, or is known not to.
    Tip(Oid),
}

/// Asks the repository, and fetches into `clone` what is missing.
///
/// # Errors
/// [`Failure::Repository`] means that the clone is damaged, everything else the network
/// or the repository on the other side.
pub(super) fn ask(
    clone: &BareClone,
    session: &Arc<Session>,
    question: &Question<'_>,
) -> Result<Answer, Failure> {
    let repository = clone.open()?;
    let visit = Visit { repository: &repository, session, question };
    transport::during(session, || visit.run())
}

/// The tip of the followed reference as the server advertises it.
struct Tip {
    commit: Oid,
    refspec: String,
}

struct Visit<'a> {
    repository: &'a Repository,
    session: &'a Arc<Session>,
    question: &'a Question<'a>,
}

impl Visit<'_> {
    fn run(&self) -> Result<Answer, Failure> {
        if let Wanted::Commit(id) = self.question.wanted {
            return self.pinned(*id);
        }
        match self.question.must_descend_from {
            None => self.newest(),
            Some(in_force) => self.descending(in_force),
        }
    }

    /// The tip alone, without history.
    fn newest(&self) -> Result<Answer, Failure> {
        let mut remote = self.remote()?;
        let tip = self.tip(&mut remote)?;
        if self.question.known == Some(tip.commit) {
            return Ok(Answer::Known);
        }
        if !self.has(tip.commit)? {
            self.download(&mut remote, &[tip.refspec], 1)?;
        }
        self.arrived(tip.commit)
    }

    /// The tip with as much history as it takes to meet `in_force`.
    fn descending(&self, in_force: Oid) -> Result<Answer, Failure> {
        let mut last = None;
        for depth in DEPTHS {
            // Each depth is a connection of its own: an ssh server answers only once.
            let mut remote = self.remote()?;
            let tip = self.tip(&mut remote)?;
            if self.question.known == Some(tip.commit) {
                return Ok(Answer::Known);
            }
            last = Some(tip.commit);
            if self.ancestry(tip.commit, in_force)? != Ancestry::Unknown {
                break;
            }
            // A clone with all of its history stays so: only what is new comes.
            let complete = !self.repository.is_shallow() && self.has(in_force)?;
            self.download(&mut remote, &[tip.refspec], if complete { 0 } else { depth })?;
            if self.ancestry(tip.commit, in_force)? != Ancestry::Unknown {
                break;
            }
        }
        last.map_or_else(|| Err(self.missing(&[]).into()), |tip| self.arrived(tip))
    }

    /// One commit by its id: from a reference that happens to be there, by asking for the
    /// id, which not every server allows, or else out of everything that there is.
    fn pinned(&self, id: Oid) -> Result<Answer, Failure> {
        if self.has(id)? {
            return self.arrived(id);
        }
        let mut remote = self.remote()?;
        self.connect(&mut remote)?;
        let heads = remote.list().map_err(|error| self.network(error))?;
        let name = heads.iter().find(|head| head.oid() == id).map(|head| head.name().to_owned());
        let source = name.unwrap_or_else(|| id.to_string());
        let by_name = self.download(&mut remote, &[format!("+{source}:{FETCHED}")], 1);
        drop(remote);
        if by_name.is_ok() && self.has(id)? {
            return self.arrived(id);
        }
        if let Err(Failure::Refused(error @ (GitError::Unreachable { .. } | GitError::TooLarge { .. }))) =
            by_name
        {
            return Err(error.into());
        }
        let mut remote = self.remote()?;
        self.connect(&mut remote)?;
        let everything = ["+refs/heads/*:refs/keel/heads/*".into(), "+refs/tags/*:refs/keel/tags/*".into()];
        let depth = if self.repository.is_shallow() { UNSHALLOW } else { 0 };
        self.download(&mut remote, &everything, depth)?;
        if !self.has(id)? {
            return Err(self.missing(&[]).into());
        }
        self.arrived(id)
    }

    fn remote(&self) -> Result<Remote<'_>, Failure> {
        Ok(self.repository.remote_anonymous(&self.session.address())?)
    }

    fn connect(&self, remote: &mut Remote<'_>) -> Result<(), Failure> {
        remote.connect(Direction::Fetch).map_err(|error| self.network(error))
    }

    /// Connects and finds the followed reference.
    fn tip(&self, remote: &mut Remote<'_>) -> Result<Tip, Failure> {
        self.connect(remote)?;
        let heads = remote.list().map_err(|error| self.network(error))?;
        let name = self.question.wanted.full_name().unwrap_or_default();
        let find = |name: &str| heads.iter().find(|head| head.name() == name).map(git2::RemoteHead::oid);
        // An annotated tag is advertised twice: itself, and peeled to what it stands for.
        match find(&format!("{name}^{{}}")).or_else(|| find(&name)) {
            Some(commit) => Ok(Tip { commit, refspec: format!("+{name}:{FETCHED}") }),
            None => {
                let names: Vec<&str> = heads.iter().map(git2::RemoteHead::name).collect();
                Err(self.missing(&names).into())
            }
        }
    }

    fn missing(&self, references: &[&str]) -> GitError {
        let wanted = self.question.wanted;
        let nearest = wanted.nearest(references.iter().copied());
        GitError::NoSuchReference { url: self.question.url.into(), reference: wanted.to_string(), nearest }
    }

    fn download(&self, remote: &mut Remote<'_>, refspecs: &[String], depth: i32) -> Result<(), Failure> {
        let limit = self.question.limits.transfer_bytes;
        let mut exceeded = false;
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(|progress| {
            exceeded = progress.received_bytes() as u64 > limit;
            !exceeded
        });
        let mut options = FetchOptions::new();
        options.remote_callbacks(callbacks).download_tags(AutotagOption::None).update_fetchhead(false);
        options.depth(depth);
        let downloaded = remote.download(refspecs, Some(&mut options));
        drop(options);
        match downloaded {
            Ok(()) => Ok(()),
            Err(_) if exceeded => Err(GitError::TooLarge { excess: Excess::Transfer { limit } }.into()),
            Err(error) => Err(self.network(error)),
        }
    }

    /// The tip is here; a later fetch builds upon it.
    fn arrived(&self, tip: Oid) -> Result<Answer, Failure> {
        if self.repository.find_object(tip, None)?.kind() != Some(git2::ObjectType::Commit) {
            let reference = self.question.wanted.to_string();
            return Err(GitError::NotACommit { url: self.question.url.into(), reference }.into());
        }
        remember(self.repository, tip, self.question.must_descend_from)?;
        Ok(Answer::Tip(tip))
    }

    fn has(&self, id: Oid) -> Result<bool, Failure> {
        Ok(self.repository.odb()?.exists(id))
    }

    fn ancestry(&self, tip: Oid, in_force: Oid) -> Result<Ancestry, Failure> {
        Ok(ancestry(self.repository, tip, in_force)?)
    }

    /// Tells what the network did from what the clone did.
    fn network(&self, error: git2::Error) -> Failure {
        let url = self.question.url;
        if let Some(fault) = self.session.take_fault() {
            return fault.into_error(url).into();
        }
        if error.class() == ErrorClass::Net || error.class() == ErrorClass::Invalid {
            return GitError::Protocol { url: url.to_owned(), source: error }.into();
        }
        Failure::Repository(error)
    }
}
