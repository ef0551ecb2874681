//! `keel drain`: a node without pods, but for those that belong to it.

use super::cordon;
use crate::cli::CommandError;
use crate::cli::connection::Connection;
use crate::cli::output::{self, Output};
use crate::client::{Client, ObjectPath, Selectors};
use clap::Args;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use manifests::revision::SOURCE_ANNOTATION;
use manifests::{Kind, Object};
use std::process::ExitCode;
use std::time::Duration;

/// Cordon a node, and let its pods end; their controllers make others elsewhere.
///
///   keel drain n1 --ignore-daemonsets   before the machine is switched off
///   keel uncordon n1                    when it is back
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(in crate::cli) struct DrainArgs {
    /// Name of the node
    #[arg(value_name = "NODE")]
    node: String,
    /// Leave pods of DaemonSets where they are
    #[arg(long)]
    ignore_daemonsets: bool,
    /// End also pods with an emptyDir, whose content is lost
    #[arg(long)]
    delete_emptydir_data: bool,
    /// End also pods that nothing makes anew
    #[arg(long)]
    force: bool,
    /// Seconds a pod's processes get between SIGTERM and SIGKILL [default: the pod's own]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..))]
    grace_period: Option<i64>,
    /// Give up after this time, as 5m; 0s for never
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    connection: Connection,
}

/// What a drain does with one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    End,
    /// It belongs to the node.
    Stay,
    /// A DaemonSet's, which is left.
    Daemon,
    Refuse(&'static str),
}

pub(super) async fn run(args: &DrainArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    cordon(&client, &args.node, true, output).await?;
    let pods = pods_on(&client, &args.node).await?;
    let mut going = Vec::new();
    let mut daemons = Vec::new();
    let mut refusals: Vec<(&str, Vec<String>)> = Vec::new();
    for object in pods {
        let Ok(pod) = <&Pod>::try_from(&object) else { continue };
        let name = format!("{}/{}", object.namespace(), object.name());
        match fate(pod, args) {
            Fate::Stay => {}
            Fate::Daemon => daemons.push(name),
            Fate::End => going.push(object),
            Fate::Refuse(reason) => match refusals.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(name),
                None => refusals.push((reason, vec![name])),
            },
        }
    }
    if !refusals.is_empty() {
        let words = refusals.iter().map(|(reason, names)| format!("{reason}: {}", names.join(", ")));
        let reason = words.collect::<Vec<_>>().join("; ");
        return Err(CommandError::NotDrained { node: args.node.clone(), reason });
    }
    if !daemons.is_empty() {
        output::note(&format!("Warning: ignoring DaemonSet-managed Pods: {}", daemons.join(", ")));
    }
    let work = end(&client, &going, args.grace_period, output);
    if args.timeout.is_zero() {
        work.await?;
    } else {
        tokio::time::timeout(args.timeout, work).await.map_err(|_| CommandError::NotDrained {
            node: args.node.clone(),
            reason: "its pods did not end in time".into(),
        })??;
    }
    output.line(&format!("node/{} drained", args.node))?;
    Ok(ExitCode::SUCCESS)
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(parsed).map_err(|error| error.to_string())
}

async fn pods_on(client: &Client, node: &str) -> Result<Vec<Object>, CommandError> {
    let pods = client.list_objects(&ObjectPath::all(Kind::Pod, None), &Selectors::default()).await?;
    let is_there = |object: &Object| {
        <&Pod>::try_from(object)
            .is_ok_and(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node))
    };
    Ok(pods.into_iter().filter(is_there).collect())
}

/// As kubectl judges pods; what comes from Git is made anew as a controller's is.
fn fate(pod: &Pod, args: &DrainArgs) -> Fate {
    let annotation = |key: &str| pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(key));
    let owners = pod.metadata.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_over = matches!(phase, Some("Succeeded" | "Failed"));
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    if annotation("kubernetes.io/config.mirror") {
        Fate::Stay
    } else if controller.is_some_and(|owner| owner.kind == "DaemonSet") && !is_over {
        let refusal = "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)";
        if args.ignore_daemonsets { Fate::Daemon } else { Fate::Refuse(refusal) }
    } else if is_over {
        Fate::End
    } else if volumes.into_iter().any(|volume| volume.empty_dir.is_some()) && !args.delete_emptydir_data {
        Fate::Refuse("cannot delete Pods with local storage (use --delete-emptydir-data to override)")
    } else if controller.is_none() && !annotation(SOURCE_ANNOTATION) && !args.force {
        Fate::Refuse("cannot delete Pods that declare no controller (use --force to override)")
    } else {
        Fate::End
    }
}

/// All of `pods` are gone.
async fn end(
    client: &Client,
    pods: &[Object],
    grace: Option<i64>,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    for pod in pods {
        output.line(&format!("evicting pod {}/{}", pod.namespace(), pod.name()))?;
        let path = ObjectPath::one(Kind::Pod, pod.namespace(), pod.name());
        match client.delete(&path, grace).await {
            Err(error) if error.is_not_found() => {}
            result => result?,
        }
    }
    for pod in pods {
        let path = ObjectPath::one(Kind::Pod, pod.namespace(), pod.name());
        crate::cli::delete::gone(client, &path, pod).await?;
        output.line(&format!("pod/{} evicted", pod.name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::{Value, json};

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        drain: DrainArgs,
    }

    fn judged(words: &[&str], pod: Value) -> Fate {
        let words = Words::try_parse_from(["drain", "n"].iter().chain(words)).unwrap();
        fate(&serde_json::from_value(pod).unwrap(), &words.drain)
    }

    #[test]
    fn pods_are_judged_as_kubectl_does() {
        let owned = |kind: &str| {
            json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "o", "controller": true}]},
                "spec": {"containers": []}})
        };
        let bare = json!({"metadata": {}, "spec": {"containers": []}});
        let git =
            json!({"metadata": {"annotations": {SOURCE_ANNOTATION: "infra"}}, "spec": {"containers": []}});
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
        let over = json!({"metadata": {}, "status": {"phase": "Failed"}});
        let mut data = owned("ReplicaSet");
        data["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        assert_eq!(judged(&[], owned("ReplicaSet")), Fate::End);
        assert!(matches!(judged(&[], owned("DaemonSet")), Fate::Refuse(_)));
        assert_eq!(judged(&["--ignore-daemonsets"], owned("DaemonSet")), Fate::Daemon);
        assert!(matches!(judged(&[], bare.clone()), Fate::Refuse(_)));
        assert_eq!(judged(&["--force"], bare), Fate::End);
        assert_eq!(judged(&[], git), Fate::End);
        assert_eq!(judged(&[], mirror), Fate::Stay);
        assert_eq!(judged(&[], over), Fate::End);
        assert!(matches!(judged(&[], data.clone()), Fate::Refuse(_)));
        assert_eq!(judged(&["--delete-emptydir-data"], data), Fate::End);
    }
}
