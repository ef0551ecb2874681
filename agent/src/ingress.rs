//! Ingresses, served by this node if its configuration says so: from the store to the table of routes.
//! Needs its own replica of the store, and nobody.

mod announce;
mod translate;
mod view;

use crate::node::Node;
use crate::run::Doors;
use announce::announce;
use manifests::config::{AgentConfiguration, IngressConfiguration};
use manifests::{Kind, ObjectKey};
use netstack::holder::{COMMAND, Holder};
use netstack::ingress::{HeldAt, Ingress, IngressError, IngressOptions, Observer, Trusted};
use reconciler::controllers::Note;
use reconciler::controllers::ingress::Announcement;
use runtime::pods::OWN_PROGRAM;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use translate::Problem;
pub(crate) use translate::ShownCertificate;
use view::View;

/// After how long it is tried again to open ports, or to say in the Node object that they are.
const RETRY: Duration = Duration::from_secs(2);

/// Where the ports are held between this agent and the next.
fn holder(configuration: &AgentConfiguration) -> PathBuf {
    configuration.run_dir.join("ingress.sock")
}

fn options(ingress: &IngressConfiguration, holder: PathBuf) -> IngressOptions {
    let port = |port: u16| (port != 0).then_some(port);
    let trusted = ingress.trusted().into_iter();
    IngressOptions {
        address: ingress.listen_address(),
        http: port(ingress.http_port),
        https: port(ingress.https_port),
        trusted: trusted.map(|one| Trusted { address: one.address, prefix: one.prefix }).collect(),
        grace: ingress.grace(),
        held_at: Some(HeldAt {
            path: holder,
            program: vec![OsString::from(OWN_PROGRAM), OsString::from(COMMAND)],
        }),
    }
}

fn announcement(ingress: &IngressConfiguration) -> Announcement {
    Announcement {
        class_name: ingress.class_name.clone(),
        default: ingress.default,
        addresses: ingress.publish_addresses.clone(),
    }
}

/// Serves Ingresses while this node is to, until the `doors` close; requests under way are finished then.
///
/// # Errors
/// Never: a port that cannot be opened is told, and tried again.
pub(crate) async fn run(
    node: Arc<Node>,
    configuration: Arc<AgentConfiguration>,
    doors: Doors,
) -> anyhow::Result<()> {
    let _closed = doors.closed.drop_guard();
    let stop = doors.close;
    let mut changes = node.store.changes();
    let mut said = None;
    let path = holder(&configuration);
    if configuration.ingress.is_none() {
        // That of an agent that served.
        let _gone = tokio::task::spawn_blocking(move || Holder::dismiss(&path)).await;
    }
    while !stop.is_cancelled() {
        changes.borrow_and_update();
        let wanted = configuration.ingress.as_ref().filter(|one| is_selected(&node, &one.node_selector));
        let done = match wanted {
            Some(ingress) => match serve(&node, ingress, holder(&configuration), &stop).await {
                Ok(()) => true,
                Err(error) => {
                    tell(&node, &error, &mut said);
                    false
                }
            },
            // What an agent said before this one, or this one with other labels.
            None => announce(&node, None).await,
        };
        let again = async {
            if done {
                return changes.changed().await.is_ok();
            }
            tokio::time::sleep(RETRY).await;
            true
        };
        if stop.run_until_cancelled(again).await == Some(false) {
            break;
        }
    }
    Ok(())
}

/// Whether the Node object has these labels.
fn is_selected(node: &Node, selector: &BTreeMap<String, String>) -> bool {
    let key = ObjectKey::new(Kind::Node, "", node.facts.node_name.as_str());
    let object = node.store.get(&key);
    let labels = object.as_ref().and_then(|object| object.metadata().labels.as_ref());
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// Nobody is served: said in the log and as an event, once for each reason.
fn tell(node: &Node, error: &IngressError, said: &mut Option<String>) {
    let reason = crate::chain::chain(error);
    if said.as_ref() != Some(&reason) {
        tracing::warn!(reason, "Ingresses are not served on this node; it is tried again");
        let about = ObjectKey::new(Kind::Node, "", node.facts.node_name.as_str());
        let message = format!("Ingresses are not served: {reason}");
        node.recorder.record(Note { about, warning: true, reason: "IngressFailed", message });
        *said = Some(reason);
    }
}

/// The ports are open and serve what the store says, until `stop` or the node loses its labels.
async fn serve(
    node: &Node,
    configuration: &IngressConfiguration,
    holder: PathBuf,
    stop: &CancellationToken,
) -> Result<(), IngressError> {
    let metrics = node.metrics.ingress.of_class(&configuration.class_name);
    let observer: Arc<dyn Observer> = Arc::new(metrics);
    let ingress = Ingress::open(&options(configuration, holder), observer).await?;
    if let Some(error) = ingress.unheld() {
        let error = crate::chain::chain(error);
        tracing::warn!(error, "clients of Ingresses are refused while an agent gives way to the next");
    }
    let [http, https] = ingress.addresses();
    tracing::info!(?http, ?https, class = configuration.class_name, "Ingresses are served");
    let end = stop.child_token();
    let follow = async {
        follow(node, configuration, &ingress, &end).await;
        end.cancel();
    };
    tokio::join!(ingress.run(end.clone()), follow);
    if !stop.is_cancelled() {
        // Another agent is not to have them either.
        let _closed = tokio::task::spawn_blocking(move || ingress.close()).await;
    }
    tracing::info!("Ingresses are served no more");
    Ok(())
}

async fn follow(
    node: &Node,
    configuration: &IngressConfiguration,
    ingress: &Ingress,
    stop: &CancellationToken,
) {
    let says = announcement(configuration);
    let default = configuration.default_secret();
    let open = || View::of(&node.store, says.clone(), default);
    let mut changes = node.store.changes();
    let (mut view, mut watch) = open();
    let mut told = BTreeSet::new();
    put(node, &mut view, ingress, &mut told);
    let mut announced = announce(node, Some(&says)).await;
    loop {
        // Every arm is cancel-safe, and none awaits in its body.
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !announced => {}
        }
        changes.borrow_and_update();
        match view.follow(&mut watch) {
            Ok(true) => put(node, &mut view, ingress, &mut told),
            Ok(false) => {}
            Err(_expired) => {
                let memory = view.into_memory();
                (view, watch) = open();
                view.keep(memory);
                put(node, &mut view, ingress, &mut told);
            }
        }
        if !is_selected(node, &configuration.node_selector) {
            // Clients are sent elsewhere before the ports close; if that fails, after.
            let _said = announce(node, None).await;
            return;
        }
        announced = announce(node, Some(&says)).await;
    }
}

/// What the store says is in force, and what is wrong with it is told once.
fn put(node: &Node, view: &mut View, ingress: &Ingress, told: &mut BTreeSet<Problem>) {
    let translation = view.translate(&node.store);
    node.metrics.ingress.expirations(&translation.shown);
    ingress.set_certificates(translation.certificates);
    ingress.set_table(translation.table);
    let problems: BTreeSet<_> = translation.problems.into_iter().collect();
    for problem in problems.difference(told) {
        let Problem { about, reason, message } = problem.clone();
        tracing::debug!(ingress = %about, reason, message, "an Ingress is not as it should be");
        node.recorder.record(Note { about, warning: true, reason, message });
    }
    *told = problems;
}
