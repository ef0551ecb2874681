//! The command line: what `keel` can be told, and who does it.

mod attach;
mod choice;
mod cluster;
mod completion;
mod connection;
mod cp;
mod debug;
mod delete;
mod dependents;
mod error;
mod events;
mod exec;
mod get;
mod hollow;
mod image;
mod inside;
mod join;
mod logs;
mod member;
mod net;
mod nodes;
mod output;
mod port_forward;
mod pump;
mod status;
mod sync;
mod target;
mod terminal;
mod token;
mod top;
mod validate;

pub(crate) use error::CommandError;

use crate::demo::DemoArgs;
use clap::{Args, Parser, Subcommand};
use output::Output;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
{about}

{usage-heading} {usage}

Run this machine:
  agent        Run the agent: pull, agree, make the machine match
  demo         See it all happen on this machine, in a folder of its own; leaves no trace
  validate     Check manifests, with file, line and column of each error
  completion   Print the completions of a shell

Look around:
  status       How the node is, or an object: processes, usage, logs, the commit it came from
  get          List objects, in kubectl's columns
  logs         Print the logs of a pod's containers
  events       What happened lately
  top          What pods, containers and the node use
  net          Who has which address, where packets go, and why they do not arrive

Go inside:
  exec         Run a command in a container
  attach       Look at what a container writes, and write to it
  debug        Add a container to a pod, to look into it; or one with the node's files
  port-forward Connect local ports to ports of a pod
  cp           Copy files from and to containers

Act:
  sync         Look at the Git sources now
  image        List, pull, import and remove images
  delete       Delete objects (what Git wants will come back)
  cordon       Let no new pods come to nodes
  uncordon     Let new pods come to nodes again
  drain        Cordon a node, and let its pods end
  taint        Put taints on nodes, or take them away
  label        Put labels on objects, or take them away

Be one of many:
  token        Who may join the cluster
  join         Become a member of a cluster
  certificate  Who this node is to its peers, and until when
  cluster      The members of the cluster, and who leads
  node         Remove nodes from the cluster
  hollow       Be many nodes without machines, to see how a large cluster does

Options:
{options}

Examples:
  keel demo --once                     the whole story in a minute, then every trace removed
  keel validate manifests/             check a folder before you push it
  keel agent --config keel.yaml        run the agent in the foreground
  keel sync && keel status             fetch now, then see what became of it
  keel get pods -A -w                  watch the pods of every namespace
  keel status pod/web-7c5d             why does this pod not run?
  keel logs deployment/web -f          follow a log
  keel exec -it deployment/web -- sh   a shell in a container
  keel debug -it web-7c5d --image busybox --target web
  keel net trace web-7c5d svc/db       why does the one not reach the other?

`keel help COMMAND` tells more of each. The agent is spoken to on its Unix socket:
/run/keel/keel.sock, or as --socket, --config or KEEL_SOCKET say.
";

/// Keeps this machine as Git says: pods, jobs and their configuration.
#[derive(Debug, Parser)]
#[command(name = "keel", version, help_template = HELP, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: pull, agree, make the machine match
    Agent(AgentArgs),
    /// See it all happen on this machine, in a folder of its own; leaves no trace
    Demo(DemoArgs),
    /// Check manifests, with file, line and column of each error
    Validate(validate::ValidateArgs),
    /// How the node is, or an object: processes, usage, logs, the commit it came from
    Status(status::StatusArgs),
    /// List objects, in kubectl's columns
    Get(get::GetArgs),
    /// Print the logs of a pod's containers
    Logs(logs::LogsArgs),
    /// What happened lately
    Events(events::EventsArgs),
    /// Run a command in a container
    Exec(exec::ExecArgs),
    /// Look at what a container writes, and write to it
    Attach(attach::AttachArgs),
    /// Add a container to a pod, to look into it; or one with the node's files
    Debug(debug::DebugArgs),
    /// Connect local ports to ports of a pod
    PortForward(port_forward::PortForwardArgs),
    /// Copy files from and to containers
    Cp(cp::CpArgs),
    /// What pods, containers and the node use
    Top(top::TopArgs),
    /// Who has which address, where packets go, and why they do not arrive
    Net(net::NetArgs),
    /// Look at the Git sources now
    Sync(sync::SyncArgs),
    /// List, pull, import and remove images
    Image(image::ImageArgs),
    /// Delete objects (what Git wants will come back)
    Delete(delete::DeleteArgs),
    /// Who may join the cluster
    Token(token::TokenArgs),
    /// Become a member of a cluster
    Join(join::JoinArgs),
    /// Who this node is to its peers, and until when
    Certificate(member::CertificateArgs),
    /// The members of the cluster, and who leads
    Cluster(cluster::ClusterArgs),
    /// Remove nodes from the cluster
    Node(member::NodeArgs),
    /// Be many nodes without machines, to see how a large cluster does
    Hollow(hollow::HollowArgs),
    #[command(flatten)]
    Nodes(nodes::NodeCommand),
    /// Print the completions of a shell
    Completion(completion::CompletionArgs),
}

/// Where the unit looks for the agent's configuration.
const CONFIGURATION: &str = "/etc/keel/config.yaml";

/// Arguments of `keel agent`.
#[derive(Debug, Args)]
struct AgentArgs {
    /// The agent's configuration (YAML, `kind: AgentConfiguration`)
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Does what the program's arguments say.
pub(crate) fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Does what `args` say, the program's name first.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Cli::try_parse_from(args) {
        Ok(cli) => cli.command.run(),
        Err(refused) => {
            // A closed pipe is no reason to complain about `keel --help | head`.
            let _ = refused.print();
            if refused.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

impl Command {
    fn run(self) -> ExitCode {
        match self {
            // The agent logs and reports its own errors, and builds its own runtime.
            Self::Agent(args) => crate::run::agent(&args.config),
            Self::Demo(args) => crate::demo::run(&args),
            Self::Validate(args) => finish(validate::run(&args, &mut Output::stdout())),
            Self::Hollow(args) => finish(hollow::run(args)),
            Self::Completion(args) => finish(completion::run(&args, &mut Output::stdout())),
            Self::Join(args) => finish(join::run(&args, &mut Output::stdout())),
            Self::Token(args) => block_on(async move { token::run(&args, &mut Output::stdout()).await }),
            Self::Certificate(args) => {
                block_on(async move { member::certificate(&args, &mut Output::stdout()).await })
            }
            Self::Cluster(args) => block_on(async move { cluster::run(&args, &mut Output::stdout()).await }),
            Self::Node(args) => block_on(async move { member::node(&args, &mut Output::stdout()).await }),
            Self::Exec(args) => finish(exec::run(&args)),
            Self::Attach(args) => finish(attach::run(&args)),
            Self::Debug(args) => finish(debug::run(&args)),
            Self::Cp(args) => finish(cp::run(&args)),
            Self::PortForward(args) => {
                block_on(async move { port_forward::run(&args, &mut Output::stdout()).await })
            }
            Self::Net(args) => block_on(async move { net::run(&args, &mut Output::stdout()).await }),
            Self::Top(args) => block_on(async move { top::run(&args, &mut Output::stdout()).await }),
            Self::Status(args) => block_on(async move { status::run(&args, &mut Output::stdout()).await }),
            Self::Get(args) => block_on(async move { get::run(&args, &mut Output::stdout()).await }),
            Self::Logs(args) => block_on(async move { logs::run(&args, &mut Output::stdout()).await }),
            Self::Events(args) => block_on(async move { events::run(&args, &mut Output::stdout()).await }),
            Self::Sync(args) => block_on(async move { sync::run(&args, &mut Output::stdout()).await }),
            Self::Image(args) => block_on(async move { image::run(&args, &mut Output::stdout()).await }),
            Self::Nodes(command) => block_on(async move { command.run(&mut Output::stdout()).await }),
            Self::Delete(args) => block_on(async move { delete::run(&args, &mut Output::stdout()).await }),
        }
    }
}

/// Runs a client command.
fn block_on(command: impl Future<Output = Result<ExitCode, CommandError>>) -> ExitCode {
    finish(wait_for(command))
}

/// Waits for what a command asks; one thread is plenty for it.
fn wait_for<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CommandError::Runtime)?.block_on(work)
}

/// Reports a command's error once, with its causes, as `error: …`.
fn finish(result: Result<ExitCode, CommandError>) -> ExitCode {
    match result {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(CommandError::Output(source)) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::report(&error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
