//! The manifests of one commit.

use super::error::{Excess, Failure, GitError};
use super::limits::Limits;
use git2::{Commit, ObjectType, Odb, Oid, Repository, Tree, TreeEntry};
use manifests::parse::SourceFile;
use std::collections::BTreeMap;

const LINK_MODE: i32 = 0o120_000;
const LFS_HEADER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// A pointer file is small by its specification.
const LFS_MAX_BYTES: usize = 1024;

/// What the configured paths hold.
#[derive(Debug)]
pub(super) struct Manifests {
    /// Sorted by path, each once although paths may overlap.
    pub(super) files: Vec<SourceFile>,
    /// Configured paths that the commit does not have.
    pub(super) missing_paths: Vec<String>,
}

/// The configured `paths` as the repository writes them: relative to its root.
///
/// # Errors
/// [`GitError::InvalidPath`] for a path that leaves the repository.
pub(super) fn normalized(paths: &[String]) -> Result<Vec<String>, GitError> {
    let normalize = |path: &String| {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") || path.contains('\0') {
            return Err(GitError::InvalidPath { path: path.clone() });
        }
        Ok(parts.join("/"))
    };
    let paths = paths.iter().map(normalize).collect::<Result<Vec<_>, _>>()?;
    Ok(if paths.is_empty() { vec![String::new()] } else { paths })
}

/// Reads every `*.yaml`, `*.yml` and `*.json` of `commit` below `paths` ([`normalized`]).
///
/// Hidden files and folders are passed over unless a path names them, and so are
/// submodules and whatever is no manifest by its name.
///
/// # Errors
/// [`Failure::Refused`] for a symbolic link or LFS pointer in a manifest's place, and for
/// anything beyond `limits`; [`Failure::Repository`] if an object cannot be read.
pub(super) fn read(
    repository: &Repository,
    commit: &Commit<'_>,
    paths: &[String],
    limits: &Limits,
) -> Result<Manifests, Failure> {
    let mut walk = Walk { repository, commit: commit.id().to_string(), limits, found: BTreeMap::new() };
    let root = commit.tree()?;
    let missing_paths = walk.paths(&root, paths)?;
    let files = walk.contents()?;
    Ok(Manifests { files, missing_paths })
}

struct Walk<'a> {
    repository: &'a Repository,
    commit: String,
    limits: &'a Limits,
    found: BTreeMap<String, Oid>,
}

impl Walk<'_> {
    /// Finds the manifests below `paths` and returns the paths that are not there.
    fn paths(&mut self, root: &Tree<'_>, paths: &[String]) -> Result<Vec<String>, Failure> {
        let mut missing = Vec::new();
        for path in paths {
            if path.is_empty() {
                self.folder(root, "")?;
                continue;
            }
            match root.get_path(path.as_ref()) {
                Ok(entry) => {
                    if !self.named(&entry, path)? {
                        missing.push(path.clone());
                    }
                }
                Err(error) if error.code() == git2::ErrorCode::NotFound && in_tree(&error) => {
                    missing.push(path.clone());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(missing)
    }

    /// Takes what a configured path names; false if it is neither folder nor file.
    fn named(&mut self, entry: &TreeEntry<'_>, path: &str) -> Result<bool, Failure> {
        if entry.filemode() == LINK_MODE {
            return Err(self.link(path).into());
        }
        if entry.kind() == Some(ObjectType::Tree) {
            let tree = self.repository.find_tree(entry.id())?;
            self.folder(&tree, path)?;
            return Ok(true);
        }
        if entry.kind() == Some(ObjectType::Blob) {
            self.manifest(path.to_owned(), entry.id())?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Finds the manifests below one folder. Its own stack: a repository can nest deeper
    /// than a thread's.
    fn folder(&mut self, tree: &Tree<'_>, path: &str) -> Result<(), Failure> {
        let mut folders = vec![(tree.id(), path.to_owned())];
        while let Some((id, path)) = folders.pop() {
            let tree = self.repository.find_tree(id)?;
            for entry in &tree {
                if entry.name_bytes().starts_with(b".") {
                    continue;
                }
                let name = String::from_utf8_lossy(entry.name_bytes());
                let below = || if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
                if entry.kind() == Some(ObjectType::Tree) {
                    folders.push((entry.id(), below()));
                } else if entry.kind() == Some(ObjectType::Blob) && is_manifest(&name) {
                    if entry.filemode() == LINK_MODE {
                        return Err(self.link(&below()).into());
                    }
                    self.manifest(below(), entry.id())?;
                }
            }
        }
        Ok(())
    }

    fn manifest(&mut self, path: String, id: Oid) -> Result<(), GitError> {
        self.found.insert(path, id);
        if self.found.len() > self.limits.files {
            let excess = Excess::Files { commit: self.commit.clone(), limit: self.limits.files };
            return Err(GitError::TooLarge { excess });
        }
        Ok(())
    }

    fn contents(self) -> Result<Vec<SourceFile>, Failure> {
        let odb = self.repository.odb()?;
        let mut total = 0;
        let mut files = Vec::with_capacity(self.found.len());
        for (path, id) in &self.found {
            let content = self.content(&odb, path, *id)?;
            total += content.len() as u64;
            if total > self.limits.total_bytes {
                let excess = Excess::Revision { commit: self.commit, limit: self.limits.total_bytes };
                return Err(GitError::TooLarge { excess }.into());
            }
            files.push(SourceFile { path: path.clone(), content });
        }
        Ok(files)
    }

    fn content(&self, odb: &Odb<'_>, path: &str, id: Oid) -> Result<Vec<u8>, Failure> {
        // The size is looked up first: a blob that is too large never comes into memory.
        let (bytes, _) = odb.read_header(id)?;
        let (bytes, limit) = (bytes as u64, self.limits.file_bytes);
        if bytes > limit {
            let excess = Excess::File { path: path.to_owned(), bytes, limit };
            return Err(GitError::TooLarge { excess }.into());
        }
        let content = odb.read(id)?.data().to_vec();
        if content.len() <= LFS_MAX_BYTES && content.starts_with(LFS_HEADER) {
            return Err(GitError::LfsPointer { path: path.to_owned(), commit: self.commit.clone() }.into());
        }
        Ok(content)
    }

    fn link(&self, path: &str) -> GitError {
        GitError::SymbolicLink { path: path.to_owned(), commit: self.commit.clone() }
    }
}

/// An absent entry is reported by the tree; an absent object by the object database.
fn in_tree(error: &git2::Error) -> bool {
    error.class() != git2::ErrorClass::Odb
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_root_and_stay_inside() {
        let paths = ["./apps/", "/infra//base", "one.yaml", "."].map(String::from);
        assert_eq!(normalized(&paths).unwrap(), ["apps", "infra/base", "one.yaml", ""]);
        assert_eq!(normalized(&[]).unwrap(), [""]);
        assert!(matches!(normalized(&["apps/../../x".into()]), Err(GitError::InvalidPath { .. })));
    }
}
