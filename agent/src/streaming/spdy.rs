//! SPDY/3.1, the server's side: what Kubernetes' clients stream over.

mod dictionary;
pub(crate) mod frame;
mod session;

pub(crate) use session::{Session, Stream, StreamReader, StreamWriter};
