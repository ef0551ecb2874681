//! Git sources: what a repository holds at the commit that a source follows.
//!
//! Everything here blocks and belongs on a thread of its own (`spawn_blocking`),
//! except [`schedule`], which is pure, and [`watch`], which is asynchronous. A fetch
//! hands out text; what the text means is `manifests`' part, and whether a revision
//! takes force is the caller's.
//!
//! Nothing here ever writes to a repository, nor runs anything out of one (no hook,
//! filter or configured command), which is why the owner of a local repository does
//! not matter. Credentials stay inside [`credentials`] and the transports: libgit2
//! itself never learns the address that it talks to. See docs/adr/0002-git-transports.md.

mod bare_clone;
mod credentials;
mod error;
mod history;
mod limits;
mod local;
mod location;
mod reference;
mod remote;
mod repository;
pub mod schedule;
mod transport;
mod tree;
pub mod watch;

pub use error::{Excess, GitError};
pub use limits::Limits;
pub use repository::{Fetched, Outcome, Repository};
pub use transport::Fault;
