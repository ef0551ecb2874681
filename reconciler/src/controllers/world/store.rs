//! The world's store: batches, versions and generations as the real one has them.

use super::World;
use crate::controllers::pod;
use crate::store::Write;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Object, ObjectKey};
use std::sync::Arc;

impl World {
    /// Applies a batch, all or nothing, as the store does.
    pub(crate) fn apply(&mut self, batch: &[Write]) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut next = self.clone();
        for write in batch {
            next.write(write)?;
        }
        *self = next;
        Ok(())
    }

    fn write(&mut self, write: &Write) -> Result<(), String> {
        match write {
            Write::Create(object) => self.create(object.clone()),
            Write::Update(object) => self.update(object.clone()),
            Write::UpdateStatus(object) => {
                let stored = self.checked(object)?;
                let mut next = (*stored).clone();
                copy_status(object, &mut next);
                if next != *stored {
                    self.put_object(next);
                }
                Ok(())
            }
            Write::Delete { key, uid, .. } => self.delete(key, uid.as_deref()),
            Write::Remove { key, uid } => {
                self.of_uid(key, uid.as_deref())?;
                self.state.remove(key, self.state.revision() + 1);
                Ok(())
            }
        }
    }

    fn create(&mut self, mut object: Object) -> Result<(), String> {
        if self.state.get(&object.key()).is_some() {
            return Err(format!("{} is there", object.key()));
        }
        self.uids += 1;
        let meta = object.metadata_mut();
        meta.uid = Some(format!("uid-{:06}", self.uids));
        meta.creation_timestamp = Some(Time(self.now));
        meta.generation = Some(1);
        self.put_object(object);
        Ok(())
    }

    fn update(&mut self, mut next: Object) -> Result<(), String> {
        let stored = self.checked(&next)?;
        copy_status(&stored, &mut next);
        let given = stored.metadata().clone();
        let meta = next.metadata_mut();
        meta.uid.clone_from(&given.uid);
        meta.creation_timestamp.clone_from(&given.creation_timestamp);
        meta.deletion_timestamp.clone_from(&given.deletion_timestamp);
        meta.deletion_grace_period_seconds = given.deletion_grace_period_seconds;
        meta.resource_version.clone_from(&given.resource_version);
        meta.generation = given.generation;
        if next == *stored {
            return Ok(());
        }
        let meta = std::mem::replace(next.metadata_mut(), given.clone());
        let only_metadata = next == *stored;
        *next.metadata_mut() = meta;
        if !only_metadata {
            next.metadata_mut().generation = given.generation.map(|generation| generation + 1);
        }
        self.put_object(next);
        Ok(())
    }

    fn delete(&mut self, key: &ObjectKey, uid: Option<&str>) -> Result<(), String> {
        let stored = self.of_uid(key, uid)?;
        let runs = <&Pod>::try_from(stored.as_ref())
            .is_ok_and(|pod| !pod::node_name(pod).is_empty() && !pod::is_finished(pod));
        if !runs {
            self.state.remove(key, self.state.revision() + 1);
        } else if stored.metadata().deletion_timestamp.is_none() {
            let mut next = (*stored).clone();
            next.metadata_mut().deletion_timestamp = Some(Time(self.now));
            self.put_object(next);
        }
        Ok(())
    }

    /// As read back from the disk: what JSON does not keep is lost.
    fn put_object(&mut self, mut object: Object) {
        let revision = self.state.revision() + 1;
        object.metadata_mut().resource_version = Some(revision.to_string());
        let object = Object::from_json(object.kind(), object.to_json().unwrap()).unwrap();
        self.state.insert(Arc::new(object), revision);
    }

    fn of_uid(&self, key: &ObjectKey, uid: Option<&str>) -> Result<Arc<Object>, String> {
        let stored = self.state.get(key).ok_or_else(|| format!("{key} is not there"))?;
        if uid.is_some_and(|uid| uid != stored.uid()) {
            return Err(format!("{key} is another one"));
        }
        Ok(Arc::clone(stored))
    }

    fn checked(&self, object: &Object) -> Result<Arc<Object>, String> {
        let stored = self.of_uid(&object.key(), object.metadata().uid.as_deref())?;
        let version = object.metadata().resource_version.as_ref();
        if version.is_some() && version != stored.metadata().resource_version.as_ref() {
            return Err(format!("{} has changed", object.key()));
        }
        Ok(stored)
    }
}

/// Gives `to` the status of `from`.
fn copy_status(from: &Object, to: &mut Object) {
    macro_rules! copy {
        ($($kind:ident),+) => {
            #[allow(clippy::wildcard_enum_match_arm, reason = "other kinds have no status here")]
            match (from, to) {
                $((Object::$kind(from), Object::$kind(to)) => to.status.clone_from(&from.status),)+
                _ => {}
            }
        };
    }
    copy!(Node, Ingress, DaemonSet, Deployment, ReplicaSet, CronJob, Job, Pod);
}
