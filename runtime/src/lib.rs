//! What runs on this node: images, sandboxes, and the supervisor of each pod.

pub mod apparmor;
pub mod cgroup;
pub mod image;
pub mod logs;
pub mod memory;
mod overlay;
pub mod plan;
pub mod pods;
mod sandbox;
pub mod seccomp;
pub mod state;
pub mod status;
pub mod supervisor;
mod sys;
pub mod systemd;
pub mod token;
pub mod volume;
