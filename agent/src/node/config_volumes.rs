//! Brings the files of ConfigMaps, Secrets, labels, annotations and tokens in running pods up to
//! date.

use super::work::Inputs;
use super::{Node, pod_of};
use k8s_openapi::api::core::v1::{Pod, Volume};
use manifests::{Kind, Object};
use reconciler::store::{Store, Watch};
use runtime::volume;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How often tokens are looked at: they are made anew at least so long before it is time.
const TOKEN_PERIOD: Duration = Duration::from_secs(60);

type Text = BTreeMap<String, String>;
/// What a pod's own files show of it.
type Shown = (Option<Text>, Option<Text>);

/// Watches ConfigMaps, Secrets and pods until `stop`, and swaps new content into the
/// pods that mount it. Pods that waited for some are tried at once, through `retry`.
///
/// # Errors
/// If the store ended under it.
pub(crate) async fn run(
    node: Arc<Node>,
    retry: Arc<tokio::sync::Notify>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut changes = node.store.changes();
    let mut watch = None;
    let mut shown = BTreeMap::new();
    let mut tokens_due = Instant::now();
    loop {
        changes.borrow_and_update();
        let configured = is_configuration_new(&node.store, &mut watch);
        let now_shown = shown_by_pods(&node);
        let tokens = tokens_due <= Instant::now();
        let mut look = Look { configured, tokens, pods: changed(&shown, &now_shown) };
        shown = now_shown;
        if configured {
            retry.notify_one();
        }
        if tokens {
            tokens_due = Instant::now() + TOKEN_PERIOD;
        }
        if look.is_needed() {
            let node = Arc::clone(&node);
            tokio::task::spawn_blocking(move || look.update(&node)).await?;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = changes.changed() => changed?,
            () = sleep_until(tokens_due) => {}
        }
    }
}

/// True if a ConfigMap or Secret changed since the last look. At first too: an agent may have ended
/// between a change and its swap. There may be many of them, so only the changes are looked at.
fn is_configuration_new(store: &Store, watch: &mut Option<Watch>) -> bool {
    let mut is_new = false;
    loop {
        match watch.as_mut().map(Watch::try_next) {
            Some(Ok(Some(event))) => {
                is_new |= matches!(event.object.kind(), Kind::ConfigMap | Kind::Secret);
            }
            Some(Ok(None)) => return is_new,
            // At first, or after too many changes.
            None | Some(Err(_)) => {
                *watch = Some(store.read_and_watch(None, |_| ()).1);
                is_new = true;
            }
        }
    }
}

/// Labels and annotations of the pods whose files may show them, by uid.
fn shown_by_pods(node: &Node) -> BTreeMap<String, Shown> {
    let pods = node.pods();
    let showing = pods.iter().filter_map(|object| pod_of(object)).filter(|pod| mounts(pod, shows_itself));
    let shown = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
    showing.map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), shown(pod))).collect()
}

fn changed(before: &BTreeMap<String, Shown>, now: &BTreeMap<String, Shown>) -> Vec<String> {
    let new = now.iter().filter(|(uid, shown)| before.get(*uid) != Some(shown));
    new.map(|(uid, _)| uid.clone()).collect()
}

/// Which pods are to be looked at.
struct Look {
    /// Those that show a ConfigMap or Secret.
    configured: bool,
    /// Those that hold a token.
    tokens: bool,
    /// These, by uid.
    pods: Vec<String>,
}

impl Look {
    fn is_needed(&self) -> bool {
        self.configured || self.tokens || !self.pods.is_empty()
    }

    fn update(&mut self, node: &Node) {
        let pods = node.pods();
        let running = node.runtime.observe();
        for object in pods.iter().filter(|object| running.contains_key(object.uid())) {
            let Some(pod) = pod_of(object) else { continue };
            // Whether a token is mounted is not in the pod as it is written.
            let inputs = self.tokens.then(|| Inputs::gather(node, pod));
            let holds_token = inputs.as_ref().is_some_and(|inputs| mounts(inputs.pod(), has_token));
            let wanted = (self.configured && mounts(pod, shows_configuration))
                || holds_token
                || self.pods.iter().any(|uid| uid == object.uid());
            if wanted {
                update(node, object, &inputs.unwrap_or_else(|| Inputs::gather(node, pod)));
            }
        }
    }
}

fn mounts(pod: &Pod, wanted: fn(&Volume) -> bool) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.volumes.iter().flatten().any(wanted))
}

fn shows_configuration(volume: &Volume) -> bool {
    volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some()
}

fn shows_itself(volume: &Volume) -> bool {
    let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
    volume.downward_api.is_some()
        || projected.is_some_and(|sources| sources.iter().any(|source| source.downward_api.is_some()))
}

fn has_token(volume: &Volume) -> bool {
    let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
    projected.is_some_and(|sources| sources.iter().any(|source| source.service_account_token.is_some()))
}

fn update(node: &Node, object: &Object, inputs: &Inputs) {
    match volume::update(&inputs.input(node)) {
        Ok(changed) if changed.is_empty() => {}
        Ok(changed) => tracing::info!(pod = %object.key(), volumes = ?changed, "new content swapped in"),
        Err(error) => {
            node.note(&object.key(), true, "FailedMount", error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_looked_at_when_it_is_new_or_its_labels_changed() {
        let labels = |value: &str| (Some(Text::from([("a".to_owned(), value.to_owned())])), None);
        let of = |list: &[(&str, &str)]| {
            list.iter().map(|(uid, value)| ((*uid).to_owned(), labels(value))).collect::<BTreeMap<_, _>>()
        };
        let before = of(&[("p", "1"), ("q", "1"), ("gone", "1")]);
        assert_eq!(changed(&before, &of(&[("p", "1"), ("q", "2"), ("r", "1")])), ["q", "r"]);
        assert!(changed(&before, &before).is_empty());
    }
}
