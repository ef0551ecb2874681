//! What a plugin says when it fails. Pure.

use super::version::SpecVersion;
use serde_json::{Value, json};
use std::fmt;

/// Error codes of the specification.
pub(crate) mod code {
    pub(crate) const INCOMPATIBLE_VERSION: u64 = 1;
    pub(crate) const UNKNOWN_CONTAINER: u64 = 3;
    pub(crate) const INVALID_ENVIRONMENT: u64 = 4;
    pub(crate) const IO: u64 = 5;
    pub(crate) const DECODING: u64 = 6;
    pub(crate) const INVALID_CONFIGURATION: u64 = 7;
    pub(crate) const TRY_AGAIN_LATER: u64 = 11;
    pub(crate) const NOT_AVAILABLE: u64 = 50;
    /// The first that is a plugin's own.
    pub(crate) const OWN: u64 = 100;
}

/// The error object of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of [`code`]; 0 if the plugin did not say.
    pub code: u64,
    /// In short.
    pub message: String,
    /// At length, or nothing.
    pub details: String,
}

impl Failure {
    /// A failure with nothing to add.
    pub fn new(code: u64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// What a plugin that failed has said, of its two streams.
    #[must_use]
    pub fn read(stdout: &[u8], stderr: &[u8]) -> Self {
        let object: Option<Value> = serde_json::from_slice(stdout).ok();
        let object = object.filter(|object| object.get("msg").is_some() || object.get("code").is_some());
        let text = |key| object.as_ref().and_then(|object| object.get(key)?.as_str()).unwrap_or_default();
        if object.is_some() {
            let code = object.as_ref().and_then(|object| object.get("code")?.as_u64()).unwrap_or(0);
            return Self { code, message: text("msg").to_owned(), details: text("details").to_owned() };
        }
        // Whoever breaks down before it speaks the protocol speaks to people.
        let said = [stdout, stderr].map(|said| String::from_utf8_lossy(said).trim().to_owned());
        let said: Vec<_> = said.into_iter().filter(|said| !said.is_empty()).collect();
        if said.is_empty() {
            return Self::new(0, "it gave no reason");
        }
        Self::new(0, shortened(&said.join(": ")))
    }

    /// The object, in the words of that version.
    #[must_use]
    pub fn print(&self, version: SpecVersion) -> Value {
        let mut object = json!({"cniVersion": version.name(), "code": self.code, "msg": self.message});
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object
    }
}

/// An event holds no more.
fn shortened(text: &str) -> String {
    const MOST: usize = 800;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        if self.code != 0 {
            write!(f, " (code {})", self.code)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_failure_is_read_from_whatever_a_plugin_says() {
        let object = br#"{"cniVersion": "1.0.0", "code": 11, "msg": "busy", "details": "wait"}"#;
        let failure = Failure::read(object, b"log line");
        assert_eq!(failure.to_string(), "busy; wait (code 11)");
        assert_eq!(Failure::read(&failure.print(SpecVersion::V1_1_0).to_string().into_bytes(), b""), failure);
        assert_eq!(Failure::read(b"", b"panic: nil\n").to_string(), "panic: nil");
        assert_eq!(Failure::read(b"", b"").to_string(), "it gave no reason");
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = Failure::read(&bytes, &bytes).to_string();
        }
    }
}
