//! What the demo sees of the agent: objects, watched through its API.

use super::DemoError;
use crate::client::{Client, ClientError, ObjectPath, PodInspection, Selectors, Watch, WatchKind, typed};
use crate::print;
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, Object, ObjectKey};
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use tokio::time::timeout;

/// How long anything of the story may take before it counts as failed. Generous:
/// what is shown are the real times.
const PATIENCE: Duration = Duration::from_secs(120);

/// Objects of one kind, kept up to date by a watch.
pub(super) struct View {
    client: Client,
    kind: Kind,
    objects: BTreeMap<ObjectKey, Object>,
    watch: Watch,
}

impl View {
    /// The objects of `kind` as they are now.
    ///
    /// # Errors
    /// If the agent cannot be asked.
    pub(super) async fn open(client: &Client, kind: Kind) -> Result<Self, ClientError> {
        let (objects, watch) = list_and_watch(client, kind).await?;
        Ok(Self { client: client.clone(), kind, objects, watch })
    }

    /// Every object.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// Waits for a change and takes it in; returns the object, if it is not gone.
    ///
    /// # Errors
    /// If the agent cannot be asked.
    pub(super) async fn change(&mut self) -> Result<Option<Object>, ClientError> {
        let Some(event) = self.watch.next().await? else {
            // A server may end a watch at any time.
            (self.objects, self.watch) = list_and_watch(&self.client, self.kind).await?;
            return Ok(None);
        };
        let object = typed(self.kind, event.object)?;
        if event.kind == WatchKind::Deleted {
            self.objects.remove(&object.key());
            return Ok(None);
        }
        self.objects.insert(object.key(), object.clone());
        Ok(Some(object))
    }

    /// Waits until `look` finds what it looks for.
    ///
    /// # Errors
    /// [`DemoError::Late`] if it does not come true in time; if the agent cannot be asked.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, DemoError> {
        in_time(what, async {
            loop {
                if let Some(found) = look(self) {
                    return Ok(found);
                }
                self.change().await?;
            }
        })
        .await
    }
}

/// What `act` comes to.
///
/// # Errors
/// [`DemoError::Late`] if it takes too long; its own.
pub(super) async fn in_time<T>(
    what: &str,
    act: impl Future<Output = Result<T, DemoError>>,
) -> Result<T, DemoError> {
    timeout(PATIENCE, act).await.unwrap_or_else(|_late| Err(DemoError::Late { what: what.to_owned() }))
}

async fn list_and_watch(
    client: &Client,
    kind: Kind,
) -> Result<(BTreeMap<ObjectKey, Object>, Watch), ClientError> {
    let path = ObjectPath::all(kind, None);
    let list = client.list(&path, &Selectors::default()).await?;
    let watch = client.watch(&path, &Selectors::default(), &list.resource_version).await?;
    let mut objects = BTreeMap::new();
    for item in list.items {
        let object = typed(kind, item)?;
        objects.insert(object.key(), object);
    }
    Ok((objects, watch))
}

/// Says each change of a pod's status, until it is dropped.
///
/// # Errors
/// If the agent cannot be asked.
pub(super) async fn tell_pods(client: &Client, tell: impl Fn(&str)) -> Result<(), ClientError> {
    let mut view = View::open(client, Kind::Pod).await?;
    let mut told = BTreeMap::new();
    for object in view.objects() {
        told.insert(object.key(), status_of(object));
    }
    loop {
        let before: Vec<_> = view.objects.keys().cloned().collect();
        match view.change().await? {
            Some(object) => {
                let (key, status) = (object.key(), status_of(&object));
                if told.get(&key) != Some(&status) {
                    tell(&format!("pod/{:<22} {status}", key.name));
                    told.insert(key, status);
                }
            }
            None => {
                for key in before.iter().filter(|key| !view.objects.contains_key(key)) {
                    tell(&format!("pod/{:<22} gone", key.name));
                    told.remove(key);
                }
            }
        }
    }
}

/// `Running 1/1`.
fn status_of(object: &Object) -> String {
    <&Pod>::try_from(object).map_or_else(
        |_| String::new(),
        |pod| {
            let summary = print::pod_summary(pod);
            format!("{} {}/{}", summary.status, summary.ready, summary.total)
        },
    )
}

/// The first processes of all containers that run, by `namespace/pod/container`.
///
/// # Errors
/// If the agent cannot be asked.
pub(super) async fn container_pids(client: &Client) -> Result<BTreeMap<String, i32>, ClientError> {
    let mut pids = BTreeMap::new();
    for object in client.list_objects(&ObjectPath::all(Kind::Pod, None), &Selectors::default()).await? {
        let inspection = match client.inspect(object.namespace(), object.name()).await {
            // A pod that has ended has no process.
            Err(error) if error.is_not_found() => PodInspection::default(),
            result => result?,
        };
        for container in inspection.containers {
            let name = format!("{}/{}/{}", object.namespace(), object.name(), container.name);
            pids.extend(container.pid.map(|pid| (name, pid)));
        }
    }
    Ok(pids)
}
