//! `keel logs`: what containers wrote.

use super::connection::{Connection, Scope};
use super::output::Output;
use super::{CommandError, choice, output};
use crate::client::{Client, Lines, ObjectPath, Query, Selectors};
use bytes::Bytes;
use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use manifests::Kind;
use std::process::ExitCode;

/// Lines per container when pods are chosen by label, as in kubectl.
const SELECTOR_TAIL: i64 = 10;

/// Print the logs of a pod's containers.
///
///   keel logs web-7c5d                 all that the pod wrote
///   keel logs web-7c5d -c sidecar -f   one container, and all it will write
///   keel logs deployment/web --tail 20
///   keel logs web-7c5d --previous      the run before the last restart
///   keel logs -l app=web --prefix -f   every pod with this label
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct LogsArgs {
    /// POD, or KIND/NAME of a pod or of what makes pods
    #[arg(value_name = "OBJECT", required_unless_present = "selector", conflicts_with = "selector", num_args = 1..=2)]
    object: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// Go on with what is written from now on
    #[arg(long, short)]
    follow: bool,
    /// This container
    #[arg(long, short, value_name = "NAME", conflicts_with = "all_containers")]
    container: Option<String>,
    /// Every container of the pod
    #[arg(long)]
    all_containers: bool,
    /// The run before the last restart
    #[arg(long, short)]
    previous: bool,
    /// Only what is newer than this: 30s, 5m, 1h30m
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    since: Option<i64>,
    /// Only what is newer than this: 2026-11-20T21:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    since_time: Option<Timestamp>,
    /// Only the last lines; -1 for all
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
    /// At most this many bytes
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// Begin each line with its pod and container
    #[arg(long)]
    prefix: bool,
    /// Every pod with these labels
    #[arg(long, short = 'l', value_name = "LABELS")]
    selector: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// One log to read.
struct Log {
    path: ObjectPath,
    container: String,
    prefix: String,
}

pub(super) async fn run(args: &LogsArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let client = args.connection.client()?;
    let mut logs = Vec::new();
    for pod in pods(&client, args).await? {
        logs.extend(of_pod(&pod, args)?);
    }
    if args.follow && logs.len() > 1 {
        follow_all(&client, args, &logs, output).await?;
    } else {
        for log in &logs {
            let mut lines = open(&client, args, log).await?;
            while let Some(line) = lines.next().await? {
                output.write(prefixed(&log.prefix, &line))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(client: &Client, args: &LogsArgs, log: &Log) -> Result<Lines, CommandError> {
    Ok(client.log(&log.path, &args.query(&log.container)).await?)
}

/// Writes whole lines of all logs as they come.
async fn follow_all(
    client: &Client,
    args: &LogsArgs,
    logs: &[Log],
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut streams = Vec::new();
    for log in logs {
        let lines = open(client, args, log).await?;
        streams.push(Box::pin(futures::stream::unfold(lines, move |mut lines| async move {
            let line = lines.next().await.transpose()?;
            Some((line.map(|line| prefixed(&log.prefix, &line)), lines))
        })));
    }
    let mut lines = futures::stream::select_all(streams);
    while let Some(line) = lines.next().await {
        output.write(line?)?;
    }
    Ok(())
}

fn prefixed(prefix: &str, line: &Bytes) -> Vec<u8> {
    [prefix.as_bytes(), line].concat()
}

impl LogsArgs {
    fn query(&self, container: &str) -> Query {
        let mut query = Query::default();
        query.push("container", container);
        for (name, wanted) in
            [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)]
        {
            if wanted {
                query.push(name, "true");
            }
        }
        if let Some(since) = self.since {
            query.push("sinceSeconds", &since.to_string());
        }
        if let Some(since) = self.since_time {
            query.push("sinceTime", &since.to_string());
        }
        let tail = self.tail.or(self.selector.as_ref().map(|_| SELECTOR_TAIL)).filter(|tail| *tail >= 0);
        if let Some(tail) = tail {
            query.push("tailLines", &tail.to_string());
        }
        if let Some(limit) = self.limit_bytes {
            query.push("limitBytes", &limit.to_string());
        }
        query
    }
}

/// The pods that are meant: by label all of them, of a workload one.
async fn pods(client: &Client, args: &LogsArgs) -> Result<Vec<Pod>, CommandError> {
    let namespace = &args.scope.namespace;
    if let Some(selector) = &args.selector {
        let selectors = Selectors { labels: selector.clone(), ..Selectors::default() };
        let found = client.list_objects(&ObjectPath::all(Kind::Pod, Some(namespace)), &selectors).await?;
        let pods: Vec<Pod> = found.iter().filter_map(|pod| <&Pod>::try_from(pod).ok().cloned()).collect();
        if pods.is_empty() {
            output::note(&format!("No resources found in {namespace} namespace."));
        }
        return Ok(pods);
    }
    Ok(vec![choice::pod(client, &args.object, namespace).await?])
}

/// The logs of a pod's containers that are meant.
fn of_pod(pod: &Pod, args: &LogsArgs) -> Result<Vec<Log>, CommandError> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let log = |container: &str| Log {
        path: ObjectPath::one(Kind::Pod, &namespace, &name),
        container: container.to_owned(),
        prefix: if args.prefix { format!("[pod/{name}/{container}] ") } else { String::new() },
    };
    if args.all_containers {
        let (init, usual) = choice::containers(pod);
        return Ok(init.iter().chain(&usual).map(|container| log(container)).collect());
    }
    Ok(vec![log(&choice::container(pod, args.container.as_deref())?)])
}

/// Reads `30s`, `5m`, `1h30m` as seconds.
fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no duration like 30s, 5m or 1h30m");
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest[digits..].chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some(_) | None => return Err(wrong()),
        };
        total = count.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[digits + 1..];
    }
    if total > 0 { Ok(total) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_their_usual_form() {
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("2d"), Ok(172_800));
        for wrong in ["", "5", "m", "5x", "-5m", "0s", "99999999999999999999s", "9223372036854775807h", "5µs"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
