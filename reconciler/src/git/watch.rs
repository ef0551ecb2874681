//! Wakes when a repository on this machine changes, so that no interval has to pass.
//!
//! Level-triggered: a wake says "look again" and nothing more. Several changes may be
//! one wake, and a wake may come without a change; the interval repairs what is missed
//! (a folder above the repository that is itself moved away).

use super::error::GitError;
use super::local;
use super::location::Location;
use super::reference::Wanted;
use manifests::config::GitSource;
use notify::event::{EventKind, ModifyKind};
use notify::{Event, INotifyWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use tokio::sync::Notify;

/// How often the places are looked at anew while they change under the look.
const MAX_ROUNDS: usize = 8;

/// Why a repository cannot be watched. Its interval still holds.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The source can never work.
    #[error(transparent)]
    Source(#[from] GitError),
    /// inotify has no more to give, or is not there.
    #[error("the repository cannot be watched")]
    Start(#[source] notify::Error),
    /// No thread can be started.
    #[error("the thread that watches cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A watch on the references of a local repository; ends when dropped.
#[derive(Debug)]
pub struct RepositoryWatch {
    changed: Arc<Notify>,
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Happened(notify::Result<Event>),
    Stop,
}

impl RepositoryWatch {
    /// Watches the repository of `source` if it is on this machine; it need not be there
    /// yet, and may go and come back. The first wake comes at once.
    ///
    /// # Errors
    /// [`WatchError`]; a repository on another machine is no error but `None`.
    pub fn start(source: &GitSource) -> Result<Option<Self>, WatchError> {
        super::transport::prepare()?;
        let Location::Local(path) = Location::parse(&source.url)? else { return Ok(None) };
        let wanted = Wanted::of(source)?;
        let (messages, inbox) = channel();
        let happened = messages.clone();
        let handler = move |event| {
            // Nobody listens any more once the watch was dropped.
            happened.send(Message::Happened(event)).ok();
        };
        let config = notify::Config::default().with_follow_symlinks(false);
        let watcher = INotifyWatcher::new(handler, config).map_err(WatchError::Start)?;
        let changed = Arc::new(Notify::new());
        let mut armed = Armed { watcher, places: BTreeMap::new(), path, wanted };
        let wake = Arc::clone(&changed);
        let thread = thread::Builder::new()
            .name("git-watch".into())
            .spawn(move || armed.run(&inbox, &wake))
            .map_err(WatchError::Thread)?;
        Ok(Some(Self { changed, messages, thread: Some(thread) }))
    }

    /// Returns when the repository may have changed since the last return. At most one
    /// task may wait.
    ///
    /// # Cancel safety
    /// A dropped call loses no wake.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for RepositoryWatch {
    fn drop(&mut self) {
        // Either fails only if the thread has ended.
        self.messages.send(Message::Stop).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A folder as it was when it was watched: another one in its place has other numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// What is watched: folders only, each for itself, so that no event is lost between a
/// folder's making and its watch.
struct Armed {
    watcher: INotifyWatcher,
    places: BTreeMap<PathBuf, Identity>,
    path: PathBuf,
    wanted: Wanted,
}

impl Armed {
    fn run(&mut self, inbox: &Receiver<Message>, wake: &Notify) {
        self.arm();
        wake.notify_one();
        while let Ok(Message::Happened(event)) = inbox.recv() {
            let matters = event.as_ref().map_or(true, matters);
            if matters {
                self.arm();
                wake.notify_one();
            }
        }
    }

    /// Watches the places that matter now. Once more if they changed meanwhile: what is
    /// made after its folder is watched is an event.
    fn arm(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let places = places(&self.path, &self.wanted);
            if places == self.places {
                return;
            }
            let stale: Vec<_> =
                self.places.iter().filter(|(path, was)| places.get(*path) != Some(*was)).collect();
            for (path, _) in stale {
                // A folder that is gone has taken its watch along.
                self.watcher.unwatch(path).ok();
            }
            let mut armed = BTreeMap::new();
            for (path, identity) in places {
                let known = self.places.get(&path) == Some(&identity);
                if known || self.watcher.watch(&path, RecursiveMode::NonRecursive).is_ok() {
                    armed.insert(path, identity);
                }
            }
            self.places = armed;
        }
    }
}

/// Whether an event may mean another commit. Reading is none, and Git writes every
/// reference as a lock file that it renames.
fn matters(event: &Event) -> bool {
    let kind = match event.kind {
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    };
    let noise = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.ends_with(b".lock") || NOISY.contains(&name)
    };
    kind && (event.paths.is_empty() || !event.paths.iter().all(noise))
}

/// Files beside `HEAD` that change with every work in a repository and name no commit.
const NOISY: [&[u8]; 6] = [b"index", b"COMMIT_EDITMSG", b"ORIG_HEAD", b"FETCH_HEAD", b"gc.pid", b"config"];

/// The folders in which a change of the repository at `path` would show.
fn places(path: &Path, wanted: &Wanted) -> BTreeMap<PathBuf, Identity> {
    let folders = match local::open(path) {
        Ok(repository) => reference_folders(&repository, wanted),
        Err(_) => folders_above(path),
    };
    folders
        .into_iter()
        .filter_map(|folder| Some((identity(&folder)?, folder)))
        .map(|(id, path)| (path, id))
        .collect()
}

/// Where `HEAD`, `packed-refs` and the followed reference are.
fn reference_folders(repository: &git2::Repository, wanted: &Wanted) -> Vec<PathBuf> {
    let common = repository.commondir().to_owned();
    let mut folders = vec![repository.path().to_owned(), common.clone(), common.join("refs")];
    let name = match wanted {
        Wanted::Head => {
            let head = repository.find_reference("HEAD").ok();
            head.and_then(|head| head.symbolic_target().ok().flatten().map(str::to_owned))
        }
        Wanted::Branch(_) | Wanted::Tag(_) => wanted.full_name(),
        Wanted::Commit(_) => Some("refs/heads/any".into()),
    };
    let Some(name) = name else { return folders };
    let parts: Vec<_> = name.split('/').collect();
    for length in 2..parts.len() {
        folders.push(common.join(parts[..length].join("/")));
    }
    folders
}

/// Where a repository that is not there (yet, or whole) would appear.
fn folders_above(path: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for candidate in local::candidates(path) {
        folders.extend([candidate.join(".git"), candidate.join("refs"), candidate.join("objects")]);
        folders.extend(candidate.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned));
    }
    folders.extend(path.parent().map(Path::to_owned));
    folders
}

fn identity(folder: &Path) -> Option<Identity> {
    let metadata = fs::metadata(folder).ok().filter(fs::Metadata::is_dir)?;
    Some(Identity { device: metadata.dev(), inode: metadata.ino() })
}
