//! The commands against a stand-in for the agent: a Unix socket with canned answers.

use super::*;
use clap::CommandFactory;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// Answers each request as canned, and remembers what was asked for.
struct Server {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// `METHOD target` → body; what is not here is a 404 in Kubernetes' form.
type Answers = BTreeMap<String, String>;

impl Server {
    fn start(answers: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("keel.sock")).unwrap();
        let answers: Arc<Answers> =
            Arc::new(answers.iter().map(|(asked, body)| ((*asked).to_owned(), body.clone())).collect());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(
                    TokioIo::new(stream),
                    service_fn(move |request| answer(request, Arc::clone(&answers), Arc::clone(&seen))),
                ));
            }
        });
        Self { folder, asked, task }
    }

    /// Runs `keel WORDS…` against it; returns exit code and output.
    async fn keel(&self, words: &[&str]) -> (bool, String) {
        let socket = self.folder.path().join("keel.sock");
        let result = keel(words, &socket).await;
        let (code, output) = result.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        (code == ExitCode::SUCCESS, output)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    answers: Arc<Answers>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let asked = format!("{} {}", request.method(), request.uri());
    seen.lock().unwrap().push(asked.clone());
    let (code, body) = match answers.get(&asked) {
        Some(body) => (StatusCode::OK, body.clone()),
        None => (StatusCode::NOT_FOUND, not_found(request.uri().path())),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    Ok(response)
}

fn not_found(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
        "message": format!("pods {name:?} not found")})
    .to_string()
}

async fn keel(words: &[&str], socket: &std::path::Path) -> Result<(ExitCode, String), CommandError> {
    let socket = socket.to_str().unwrap();
    let words = ["keel"].iter().chain(words).copied().chain(["--socket", socket]);
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let mut sink = Vec::new();
    let mut output = Output::into(&mut sink);
    let code = match cli.command {
        Command::Get(args) => get::run(&args, &mut output).await,
        Command::Logs(args) => logs::run(&args, &mut output).await,
        Command::Events(args) => events::run(&args, &mut output).await,
        Command::Token(args) => token::run(&args, &mut output).await,
        Command::Certificate(args) => member::certificate(&args, &mut output).await,
        Command::Cluster(args) => cluster::run(&args, &mut output).await,
        Command::Node(args) => member::node(&args, &mut output).await,
        Command::Sync(args) => sync::run(&args, &mut output).await,
        Command::Image(args) => image::run(&args, &mut output).await,
        Command::Delete(args) => delete::run(&args, &mut output).await,
        Command::Nodes(command) => command.run(&mut output).await,
        Command::Status(args) => status::run(&args, &mut output).await,
        Command::Top(args) => top::run(&args, &mut output).await,
        Command::Net(args) => net::run(&args, &mut output).await,
        Command::Agent(_)
        | Command::Demo(_)
        | Command::Hollow(_)
        | Command::Join(_)
        | Command::Validate(_)
        | Command::Completion(_)
        | Command::Exec(_)
        | Command::Attach(_)
        | Command::Debug(_)
        | Command::Cp(_)
        | Command::PortForward(_) => {
            unreachable!("not a command that writes to an output of ours")
        }
    }?;
    drop(output);
    Ok((code, String::from_utf8(sink).unwrap()))
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "7",
            "annotations": {"evenkeel.dev/source": "infra", "evenkeel.dev/origin": "web.yaml:1"}},
        "spec": {"containers": [{"name": "main", "image": "host:"}, {"name": "side", "image": "host:"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "main", "image": "host:", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-11-20T11:00:00Z"}}}]},
    })
}

fn list(items: &[Value]) -> String {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": items})
        .to_string()
}

const PODS: &str = "GET /api/v1/namespaces/default/pods";

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_names_every_command() {
    let help = Cli::command().render_help().to_string();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(
            help.lines().any(|line| line.starts_with(&format!("  {name} "))),
            "{name} is not in:\n{help}"
        );
        assert!(command.get_about().is_some(), "{name} says nothing of itself");
    }
}

#[tokio::test]
async fn get_lists_in_a_table_and_in_documents() {
    let server = Server::start(&[(PODS, list(&[pod("a"), pod("b")]))]);
    let (good, text) = server.keel(&["get", "po"]).await;
    assert!(good);
    let wanted = "NAME   READY   STATUS    RESTARTS   AGE\n\
                  a      1/2     Running   0          <unknown>\n\
                  b      1/2     Running   0          <unknown>\n";
    assert_eq!(text, wanted);
    assert_eq!(server.keel(&["get", "pods", "-o", "name"]).await.1, "pod/a\npod/b\n");
    let document: Value = serde_json::from_str(&server.keel(&["get", "pods", "-o", "json"]).await.1).unwrap();
    assert_eq!(document["kind"], "List");
    assert_eq!(document["items"][1]["kind"], "Pod", "items of a list carry their kind");
    let yaml = server.keel(&["get", "pods", "-o", "yaml"]).await.1;
    assert!(yaml.contains("\n  kind: Pod\n") && yaml.contains("name: b\n"), "{yaml}");
}

#[tokio::test]
async fn get_of_names_goes_on_after_one_that_is_missing() {
    let one = "GET /api/v1/namespaces/default/pods/a";
    let server = Server::start(&[(one, pod("a").to_string())]);
    let (good, text) = server.keel(&["get", "pod/nope", "pod/a"]).await;
    assert!(!good);
    assert!(text.contains("\na      1/2"), "{text}");
}

#[tokio::test]
async fn get_passes_selectors_and_every_namespace_on() {
    let all = "GET /api/v1/pods?labelSelector=app%3Dweb&fieldSelector=status.phase%3DRunning";
    let server = Server::start(&[(all, list(&[pod("a")]))]);
    let words =
        ["get", "pods", "-A", "-l", "app=web", "--field-selector", "status.phase=Running", "--no-headers"];
    assert_eq!(server.keel(&words).await.1, "default   a     1/2   Running   0     <unknown>\n");
}

#[tokio::test]
async fn get_watch_writes_each_change_under_one_head() {
    let changed = |kind: &str, name: &str| format!("{}\n", json!({"type": kind, "object": pod(name)}));
    let changes = [changed("ADDED", "a-longer-name"), changed("DELETED", "a")].concat();
    let server = Server::start(&[
        (PODS, list(&[pod("a")])),
        ("GET /api/v1/namespaces/default/pods?watch=1&resourceVersion=9", changes),
    ]);
    let (_, text) = server.keel(&["get", "pods", "-w"]).await;
    let names: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["NAME", "a", "a-longer-name", "a"]);
}

#[tokio::test]
async fn logs_take_the_first_container_unless_told() {
    let log = |query: &str| format!("GET /api/v1/namespaces/default/pods/a/log?container={query}");
    let server = Server::start(&[
        ("GET /api/v1/namespaces/default/pods/a", pod("a").to_string()),
        (&log("main"), "one\ntwo".into()),
        (&log("side&previous=true&sinceSeconds=90&tailLines=5"), "three\n".into()),
        (&log("side"), "four\n".into()),
    ]);
    assert_eq!(server.keel(&["logs", "a"]).await.1, "one\ntwo");
    let words = ["logs", "pod/a", "-c", "side", "--previous", "--since", "1m30s", "--tail", "5"];
    assert_eq!(server.keel(&words).await.1, "three\n");
    let all = server.keel(&["logs", "a", "--all-containers", "--prefix"]).await.1;
    assert_eq!(all, "[pod/a/main] one\n[pod/a/main] two[pod/a/side] four\n");
    let socket = server.folder.path().join("keel.sock");
    let wrong = keel(&["logs", "a", "-c", "nope"], &socket).await.unwrap_err();
    assert_eq!(wrong.to_string(), "container nope is not in pod a; it has: main, side");
}

#[tokio::test]
async fn delete_waits_until_the_object_is_gone() {
    let object = "/api/v1/namespaces/default/pods/a";
    let selected = "GET /api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Da";
    let other = json!({"metadata": {"name": "a", "namespace": "default", "uid": "another"}});
    let server = Server::start(&[
        (&format!("GET {object}"), pod("a").to_string()),
        (&format!("DELETE {object}?gracePeriodSeconds=0"), "{}".into()),
        (selected, list(&[other])),
    ]);
    let (good, text) = server.keel(&["delete", "pod/a", "--grace-period", "0"]).await;
    assert!(good);
    assert_eq!(text, "pod \"a\" deleted\n");
    let asked =
        [format!("GET {object}"), format!("DELETE {object}?gracePeriodSeconds=0"), selected.to_owned()];
    assert_eq!(server.asked(), asked, "a new object of the same name is not waited for");
}

#[tokio::test]
async fn sync_fails_if_a_source_was_refused() {
    let report = |result: &str| {
        json!([{"source": "infra", "result": result, "commit": "1a2b3c4d", "previousCommit": "", "message": "m",
            "durationMillis": 5}])
        .to_string()
    };
    let server = Server::start(&[
        ("POST /evenkeel/v1alpha1/sync", report("Synced")),
        ("POST /evenkeel/v1alpha1/sync?source=infra", report("Invalid")),
    ]);
    assert!(server.keel(&["sync"]).await.0);
    assert!(!server.keel(&["sync", "infra"]).await.0);
}

#[tokio::test]
async fn status_of_a_pod_that_does_not_run_still_says_what_is_known() {
    let server = Server::start(&[
        ("GET /api/v1/namespaces/default/pods/a", pod("a").to_string()),
        (
            "GET /api/v1/namespaces/default/events?fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3Da",
            list(&[]),
        ),
    ]);
    let (good, text) = server.keel(&["status", "pod/a"]).await;
    assert!(good);
    assert!(text.contains("    Loaded: web.yaml:1 from source infra\n"), "{text}");
}

#[tokio::test]
async fn a_missing_agent_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("keel.sock");
    let missing = keel(&["get", "pods"], &socket).await.unwrap_err().to_string();
    assert!(missing.contains("is it running?") && missing.contains("--socket"), "{missing}");
    drop(UnixListener::bind(&socket).unwrap());
    let refused = keel(&["get", "pods"], &socket).await.unwrap_err().to_string();
    assert!(refused.contains("nobody answers") && refused.contains("is the agent running?"), "{refused}");
}

#[tokio::test]
async fn the_agents_refusal_is_told_in_its_words() {
    let server = Server::start(&[]);
    let error = keel(&["status", "pod/x"], &server.folder.path().join("keel.sock")).await.unwrap_err();
    assert_eq!(error.to_string(), "pods \"x\" not found");
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let Command::Completion(args) = Cli::try_parse_from(["keel", "completion", shell]).unwrap().command
        else {
            panic!("completion")
        };
        let mut sink = Vec::new();
        completion::run(&args, &mut Output::into(&mut sink)).unwrap();
        let script = String::from_utf8(sink).unwrap();
        assert!(script.contains("validate"), "{shell}");
    }
}

#[tokio::test]
async fn nodes_are_cordoned_tainted_and_labelled_by_writing_them_back() {
    let node =
        |spec: Value| json!({"metadata": {"name": "n", "resourceVersion": "7"}, "spec": spec}).to_string();
    let server = Server::start(&[
        ("GET /api/v1/nodes/n", node(json!({}))),
        ("PUT /api/v1/nodes/n", node(json!({}))),
        ("GET /api/v1/nodes/m", node(json!({"unschedulable": true}))),
        ("GET /api/v1/pods", list(&[])),
    ]);
    for (words, said) in [
        (&["cordon", "n"][..], "node/n cordoned\n"),
        (&["cordon", "m"], "node/m already cordoned\n"),
        (&["uncordon", "n"], "node/n already uncordoned\n"),
        (&["taint", "nodes", "n", "k=v:NoSchedule"], "node/n tainted\n"),
        (&["label", "nodes", "n", "disk=ssd"], "node/n labeled\n"),
        (&["drain", "n"], "node/n cordoned\nnode/n drained\n"),
    ] {
        assert_eq!(server.keel(words).await, (true, said.to_owned()), "{words:?}");
    }
    let puts = server.asked().iter().filter(|asked| *asked == "PUT /api/v1/nodes/n").count();
    assert_eq!(puts, 4);
}
