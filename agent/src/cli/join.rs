//! `keel join`: this machine becomes a member of a cluster.

use super::output::{self, Output};
use super::{CONFIGURATION, CommandError, wait_for};
use clap::Args;
use manifests::config::JoinConfiguration;
use std::path::PathBuf;
use std::process::ExitCode;

/// Become a member of the cluster that SERVER is a member of.
///
/// Makes this node's key, asks for a certificate and keeps it; `keel agent` with the same
/// configuration is a member then. `keel token create --print-join-command` on a member prints
/// what to say here.
#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// Members of the cluster, HOST:PORT; asked in turn
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<String>,
    /// What `keel token create` printed
    #[arg(long, required_unless_present = "token_file", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file that holds it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The agent's configuration, for its name and its folders
    #[arg(long, short, value_name = "FILE", default_value = CONFIGURATION)]
    config: PathBuf,
}

pub(super) fn run(args: &JoinArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let Ok(configuration) = crate::run::load(&args.config) else { return Ok(ExitCode::FAILURE) };
    let Some(cluster) = &configuration.cluster else {
        return Err(CommandError::Usage(
            "there is no `cluster` in the agent's configuration: add `cluster: {}`",
        ));
    };
    if !args.servers.iter().all(|server| manifests::config::is_host_and_port(server)) {
        return Err(CommandError::Usage("write servers as HOST:PORT"));
    }
    let join = JoinConfiguration {
        token: args.token.clone(),
        token_file: args.token_file.clone(),
        servers: args.servers.clone(),
    };
    let name = crate::run::node_name(&configuration);
    let state_dir = configuration.state_dir.clone();
    let joined = wait_for(async {
        crate::peers::join((cluster, &name), &state_dir, &join).await.map_err(CommandError::Join)
    });
    let cluster = joined?;
    output.line(&format!("node {name} is a member of cluster {cluster}"))?;
    output::note("Start `keel agent`, or restart it if it runs.");
    Ok(ExitCode::SUCCESS)
}
