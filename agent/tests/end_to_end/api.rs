//! The agent's socket: plain HTTP/1.0, so that an answer ends with its connection.

use crate::machine::PATIENCE;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) struct Api {
    pub(crate) socket: PathBuf,
}

/// A stream of changes.
pub(crate) struct Watch(BufReader<UnixStream>);

impl Api {
    /// Status code and body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (code, mut reader) = self.begin(method, path, body);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        (code, text)
    }

    fn begin(&self, method: &str, path: &str, body: &str) -> (u16, BufReader<UnixStream>) {
        let mut stream = connect(&self.socket);
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: keel\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("no status line: {line:?}"));
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        (code, reader)
    }

    /// The object at `path`, if there is one.
    pub(crate) fn find(&self, path: &str) -> Option<Value> {
        match self.ask("GET", path, "") {
            (200, text) => Some(serde_json::from_str(&text).unwrap()),
            (404, _) => None,
            (code, text) => panic!("{path}: {code} {text}"),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.find(path).unwrap_or_else(|| panic!("nothing at {path}"))
    }

    pub(crate) fn list(&self, path: &str) -> Vec<Value> {
        self.get(path)["items"].as_array().unwrap().clone()
    }

    pub(crate) fn put(&self, path: &str, object: &Value) -> (u16, String) {
        self.ask("PUT", path, &object.to_string())
    }

    /// The changes from `version` on.
    pub(crate) fn watch(&self, path: &str, version: &str) -> Watch {
        let (code, reader) = self.begin("GET", &format!("{path}?watch=1&resourceVersion={version}"), "");
        assert_eq!(code, 200, "{path}");
        Watch(reader)
    }

    /// What `look` finds in the list at `path`, as soon as it finds it.
    pub(crate) fn until<T>(&self, path: &str, what: &str, mut look: impl FnMut(&[Value]) -> Option<T>) -> T {
        let began = Instant::now();
        let mut list = self.get(path);
        loop {
            let items = list["items"].as_array().unwrap();
            if let Some(found) = look(items) {
                return found;
            }
            let version = list["metadata"]["resourceVersion"].as_str().unwrap();
            // Whatever it was, also that the watch cannot go on: what is there now is looked at.
            let _changed = self.watch(path, version).next();
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}; there is: {}", summary(items));
            list = self.get(path);
        }
    }
}

impl Watch {
    /// The next change; `None` if the agent ended, or nothing came in time.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(length) if length > 0 => Some(serde_json::from_str(&line).unwrap()),
            Ok(_) | Err(_) => None,
        }
    }
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn summary(items: &[Value]) -> String {
    let name = |item: &Value| format!("{}\n{}\n", item["metadata"]["name"], item["status"]);
    items.iter().map(name).collect()
}
