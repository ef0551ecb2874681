//! `keel debug`: a container more to look into a pod, or into the node.

mod profile;
mod said;

use super::attach::{How, attach};
use super::connection::{Connection, Scope};
use super::exec::variable;
use super::inside::Inside;
use super::{CommandError, choice, output, target};
use crate::client::{Client, ObjectPath, Selectors};
use clap::Args;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use manifests::{Kind, Object};
use profile::Profile;
use said::Said;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Of the names that are made up: no vowels, no words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Add a container to a pod that runs, to look into it; or make a pod to look into the node.
///
///   keel debug -it web-7c5d --image busybox                a shell beside the pod's containers
///   keel debug -it web-7c5d --image busybox --target web   which sees the processes of `web`
///   keel debug web-7c5d --image busybox -- wget -O- localhost
///   keel debug -it node/one --image busybox                the node's files are at /host
///
/// The container has the pod's network and volumes' namespaces, and stays in its specification;
/// it runs once. A pod that was made for a node stays until it is deleted.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct DebugArgs {
    /// POD, KIND/NAME of what makes pods, or node/NAME
    #[arg(value_name = "OBJECT")]
    object: String,
    /// The program and its arguments, instead of the image's
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
    /// What the container is made of
    #[arg(long, value_name = "IMAGE")]
    image: String,
    #[command(flatten)]
    scope: Scope,
    /// The container's name [default: debugger-…]
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    /// See the processes of this container of the pod
    #[arg(long, value_name = "CONTAINER")]
    target: Option<String>,
    /// What the container may do
    #[arg(long, value_name = "PROFILE", default_value = "general")]
    profile: Profile,
    /// Set a variable
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// Wait for the container and look at what it writes, as with -i
    #[arg(long)]
    attach: bool,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(args: &DebugArgs) -> Result<ExitCode, CommandError> {
    let (client, path, container) = super::wait_for(begin(args))?;
    if !args.how.stdin && !args.attach {
        return Ok(ExitCode::SUCCESS);
    }
    let (pod, status) = super::wait_for(until_begun(&client, &path, &container))?;
    let mut said = Said { client, path, container, bytes: 0 };
    if ended(&status).is_none() {
        let inside = super::wait_for(Inside::of(&said.client, &pod, said.container.clone()));
        let carried = match inside {
            Ok(inside) if args.how.tty => attach(&inside, args.how).map(Some),
            Ok(inside) => said.follow(&inside, args.how).map(|()| None),
            Err(error) => Err(error),
        };
        match carried {
            Ok(Some(code)) => return Ok(code),
            // It has ended, and perhaps its pod with it.
            Ok(None) | Err(CommandError::Inside(_) | CommandError::Client(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let code = super::wait_for(said.finish())?;
    Ok(super::exec::exit_code(code))
}

async fn begin(args: &DebugArgs) -> Result<(Client, ObjectPath, String), CommandError> {
    let client = args.connection.client()?;
    let words = std::slice::from_ref(&args.object);
    let is_node = target::one(words, Some(Kind::Pod)).is_ok_and(|(kind, _)| kind == Kind::Node);
    let (path, container) =
        if is_node { on_node(&client, args, words).await? } else { in_pod(&client, args, words).await? };
    Ok((client, path, container))
}

/// The pod has the container; where it is, and the container's name.
async fn in_pod(
    client: &Client,
    args: &DebugArgs,
    words: &[String],
) -> Result<(ObjectPath, String), CommandError> {
    let pod = choice::pod(client, words, &args.scope.namespace).await?;
    let name = args.container.clone().map_or_else(|| made_up("debugger"), Ok)?;
    if args.container.is_none() && !args.how.quiet {
        output::note(&format!("Defaulting debug container name to {name}."));
    }
    let mut container = container(args, &name);
    if let Some(context) = args.profile.in_pod() {
        container["securityContext"] = context;
    }
    if let Some(target) = &args.target {
        container["targetContainerName"] = target.as_str().into();
    }
    let of_pod = pod.metadata.name.as_deref().unwrap_or_default();
    let path = ObjectPath::one(Kind::Pod, &args.scope.namespace, of_pod);
    client.add_ephemeral_container(&path, &container).await?;
    Ok((path, name))
}

/// A pod for the node is there; where it is, and the container's name.
async fn on_node(
    client: &Client,
    args: &DebugArgs,
    words: &[String],
) -> Result<(ObjectPath, String), CommandError> {
    let (_, node) = target::one(words, None)?;
    if args.target.is_some() {
        return Err(CommandError::Usage("--target is for pods: a node's processes are all there"));
    }
    // So that a node which is none is told now.
    client.get(&ObjectPath::one(Kind::Node, "", &node)).await?;
    let (pod, name) = (made_up(&format!("node-debugger-{node}"))?, args.container.clone());
    let name = name.unwrap_or_else(|| "debugger".to_owned());
    let path = ObjectPath::one(Kind::Pod, &args.scope.namespace, &pod);
    let object = json!({
        "metadata": {"name": pod, "labels": {"app.kubernetes.io/managed-by": "keel-debug"}},
        "spec": args.profile.on_node(&node, container(args, &name)),
    });
    client.create(&path, &object).await?;
    if !args.how.quiet {
        output::note(&format!("Creating debugging pod {pod} with container {name} on node {node}."));
    }
    Ok((path, name))
}

fn container(args: &DebugArgs, name: &str) -> Value {
    let variable = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        json!({"name": name, "value": value})
    };
    let mut container = json!({
        "name": name,
        "image": args.image,
        "stdin": args.how.stdin,
        "tty": args.how.tty,
        "terminationMessagePolicy": "File",
    });
    if !args.env.is_empty() {
        container["env"] = args.env.iter().map(variable).collect();
    }
    if !args.command.is_empty() {
        container["command"] = args.command.clone().into();
    }
    container
}

/// `prefix-` and five letters that nobody has chosen.
fn made_up(prefix: &str) -> Result<String, CommandError> {
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes).map_err(|error| CommandError::Runtime(error.into()))?;
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    Ok(format!("{prefix}-{}", letters.iter().collect::<String>()))
}

fn ended(status: &ContainerStatus) -> Option<i32> {
    status.state.as_ref()?.terminated.as_ref().map(|ended| ended.exit_code)
}

/// The pod, and the status of its container, which runs or has run.
///
/// # Errors
/// If the container cannot be started as it is, or its pod goes.
async fn until_begun(
    client: &Client,
    path: &ObjectPath,
    container: &str,
) -> Result<(Pod, ContainerStatus), CommandError> {
    loop {
        let Object::Pod(pod) = client.get_object(path).await? else {
            return Err(CommandError::Usage("the object is no pod"));
        };
        let status = status_of(&pod, container);
        let state = status.as_ref().and_then(|status| status.state.clone()).unwrap_or_default();
        match (status, state) {
            (
                Some(status),
                ContainerState { running: Some(_), .. } | ContainerState { terminated: Some(_), .. },
            ) => {
                return Ok((*pod, status));
            }
            (_, _) if is_over(&pod) => {
                let message = "the pod has ended".to_owned();
                let container = container.to_owned();
                return Err(CommandError::NotBegun { container, reason: "PodCompleted".to_owned(), message });
            }
            (_, ContainerState { waiting: Some(waiting), .. }) => {
                let reason = waiting.reason.unwrap_or_default();
                if !matches!(reason.as_str(), "" | "Created" | "ContainerCreating" | "PodInitializing") {
                    let message = waiting.message.unwrap_or_default();
                    return Err(CommandError::NotBegun { container: container.to_owned(), reason, message });
                }
            }
            (_, _) => {}
        }
        let version = pod.metadata.resource_version.clone().unwrap_or_default();
        let selectors = Selectors::named(pod.metadata.name.as_deref().unwrap_or_default());
        let collection = ObjectPath::all(Kind::Pod, pod.metadata.namespace.as_deref());
        // Any event is a reason to look again; an ended watch as well.
        client.watch(&collection, &selectors, &version).await?.next().await?;
    }
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn status_of(pod: &Pod, container: &str) -> Option<ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.ephemeral_container_statuses.iter().chain(&status.container_statuses).flatten();
    all.into_iter().find(|status| status.name == container).cloned()
}
