//! What came of an object: the objects that name it as their owner, down to pods.

use crate::client::{Client, ClientError, ObjectPath, Selectors};
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, Object};

/// The objects of a namespace that can have owners.
pub(super) struct Dependents {
    objects: Vec<Object>,
}

impl Dependents {
    /// Those of `namespace`.
    ///
    /// # Errors
    /// If the agent cannot be asked.
    pub(super) async fn of(client: &Client, namespace: &str) -> Result<Self, ClientError> {
        let mut objects = Vec::new();
        for kind in [Kind::ReplicaSet, Kind::Job, Kind::Pod] {
            let path = ObjectPath::all(kind, Some(namespace));
            objects.extend(client.list_objects(&path, &Selectors::default()).await?);
        }
        Ok(Self { objects })
    }

    /// Those that name `owner`, oldest first.
    pub(super) fn children(&self, owner: &Object) -> Vec<&Object> {
        let uid = owner.uid();
        let owned = |object: &&Object| {
            object.metadata().owner_references.iter().flatten().any(|reference| reference.uid == uid)
        };
        let mut children: Vec<_> = self.objects.iter().filter(owned).collect();
        children.sort_by_key(|child| (child.metadata().creation_timestamp.clone(), child.name().to_owned()));
        children
    }

    /// The pods under `owner`, at any depth.
    pub(super) fn pods(&self, owner: &Object) -> Vec<&Pod> {
        let mut pods = Vec::new();
        let mut pending = self.children(owner);
        while let Some(object) = pending.pop() {
            match <&Pod>::try_from(object) {
                Ok(pod) => pods.push(pod),
                Err(_) => pending.extend(self.children(object)),
            }
        }
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        pods
    }
}
