//! What ADD was called for, on disk, so that DEL is: in the format of libcni's cache.

use super::list::{Fields, ListError, NetworkList};
use super::request::Parameters;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";

/// One attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    kind: String,
    pub(super) container_id: String,
    config: String,
    pub(super) if_name: String,
    pub(super) network_name: String,
    #[serde(default)]
    pub(super) netns: String,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    #[serde(default)]
    capability_args: Fields,
    /// Of the last plugin; missing until all have done their part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Value>,
}

impl Record {
    pub(super) fn new(list: &NetworkList, parameters: &Parameters) -> Self {
        Self {
            kind: KIND.to_owned(),
            container_id: parameters.container.clone(),
            config: BASE64.encode(list.text()),
            if_name: parameters.interface.clone(),
            network_name: list.name.clone(),
            netns: parameters.netns.clone(),
            cni_args: parameters.arguments.clone(),
            capability_args: parameters.capabilities.clone(),
            result: None,
        }
    }

    /// The network as it was then.
    ///
    /// # Errors
    /// If somebody has written something else there.
    pub(super) fn list(&self) -> Result<NetworkList, ListError> {
        let broken = |error: base64::DecodeError| ListError::Field {
            field: "config".into(),
            message: error.to_string(),
        };
        NetworkList::parse(&BASE64.decode(&self.config).map_err(broken)?)
    }

    pub(super) fn parameters(&self) -> Parameters {
        Parameters {
            container: self.container_id.clone(),
            netns: self.netns.clone(),
            interface: self.if_name.clone(),
            arguments: self.cni_args.clone(),
            capabilities: self.capability_args.clone(),
        }
    }

    fn file_name(&self) -> String {
        format!("{}-{}-{}", self.network_name, self.container_id, self.if_name)
    }
}

/// The folder of all of them.
#[derive(Debug)]
pub(super) struct Records(pub(super) PathBuf);

impl Records {
    /// Every record; what cannot be read is left out, and named.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(super) fn all(&self) -> io::Result<(Vec<Record>, Vec<PathBuf>)> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            entries => entries?,
        };
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                continue;
            }
            match read(&path) {
                Ok(record) => records.push(record),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => broken.push(path),
            }
        }
        Ok((records, broken))
    }

    /// The record of that container, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn find(&self, container: &str, interface: &str) -> io::Result<Option<Record>> {
        let end = format!("-{container}-{interface}");
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.ends_with(&end)) {
                return read(&entry.path()).map(Some);
            }
        }
        Ok(None)
    }

    /// It is there, durably: a machine that loses power must not forget what DEL is owed for.
    ///
    /// # Errors
    /// As `open(2)`, `write(2)` and `rename(2)`.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let path = self.0.join(record.file_name());
        let new = self.0.join(format!("{}.new", record.file_name()));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_data()?;
        fs::rename(new, path)
    }

    /// It is gone.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub(super) fn remove(&self, record: &Record) -> io::Result<()> {
        match fs::remove_file(self.0.join(record.file_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn read(path: &Path) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    if record.kind == KIND { Ok(record) } else { Err(io::ErrorKind::InvalidData.into()) }
}
