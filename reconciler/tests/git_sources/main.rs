//! Git sources against real repositories, made and served by the `git` program.

mod clone;
mod http;
mod local;
mod server;
mod ssh;
mod upstream;
mod watch;
