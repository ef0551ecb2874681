//! `keel top`: what is used now.

use super::CommandError;
use super::connection::{Connection, WideScope};
use super::output::{self, Output};
use crate::client::{Client, ContainerMetrics, Metrics, Network, ObjectPath, Query, Usage};
use crate::print::Table;
use clap::{Args, Subcommand, ValueEnum};
use manifests::{Kind, Object};
use std::process::ExitCode;

/// What pods, containers and the node use.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What pods use: CPU over the last second, and memory without what could be dropped
    #[command(visible_aliases = ["pod", "po"])]
    Pods(PodArgs),
    /// What the whole node uses
    #[command(visible_aliases = ["nodes", "no"])]
    Node(NodeArgs),
}

#[derive(Debug, Args)]
struct PodArgs {
    /// This pod only
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    scope: WideScope,
    /// Each container by itself
    #[arg(long)]
    containers: bool,
    /// What comes and goes over their networks, too, in bytes per second
    #[arg(long, conflicts_with = "containers")]
    network: bool,
    /// Only pods with these labels
    #[arg(long, short = 'l', value_name = "LABELS", conflicts_with = "name")]
    selector: Option<String>,
    /// The greatest first
    #[arg(long, value_name = "COLUMN")]
    sort_by: Option<Column>,
    /// Leave the heads of the columns out
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
struct NodeArgs {
    /// Leave the heads of the columns out
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Column {
    Cpu,
    Memory,
}

pub(super) async fn run(args: &TopArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    match &args.what {
        What::Pods(args) => pods(args, output).await,
        What::Node(args) => node(args, output).await,
    }
}

async fn pods(args: &PodArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let mut metrics = match &args.name {
        Some(name) => vec![client.pod_metrics(&args.scope.one.namespace, name).await?],
        None => {
            let mut query = Query::default();
            if let Some(selector) = &args.selector {
                query.push("labelSelector", selector);
            }
            client.pods_metrics(args.scope.namespace(), &query).await?
        }
    };
    if metrics.is_empty() {
        output::note("No pod runs here.");
        return Ok(ExitCode::SUCCESS);
    }
    match args.sort_by {
        Some(Column::Cpu) => metrics.sort_by_key(|pod| std::cmp::Reverse(total(pod).millicores())),
        Some(Column::Memory) => metrics.sort_by_key(|pod| std::cmp::Reverse(total(pod).memory_bytes())),
        None => {}
    }
    let mut heads = if args.scope.namespace().is_none() { vec!["NAMESPACE"] } else { Vec::new() };
    heads.extend(if args.containers { &["POD", "NAME"][..] } else { &["NAME"] });
    heads.extend(["CPU(cores)", "MEMORY(bytes)"]);
    if args.network {
        heads.extend(["IN(bytes/s)", "OUT(bytes/s)"]);
    }
    let rows = metrics.iter().flat_map(|pod| rows(pod, args)).collect();
    write(heads, rows, args.no_headers, output)
}

fn rows(pod: &Metrics, args: &PodArgs) -> Vec<Vec<String>> {
    let row = |container: Option<&str>, usage: &Usage| {
        let namespace = args.scope.namespace().is_none().then(|| pod.metadata.namespace.clone()).flatten();
        let words = [namespace, pod.metadata.name.clone(), container.map(str::to_owned)];
        words.into_iter().flatten().chain([cores(usage), memory(usage)]).collect::<Vec<_>>()
    };
    if args.containers {
        return pod.containers.iter().map(|one| row(Some(&one.name), &one.usage)).collect();
    }
    let mut whole = row(None, &total(pod));
    if args.network {
        // In the host's network it has none of its own.
        let none = || Network { received: "-".to_owned(), sent: "-".to_owned() };
        let Network { received, sent } = pod.network.clone().unwrap_or_else(none);
        whole.extend([received, sent]);
    }
    vec![whole]
}

fn total(pod: &Metrics) -> Usage {
    let sum = |of: fn(&Usage) -> u64| {
        pod.containers.iter().map(|one: &ContainerMetrics| of(&one.usage)).sum::<u64>()
    };
    Usage::new(sum(Usage::millicores), sum(Usage::memory_bytes))
}

/// `12m`, as kubectl writes it.
fn cores(usage: &Usage) -> String {
    format!("{}m", usage.millicores())
}

fn memory(usage: &Usage) -> String {
    format!("{}Mi", usage.memory_bytes() >> 20)
}

async fn node(args: &NodeArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let mut rows = Vec::new();
    for node in client.node_metrics().await? {
        let name = node.metadata.name.clone().unwrap_or_default();
        let (cpu, bytes) = allocatable(&client, &name).await?;
        let percent = |part: u64, whole: u64| {
            if whole == 0 {
                "<unknown>".to_owned()
            } else {
                format!("{}%", u128::from(part) * 100 / u128::from(whole))
            }
        };
        rows.push(vec![
            name,
            cores(&node.usage),
            percent(node.usage.millicores(), cpu),
            memory(&node.usage),
            percent(node.usage.memory_bytes(), bytes),
        ]);
    }
    let heads = vec!["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
    write(heads, rows, args.no_headers, output)
}

/// Millicores and bytes that the node's pods may use.
async fn allocatable(client: &Client, name: &str) -> Result<(u64, u64), CommandError> {
    let object = client.get_object(&ObjectPath::one(Kind::Node, "", name)).await?;
    let Object::Node(node) = object else { return Ok((0, 0)) };
    let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
    let amount = |name: &str| allocatable.get(name).map(|quantity| quantity.0.as_str()).unwrap_or_default();
    let usage = Usage { cpu: amount("cpu").to_owned(), memory: amount("memory").to_owned() };
    Ok((usage.millicores(), usage.memory_bytes()))
}

fn write(
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    no_headers: bool,
    output: &mut Output<'_>,
) -> Result<ExitCode, CommandError> {
    let text = Table { heads, rows }.render();
    let from = if no_headers { text.find('\n').map_or(0, |end| end + 1) } else { 0 };
    output.write(&text[from..])?;
    Ok(ExitCode::SUCCESS)
}
