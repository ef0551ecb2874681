//! The Node object says what the node serves: from there Ingresses get their addresses.

use crate::node::Node;
use k8s_openapi::api::core::v1::Node as NodeObject;
use manifests::{Kind, Object, ObjectKey};
use reconciler::controllers::ingress::{ANNOTATION, Announcement};
use reconciler::store::Write;

/// The Node object says this, or nothing. False if it does not yet: that is to be tried again.
pub(super) async fn announce(node: &Node, says: Option<&Announcement>) -> bool {
    let key = ObjectKey::new(Kind::Node, "", node.facts.node_name.as_str());
    let Some(object) = node.store.get(&key) else { return says.is_none() };
    let Ok(known) = <&NodeObject>::try_from(&*object) else { return true };
    let text = says.map(Announcement::text);
    let said = known.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION));
    if said == text.as_ref() {
        return true;
    }
    let mut next = known.clone();
    let annotations = next.metadata.annotations.get_or_insert_default();
    match text {
        Some(text) => drop(annotations.insert(ANNOTATION.to_owned(), text)),
        None => drop(annotations.remove(ANNOTATION)),
    }
    match node.store.write(vec![Write::Update(Object::from(next))]).await {
        Ok(_) => true,
        Err(error) => {
            let error = crate::chain::chain(&error);
            tracing::debug!(error, "the Node object does not say yet what it serves");
            false
        }
    }
}
