//! Git sources against real repositories, made and served by the `git` program.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod clone;
mod http;
mod local;
mod server;
mod ssh;
mod upstream;
mod watch;
