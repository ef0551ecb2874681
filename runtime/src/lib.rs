//! What runs on this node: images, sandboxes, and the supervisor of each pod.

pub mod image;
pub mod logs;
pub mod plan;
pub mod state;
pub mod status;
pub mod volume;
