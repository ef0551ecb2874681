//! What runs on this node: images, sandboxes, and the supervisor of each pod.

pub mod cgroup;
pub mod plan;
pub mod pods;
mod sandbox;
pub mod state;
pub mod supervisor;
mod sys;
