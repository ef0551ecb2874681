//! What matters to Ingresses, as the store has it.

use super::translate::{Memory, Objects, SecretName, Translation, translate};
use crate::catalog::Catalog;
use manifests::{Kind, Object, ObjectKey};
use netstack::ServiceName;
use reconciler::controllers::ingress::{Announcement, classes};
use reconciler::store::{Change, Expired, State, Store, Watch};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What matters to the Ingresses that a node serves.
#[derive(Debug)]
pub(super) struct View {
    says: Announcement,
    default: Option<SecretName>,
    catalog: Catalog,
    memory: Memory,
    /// Secrets that Ingresses name, there or not.
    secrets: BTreeSet<SecretName>,
}

impl View {
    /// What `store` has, and what changes after it.
    pub(super) fn of(store: &Store, says: Announcement, default: Option<(&str, &str)>) -> (Self, Watch) {
        let default = default.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        store.read_and_watch(None, |state| {
            let mut catalog = Catalog::default();
            for kind in [Kind::Service, Kind::EndpointSlice] {
                for object in state.list(kind, None) {
                    catalog.put(object, true);
                }
            }
            let (memory, secrets) = (Memory::default(), BTreeSet::new());
            Self { says, default, catalog, memory, secrets }
        })
    }

    /// What translations have in common: whose turn is next among it.
    pub(super) fn into_memory(self) -> Memory {
        self.memory
    }

    /// That of before is gone on with.
    pub(super) fn keep(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// Takes in what has changed: endpoints at once, and true if there is more to be done.
    ///
    /// # Errors
    /// If it fell too far behind: read anew.
    pub(super) fn follow(&mut self, watch: &mut Watch) -> Result<bool, Expired> {
        let (mut anew, mut touched) = (false, BTreeSet::new());
        while let Some(event) = watch.try_next()? {
            let object = &event.object;
            #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind matters to Ingresses")]
            match object.kind() {
                Kind::Ingress | Kind::IngressClass => anew = true,
                Kind::Service => {
                    let name =
                        ServiceName { namespace: object.namespace().into(), name: object.name().into() };
                    anew |= self.memory.leads_to(&name);
                }
                Kind::Secret => {
                    let name = (object.namespace().to_owned(), object.name().to_owned());
                    anew |= self.secrets.contains(&name);
                }
                _ => {}
            }
            touched.extend(self.catalog.put(object, event.change != Change::Deleted));
        }
        for service in touched {
            self.memory.refresh(&service, &self.catalog);
        }
        Ok(anew)
    }

    /// What is to be in force.
    pub(super) fn translate(&mut self, store: &Store) -> Translation {
        let says = &self.says;
        let ingresses = store.read(|state| served(state, says));
        let secret = |(namespace, name): &SecretName| {
            store.get(&ObjectKey::new(Kind::Secret, namespace.as_str(), name.as_str()))
        };
        let objects =
            Objects { ingresses, catalog: &self.catalog, secret: &secret, default: self.default.as_ref() };
        let translation = translate(&objects, &mut self.memory);
        self.secrets.clone_from(&translation.secrets);
        translation
    }
}

/// The Ingresses that are for this node.
fn served(state: &State, says: &Announcement) -> Vec<Arc<Object>> {
    let classes = classes(state);
    let is_ours =
        |object: &&Arc<Object>| (&***object).try_into().is_ok_and(|ingress| says.serves(ingress, &classes));
    state.list(Kind::Ingress, None).filter(is_ours).cloned().collect()
}
