//! `keel cluster reset` and `keel cluster snapshot`: ways out when a majority, or the objects, are lost.

use super::super::connection::Connection;
use super::super::output::{self, Output};
use super::super::{CONFIGURATION, CommandError};
use crate::peers::Folder;
use clap::{Args, Subcommand};
use manifests::config::AgentConfiguration;
use reconciler::peer::Peer;
use reconciler::store::rescue::{self, Rescued};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Begin the cluster anew from what this node has
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// This node's copy becomes a cluster of one, and what only others knew is lost
    #[arg(long, required_unless_present = "rejoin")]
    force: bool,
    /// Put this node's copy aside instead, and take the cluster's at the next start
    #[arg(long, conflicts_with = "force")]
    rejoin: bool,
}

/// A copy of all objects in one file
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotAction {
    /// Write it. It holds every Secret: keep it safe
    Save {
        /// Must not exist yet
        file: PathBuf,
    },
    /// This node, whose agent is stopped, becomes a cluster of one with the objects of a copy
    Restore {
        /// Written by `keel cluster snapshot save`
        file: PathBuf,
    },
}

struct Place {
    configuration: AgentConfiguration,
    me: Peer,
}

impl Place {
    fn of(connection: &Connection) -> Option<Self> {
        let path = connection.config.clone().unwrap_or_else(|| CONFIGURATION.into());
        let configuration = crate::run::load(&path).ok()?;
        // Where it answers, it says itself at its next start.
        let me = Peer { name: crate::run::node_name(&configuration), ..Peer::default() };
        Some(Self { configuration, me })
    }

    fn store(&self) -> PathBuf {
        crate::cluster::store_folder(&self.configuration)
    }
}

pub(super) fn reset(
    args: &ResetArgs,
    connection: &Connection,
    output: &mut Output<'_>,
) -> Result<ExitCode, CommandError> {
    let Some(place) = Place::of(connection) else { return Ok(ExitCode::FAILURE) };
    if args.rejoin {
        let folder = Folder::open(&place.configuration.state_dir).map_err(CommandError::Keep)?;
        folder.set_rejoins(true).map_err(CommandError::Keep)?;
        let before = rescue::put_aside(&place.store()).map_err(CommandError::Store)?;
        output.line(&format!("{} has no copy any more{}", place.me.name, stands(before.as_deref())))?;
        output::note("Start `keel agent`: it takes the cluster's.");
        return Ok(ExitCode::SUCCESS);
    }
    let rescued = rescue::reset(&place.store(), &place.me).map_err(CommandError::Store)?;
    begun(&place, &rescued, output)
}

pub(super) async fn snapshot(
    action: &SnapshotAction,
    connection: &Connection,
    output: &mut Output<'_>,
) -> Result<ExitCode, CommandError> {
    match action {
        SnapshotAction::Save { file } => {
            let bytes = save(connection, file).await?;
            output.line(&format!("{} holds all objects ({bytes} bytes)", file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        SnapshotAction::Restore { file } => {
            let Some(place) = Place::of(connection) else { return Ok(ExitCode::FAILURE) };
            let rescued = rescue::restore(&place.store(), file, &place.me).map_err(CommandError::Store)?;
            begun(&place, &rescued, output)
        }
    }
}

fn begun(place: &Place, rescued: &Rescued, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let Rescued { objects, before } = rescued;
    let name = &place.me.name;
    output
        .line(&format!("{name} is a cluster of one with {objects} objects{}", stands(before.as_deref())))?;
    output::note(
        "Start `keel agent`. On each other node that is left: `keel cluster reset --rejoin`, then start it.",
    );
    Ok(ExitCode::SUCCESS)
}

fn stands(before: Option<&Path>) -> String {
    before.map_or_else(String::new, |path| format!("; what it had is in {}", path.display()))
}

/// Writes the copy; how many bytes it has. A file that is there is left alone.
async fn save(connection: &Connection, path: &Path) -> Result<u64, CommandError> {
    let failed = |source| CommandError::Write { path: path.to_owned(), source };
    let mut snapshot = connection.client()?.snapshot().await?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let mut bytes = 0;
    while let Some(part) = snapshot.next().await? {
        file.write_all(&part).map_err(failed)?;
        bytes += part.len() as u64;
    }
    file.sync_all().map_err(failed)?;
    Ok(bytes)
}
