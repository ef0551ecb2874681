//! `keel hollow`: nodes without machines, to see how a cluster of many would do.

use super::CommandError;
use crate::hollow::{self, HollowOptions, MOST};
use clap::Args;
use manifests::quantity::Quantity;
use reconciler::sync::duty::HollowNodes;
use std::path::PathBuf;
use std::process::ExitCode;

/// Be many nodes of a cluster, whose pods are there in memory only.
///
/// The process is one member of the cluster, as its configuration's `cluster` says, and stands for
/// many nodes: they take the pods that are bound to them and report that all of them run, and
/// nothing is started. So a cluster's size can be tried before the machines are there. The nodes have
/// the label `evenkeel.dev/hollow=true`, and a taint `evenkeel.dev/hollow:NoSchedule`: only pods that
/// tolerate it come to them. It needs no privileges, and runs until it is ended; their Node objects stay
/// then, until `keel delete node/NAME` removes them.
#[derive(Debug, Args)]
pub(super) struct HollowArgs {
    /// The configuration of the process (YAML, `kind: AgentConfiguration`)
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// How many nodes
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    nodes: u32,
    /// What their names begin with; a number follows
    #[arg(long, value_name = "TEXT", default_value = "hollow-")]
    prefix: String,
    /// Cores of each
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    cores: usize,
    /// Memory of each
    #[arg(long, value_name = "QUANTITY", default_value = "32Gi")]
    memory: String,
}

pub(super) fn run(args: HollowArgs) -> Result<ExitCode, CommandError> {
    let memory =
        Quantity::parse(&args.memory).ok().and_then(|memory| u64::try_from(memory.bytes_ceil()).ok());
    let Some(memory_bytes) = memory.filter(|bytes| *bytes > 0) else {
        return Err(CommandError::Usage("write --memory as an amount of bytes: `32Gi`"));
    };
    let Ok(configuration) = crate::run::load(&args.config) else { return Ok(ExitCode::FAILURE) };
    let nodes = HollowNodes { prefix: args.prefix, count: args.nodes };
    let options = HollowOptions { nodes, cores: args.cores, memory_bytes };
    let ended = crate::telemetry::start().and_then(|()| {
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        tokio.block_on(hollow::run(configuration, options))
    });
    Ok(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}
