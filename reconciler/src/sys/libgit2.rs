//! libgit2's process-wide settings, made once and before anything else uses it.
//!
//! Mechanism only: which transports exist and why the host's configuration does
//! not count is decided in [`crate::git`].
#![allow(
    unsafe_code,
    reason = "git2 marks process-wide settings unsafe; no safe way to register a transport"
)]

use git2::transport::Transport;
use git2::{ConfigLevel, Error, Remote, opts};
use std::sync::OnceLock;

/// Makes the transport of a remote; called on the thread that connects.
pub(crate) type Factory = fn(&Remote<'_>) -> Result<Transport, Error>;

static PREPARED: OnceLock<Result<(), String>> = OnceLock::new();

/// Prepares libgit2 once for the process: `transports` are known by their scheme,
/// no configuration file of the host or of a user is read, and repositories that
/// belong to another user can be opened. Later calls return what the first did.
///
/// Must come before every other use of libgit2 in the process.
///
/// # Errors
/// libgit2's own words, if it refuses a setting.
pub(crate) fn prepare(transports: &[(&str, Factory)]) -> Result<(), String> {
    PREPARED.get_or_init(|| prepare_now(transports).map_err(|error| error.message().to_owned())).clone()
}

fn prepare_now(transports: &[(&str, Factory)]) -> Result<(), Error> {
    for level in [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global] {
        // SAFETY: runs once, under `PREPARED`, before any other use of libgit2, so that no
        // other thread reads the setting meanwhile.
        unsafe { opts::set_search_path(level, "")? };
    }
    // SAFETY: as above.
    unsafe { opts::set_verify_owner_validation(false)? };
    for (scheme, factory) in transports {
        let factory = *factory;
        // SAFETY: as above: no transport is created by another thread before this has returned.
        unsafe { git2::transport::register(scheme, factory)? };
    }
    Ok(())
}
