//! What is written: the same text to each.

use manifests::k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A ConfigMap that is yet to be named.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    filler: String,
}

impl Sample {
    /// ConfigMaps of about `bytes` bytes of JSON, of which nothing can be compressed much.
    pub(crate) fn new(bytes: usize) -> Self {
        let empty = Self { filler: String::new() };
        let length = bytes.saturating_sub(empty.text("some-000000").len());
        // Another text in each run, so that a write of an object that is there changes it.
        let mut state = RandomState::new().build_hasher().finish() | 1;
        let letter = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(
                b"abcdefghijklmnopqrstuvwxyz0123456789-_ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(state % 64) as usize],
            )
        };
        Self { filler: (0..length).map(letter).collect() }
    }

    /// Its JSON text.
    pub(crate) fn text(&self, name: &str) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default"},
            "data": {"value": self.filler},
        })
        .to_string()
    }

    /// The object itself.
    pub(crate) fn object(&self, name: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some("default".into());
        map.metadata.name = Some(name.to_owned());
        map.data = Some([("value".to_owned(), self.filler.clone())].into());
        map
    }
}
