//! What runs on this node: images, sandboxes, and the supervisor of each pod.

pub mod plan;
pub mod state;
