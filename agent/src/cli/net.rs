//! `keel net`: the network as a node has it.

use super::CommandError;
use super::connection::{Connection, Scope};
use super::output::Output;
use crate::print::net;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::process::ExitCode;

/// Who has which address, and where packets go: as the kernel of this node has it.
///
///   keel net                          nodes, pods and services
///   keel net services                 where each port of each service leads
///   keel net trace web-0 svc/db       each step from a pod to a service, and why a packet ends there
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct NetArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// As JSON
    #[arg(long, short, value_name = "FORMAT", global = true)]
    output: Option<Format>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Nodes, and the ways to their pods
    #[command(visible_aliases = ["node", "routes"])]
    Nodes,
    /// Pods of this node, and their links
    #[command(visible_aliases = ["pod", "po"])]
    Pods,
    /// Ports of services, and where they lead pods of this node
    #[command(visible_aliases = ["service", "svc"])]
    Services,
    /// Addresses that this node answers for on its links, and routers that it tells
    #[command(visible_alias = "bgp")]
    Announced,
    /// Connections of pods that go past netfilter, the busiest first
    #[command(visible_alias = "fast-path")]
    Flows,
    Trace(TraceArgs),
}

/// Each step from a pod of this node to a service, a pod or an address, and why a packet ends there.
///
/// Nothing is sent. What the store says and what the kernel has are looked at; ends with 1 if not every packet
/// arrives.
///
///   keel net trace web-0 svc/db              all ports of the service
///   keel net trace web-0 svc/db.prod:5432    of another namespace, one port
///   keel net trace web-0 pod/db-0:5432
///   keel net trace web-0 192.0.2.1:53 --protocol udp
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct TraceArgs {
    /// The pod that asks, which is on this node
    #[arg(value_name = "POD")]
    pod: String,
    /// svc/NAME[.NAMESPACE][:PORT], pod/NAME[:PORT] or ADDRESS:PORT
    #[arg(value_name = "TO")]
    to: String,
    /// tcp or udp, where the port does not say it
    #[arg(long, default_value = "tcp")]
    protocol: String,
    #[command(flatten)]
    scope: Scope,
}

pub(super) async fn run(args: &NetArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    if let Some(What::Trace(trace)) = &args.what {
        let pod = trace.pod.strip_prefix("pod/").unwrap_or(&trace.pod);
        let traced = client.trace((&trace.scope.namespace, pod), &trace.to, &trace.protocol).await?;
        match args.output {
            Some(Format::Json) => json(&traced, output)?,
            None => output.write(net::trace(&traced))?,
        }
        return Ok(if traced.arrives() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let seen = client.net().await?;
    match (args.output, &args.what) {
        (Some(Format::Json), Some(What::Nodes)) => json(&seen.nodes, output)?,
        (Some(Format::Json), Some(What::Pods)) => json(&seen.pods, output)?,
        (Some(Format::Json), Some(What::Services)) => json(&seen.services, output)?,
        (Some(Format::Json), Some(What::Announced)) => json(&seen.announced, output)?,
        (Some(Format::Json), Some(What::Flows)) => json(&seen.fast_path, output)?,
        (Some(Format::Json), None | Some(What::Trace(_))) => json(&seen, output)?,
        (None, Some(What::Nodes)) => output.write(net::nodes(&seen))?,
        (None, Some(What::Pods)) => output.write(net::pods(&seen))?,
        (None, Some(What::Services)) => output.write(net::services(&seen))?,
        (None, Some(What::Announced)) => output.write(net::announced(&seen))?,
        (None, Some(What::Flows)) => output.write(net::flows(&seen))?,
        (None, None | Some(What::Trace(_))) => output.write(net::overview(&seen))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn json(what: &impl Serialize, output: &mut Output<'_>) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(what).map_err(CommandError::Json)?;
    output.line(&text)
}
