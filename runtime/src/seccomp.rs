//! Which system calls a container may make: profiles in the words of the OCI specification,
//! compiled to the kernel's filters before there is a container.
//!
//! A filter is a file in the state directory, named after its content: every container with the
//! same rules shares one, the plan carries its path, and a supervisor never holds one in memory.
//! The container's own process reads it, between its fork and its exec.

mod bpf;
mod default;
mod error;
mod policy;
mod table;
#[cfg(test)]
mod tests;

pub use default::default_profile;
pub use error::SeccompError;

use crate::plan::{ContainerPlan, SeccompProfile};
use oci_spec::runtime::{Capabilities, LinuxSeccomp, Spec};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The longest profile that is read.
const PROFILE_BYTES: u64 = 1 << 20;

/// Where profiles come from, and filters go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompFolders {
    /// The profiles that `localhostProfile` names, as OCI JSON.
    pub profiles: PathBuf,
    /// Compiled filters.
    pub filters: PathBuf,
}

/// The bytes of a filter file for this profile: the flags for the kernel, then its instructions.
///
/// # Errors
/// [`SeccompError`] if it asks for what cannot be done here.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, SeccompError> {
    let policy = policy::Policy::read(profile)?;
    let program = bpf::assemble(&policy)?;
    let mut bytes = policy.flags.to_le_bytes().to_vec();
    bytes.extend(program.iter().flat_map(|instruction| instruction.to_bytes()));
    Ok(bytes)
}

/// A profile as the kubelet's `seccomp/` folder has them.
///
/// # Errors
/// [`SeccompError::Parse`].
pub fn parse(text: &[u8]) -> Result<LinuxSeccomp, SeccompError> {
    serde_json::from_slice(text).map_err(SeccompError::Parse)
}

impl SeccompFolders {
    /// The container's filter is on disk, and its plan names it.
    ///
    /// # Errors
    /// [`SeccompError`] if its profile is missing, or cannot be done here.
    pub fn fill_in(&self, container: &mut ContainerPlan) -> Result<(), SeccompError> {
        container.security.filter = match self.profile(&container.security.seccomp, &container.spec)? {
            Some(profile) => Some(self.keep(&compile(&profile)?)?),
            None => None,
        };
        Ok(())
    }

    /// The container's specification holds its rules, for a runtime that compiles them itself.
    ///
    /// # Errors
    /// [`SeccompError`] if a profile cannot be read.
    pub fn spell_out(&self, container: &mut ContainerPlan) -> Result<(), SeccompError> {
        let profile = self.profile(&container.security.seccomp, &container.spec)?;
        if let Some(linux) = container.spec.linux_mut() {
            linux.set_seccomp(profile);
        }
        Ok(())
    }

    /// The rules that the container is under; `None` if there are none.
    ///
    /// # Errors
    /// [`SeccompError`] if a profile cannot be read.
    pub fn profile(
        &self,
        wanted: &SeccompProfile,
        spec: &Spec,
    ) -> Result<Option<LinuxSeccomp>, SeccompError> {
        match wanted {
            SeccompProfile::Unconfined => Ok(None),
            SeccompProfile::RuntimeDefault => Ok(Some(default_profile(&bounding(spec)))),
            SeccompProfile::Localhost(name) => self.localhost(name).map(Some),
            SeccompProfile::File(path) => read(path).map(Some),
        }
    }

    fn localhost(&self, name: &Path) -> Result<LinuxSeccomp, SeccompError> {
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let given = name.strip_prefix(&self.profiles).unwrap_or(name);
        if given.as_os_str().is_empty() || !given.components().all(inside) {
            return Err(SeccompError::Outside { path: name.to_owned() });
        }
        read(&self.profiles.join(given))
    }

    /// The filter is on disk, under a name that tells its content.
    fn keep(&self, filter: &[u8]) -> Result<PathBuf, SeccompError> {
        let path = self.filters.join(hex::encode(Sha256::digest(filter)));
        if fs::metadata(&path).is_ok_and(|found| usize::try_from(found.len()) == Ok(filter.len())) {
            return Ok(path);
        }
        let write = || {
            fs::create_dir_all(&self.filters)?;
            // Of several that write it at once each has the same, and the last one wins.
            let new = self.filters.join(format!("new-{:?}", std::thread::current().id()));
            fs::write(&new, filter)?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| SeccompError::Write { path: path.clone(), source })?;
        Ok(path)
    }
}

fn read(path: &Path) -> Result<LinuxSeccomp, SeccompError> {
    let fail = |source| SeccompError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(fail)?.len() > PROFILE_BYTES {
        return Err(fail(io::ErrorKind::FileTooLarge.into()));
    }
    parse(&fs::read(path).map_err(fail)?)
}

fn bounding(spec: &Spec) -> Capabilities {
    let capabilities = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    capabilities.and_then(|all| all.bounding().clone()).unwrap_or_default()
}
