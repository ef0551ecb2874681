//! Profiles of AppArmor: that a container's is loaded is known before there is a container.
//!
//! A container takes its profile on with its exec. The runtime's own profile is loaded when the
//! first container needs it, by `apparmor_parser`, and stays loaded, as the kernel's profiles do.

use crate::plan::{AppArmorProfile, ContainerPlan};
use std::io;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Mutex;

/// The kernel's name of the runtime's own profile.
pub const DEFAULT_PROFILE: &str = "keel-default";
/// That profile.
const DEFAULT_TEXT: &str = include_str!("apparmor/default.profile");
/// The kernel's name for no profile at all.
const UNCONFINED: &str = "unconfined";
/// A line per profile: its name, and in brackets how it is meant.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// What turns a profile's text into the kernel's words, and loads it.
const PARSER: &str = "apparmor_parser";
/// Where that is, which not everybody's `PATH` has.
const PARSER_FOLDERS: &str = "/usr/sbin:/sbin";

/// Why a container cannot have its profile.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AppArmorError {
    #[error("apparmor profile not found {name}")]
    NotLoaded { name: String },
    #[error("cannot tell which AppArmor profiles are loaded")]
    List(#[source] io::Error),
    #[error("cannot run {PARSER}, which loads the AppArmor profile {DEFAULT_PROFILE}")]
    Parser(#[source] io::Error),
    #[error("{PARSER} does not load the AppArmor profile {DEFAULT_PROFILE}: {message}")]
    Refused { message: String },
}

/// The profiles of this kernel.
#[derive(Debug, Default)]
pub(crate) struct AppArmor {
    /// True once the default profile could not be loaded, and that was said; held while it is.
    gave_up: Mutex<bool>,
}

impl AppArmor {
    /// The container's plan names the profile that it will run under, which is loaded.
    ///
    /// # Errors
    /// [`AppArmorError`] if it asks for one that is not, and cannot be.
    pub(crate) async fn fill_in(&self, container: &mut ContainerPlan) -> Result<(), AppArmorError> {
        let profile = match &container.security.confinement {
            AppArmorProfile::Inherited => None,
            AppArmorProfile::Unconfined => Some(UNCONFINED.to_owned()),
            AppArmorProfile::RuntimeDefault => {
                self.load(false).await?;
                Some(DEFAULT_PROFILE.to_owned())
            }
            AppArmorProfile::DefaultIfPossible => {
                self.load_if_possible().await.then(|| DEFAULT_PROFILE.to_owned())
            }
            AppArmorProfile::Localhost(name) => {
                if name != UNCONFINED && !is_loaded(name)? {
                    return Err(AppArmorError::NotLoaded { name: name.clone() });
                }
                Some(name.clone())
            }
        };
        container.security.apparmor = profile;
        Ok(())
    }

    async fn load_if_possible(&self) -> bool {
        match self.load(true).await {
            Ok(loaded) => loaded,
            Err(error) => {
                *self.gave_up.lock().await = true;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "containers that name no AppArmor profile run without one");
                false
            }
        }
    }

    /// True if the default profile is loaded; false if that was given up before, and so it may be.
    async fn load(&self, may_give_up: bool) -> Result<bool, AppArmorError> {
        if is_loaded(DEFAULT_PROFILE).unwrap_or(false) {
            return Ok(true);
        }
        // Of many pods at once, one loads it.
        let mut gave_up = self.gave_up.lock().await;
        if *gave_up && may_give_up {
            return Ok(false);
        }
        if !is_loaded(DEFAULT_PROFILE)? {
            parse(DEFAULT_TEXT).await?;
            tracing::info!(profile = DEFAULT_PROFILE, "loaded the AppArmor profile");
        }
        *gave_up = false;
        Ok(true)
    }
}

/// The kernel has the profiles of `text`.
async fn parse(text: &str) -> Result<(), AppArmorError> {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(if path.is_empty() { "" } else { ":" });
    path.push(PARSER_FOLDERS);
    let mut parser = Command::new(PARSER)
        .args(["--replace", "--skip-cache"])
        .env("PATH", path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(AppArmorError::Parser)?;
    if let Some(mut stdin) = parser.stdin.take() {
        // One that does not read it says why.
        let _ = stdin.write_all(text.as_bytes()).await;
    }
    let output = parser.wait_with_output().await.map_err(AppArmorError::Parser)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = if said.trim().is_empty() { output.status.to_string() } else { said.trim().to_owned() };
    Err(AppArmorError::Refused { message })
}

fn is_loaded(name: &str) -> Result<bool, AppArmorError> {
    let list = std::fs::read_to_string(Path::new(LOADED)).map_err(AppArmorError::List)?;
    Ok(names(&list).any(|loaded| loaded == name))
}

/// A name may hold spaces and brackets itself.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.rsplit_once(" (")).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_loaded_profiles_may_be_paths_with_spaces() {
        let list =
            "keel-default (enforce)\n/usr/bin/a (b) c (complain)\nnvidia_modprobe//kmod (unconfined)\n";
        let names: Vec<_> = names(list).collect();
        assert_eq!(names, ["keel-default", "/usr/bin/a (b) c", "nvidia_modprobe//kmod"]);
    }

    #[test]
    fn the_default_profile_bears_its_name() {
        let named = format!("profile {DEFAULT_PROFILE} flags=");
        assert!(DEFAULT_TEXT.lines().any(|line| line.starts_with(&named)));
        // As peer of signals and traces too.
        assert_eq!(DEFAULT_TEXT.matches(&format!("peer={DEFAULT_PROFILE}")).count(), 2);
    }
}
