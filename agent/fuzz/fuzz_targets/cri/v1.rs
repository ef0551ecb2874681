//! The interface, as the agent builds it.

include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
