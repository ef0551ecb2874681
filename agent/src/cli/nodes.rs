//! `keel cordon`, `uncordon`, `drain`, `taint` and `label`: what an operator does to nodes, in
//! kubectl's words.

mod drain;
mod edit;
mod label;
mod taint;

use super::CommandError;
use super::connection::Connection;
use super::output::Output;
use crate::client::{Client, ObjectPath};
use clap::{Args, Subcommand};
use edit::edit;
use k8s_openapi::api::core::v1::Node;
use manifests::{Kind, Object};
use std::process::ExitCode;

/// The commands that change nodes.
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Let no new pods come to nodes
    Cordon(CordonArgs),
    /// Let new pods come to nodes again
    Uncordon(CordonArgs),
    /// Cordon a node, and let its pods end
    Drain(drain::DrainArgs),
    /// Put taints on nodes, or take them away
    Taint(taint::TaintArgs),
    /// Put labels on objects, or take them away
    Label(label::LabelArgs),
}

/// Arguments of `keel cordon` and `keel uncordon`.
#[derive(Debug, Args)]
pub(super) struct CordonArgs {
    /// Names of nodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

impl NodeCommand {
    pub(super) async fn run(&self, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
        match self {
            Self::Cordon(args) => cordon_all(args, true, output).await,
            Self::Uncordon(args) => cordon_all(args, false, output).await,
            Self::Drain(args) => drain::run(args, output).await,
            Self::Taint(args) => taint::run(args, output).await,
            Self::Label(args) => label::run(args, output).await,
        }
    }
}

async fn cordon_all(
    args: &CordonArgs,
    closed: bool,
    output: &mut Output<'_>,
) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    for name in &args.nodes {
        cordon(&client, name, closed, output).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The node takes no new pods, or takes them again.
async fn cordon(
    client: &Client,
    name: &str,
    closed: bool,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let changed = edit(client, &path(name), |object| {
        let Some(node) = node_mut(object) else { return Ok(()) };
        let spec = node.spec.get_or_insert_default();
        spec.unschedulable = closed.then_some(true);
        Ok(())
    })
    .await?;
    let word = if closed { "cordoned" } else { "uncordoned" };
    let already = if changed { "" } else { "already " };
    output.line(&format!("node/{name} {already}{word}"))
}

fn path(name: &str) -> ObjectPath {
    ObjectPath::one(Kind::Node, "", name)
}

fn node_mut(object: &mut Object) -> Option<&mut Node> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "a node's path leads to a node")]
    match object {
        Object::Node(node) => Some(node),
        _ => None,
    }
}
