//! `fileKeyRef`: variables whose values are in files that the pod's own containers have written
//! when the container starts. Until then a mark stands for each.

use super::build::PodInput;
use super::error::Cause;
use crate::volume::{self, sub_path};
use k8s_openapi::api::core::v1::{Container, FileKeySelector, Volume};
use oci_spec::runtime::Process;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

/// The largest file that is read. Source: Kubernetes' KEP 3721.
const MAX_BYTES: u64 = 64 << 10;

/// One such variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVariable {
    /// Its name.
    pub name: String,
    /// What stands for its value.
    pub mark: String,
    /// The root of the volume on the node.
    pub volume: PathBuf,
    /// The file in it.
    pub path: PathBuf,
    /// Which of the file's values.
    pub key: String,
    /// Without the file, or the key in it, the variable is not set.
    pub optional: bool,
}

/// Those of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVariables {
    /// In the order of the specification.
    pub all: Vec<FileVariable>,
    /// Arguments and environment with the marks in them, once values are in the process.
    #[serde(skip)]
    marked: Option<(Vec<String>, Vec<String>)>,
}

/// Why a container has no value for a variable.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FileVariableError {
    #[error("environment variable key {key:?} not found in file {path:?}")]
    NoKey { key: String, path: PathBuf },
    #[error("cannot read the environment file {path:?}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the environment file {path:?} has more than {MAX_BYTES} bytes")]
    Large { path: PathBuf },
    #[error("line {line} of the environment file {path:?} is not of the form NAME='value'")]
    Syntax { path: PathBuf, line: usize },
}

/// Stands for the value of the container's variable at `place`. Of Unicode's private use, so that
/// no manifest means it.
pub(super) fn mark(place: usize) -> String {
    format!("\u{e001}{place}\u{e001}")
}

/// True if a value in `text` is not known yet.
pub(super) fn is_marked(text: &str) -> bool {
    text.contains('\u{e001}')
}

/// The variables of `container` that come from files.
///
/// # Errors
/// If a file is not in an `emptyDir` of the pod, or its path could lead out of it.
pub(super) fn of_container(container: &Container, input: &PodInput<'_>) -> Result<FileVariables, Cause> {
    let mut all = Vec::new();
    for (place, variable) in container.env.iter().flatten().enumerate() {
        let Some(wanted) = variable.value_from.as_ref().and_then(|from| from.file_key_ref.as_ref()) else {
            continue;
        };
        let volume = root(wanted, input)?;
        let path = PathBuf::from(&wanted.path);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) || wanted.path.is_empty() {
            return Err(Cause::BadSubPath { path: wanted.path.clone() });
        }
        let (name, key) = (variable.name.clone(), wanted.key.clone());
        all.push(FileVariable {
            name,
            mark: mark(place),
            volume,
            path,
            key,
            optional: wanted.optional == Some(true),
        });
    }
    Ok(FileVariables { all, marked: None })
}

fn root(wanted: &FileKeySelector, input: &PodInput<'_>) -> Result<PathBuf, Cause> {
    let volumes = input.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let found = volumes.iter().find(|volume| volume.name == wanted.volume_name);
    let found = found.ok_or_else(|| Cause::VolumeNotFound { name: wanted.volume_name.clone() })?;
    match found {
        Volume { empty_dir: Some(_), .. } => volume::path(&input.pod_dir(), found),
        _ => None,
    }
    .ok_or_else(|| Cause::Unsupported { feature: "fileKeyRef to a volume that is no emptyDir".to_owned() })
}

impl FileVariables {
    /// `process` has the values that the files have now, wherever the variables are referred to.
    ///
    /// # Errors
    /// If a value that is not optional is not there, or a file cannot be understood.
    pub(crate) fn fill_in(&mut self, process: &mut Process) -> Result<(), FileVariableError> {
        if self.all.is_empty() {
            return Ok(());
        }
        let given = || {
            let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
            (list(process.args()), list(process.env()))
        };
        let (mut args, mut env) = self.marked.get_or_insert_with(given).clone();
        for variable in &self.all {
            let value = variable.read()?;
            if value.is_none() {
                let own = format!("{}={}", variable.name, variable.mark);
                env.retain(|entry| *entry != own);
            }
            // As a reference to a variable that does not exist.
            let value = value.unwrap_or_else(|| format!("$({})", variable.name));
            for text in args.iter_mut().chain(&mut env).filter(|text| text.contains(&variable.mark)) {
                *text = text.replace(&variable.mark, &value);
            }
        }
        process.set_args(Some(args)).set_env(Some(env));
        Ok(())
    }
}

impl FileVariable {
    fn read(&self) -> Result<Option<String>, FileVariableError> {
        let path = || self.path.clone();
        let missing = || FileVariableError::NoKey { key: self.key.clone(), path: self.path.clone() };
        let found = match text(&self.volume, &self.path) {
            Ok(text) if text.len() as u64 > MAX_BYTES => {
                return Err(FileVariableError::Large { path: path() });
            }
            Ok(text) => {
                value(&text, &self.key).map_err(|line| FileVariableError::Syntax { path: path(), line })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.optional => None,
            Err(source) => return Err(FileVariableError::Read { path: path(), source }),
        };
        if found.is_none() && !self.optional { Err(missing()) } else { Ok(found) }
    }
}

/// The file, as far as it may be read. No link that the pod has put there leads out of the volume.
fn text(volume: &Path, path: &Path) -> io::Result<String> {
    let volume = open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let found = sub_path::open(&volume, path)?;
    // What else there is could keep its reader waiting.
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = File::open(Path::new("/proc/self/fd").join(found.as_raw_fd().to_string()))?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// The value of `key`, the last one if there are several: lines of `NAME='value'`, where values
/// may go over several lines and nothing in them means anything; blank lines; comments.
///
/// # Errors
/// The number of the first line that is something else.
fn value(text: &str, key: &str) -> Result<Option<String>, usize> {
    let mut found = None;
    let mut rest = text;
    loop {
        let start = rest.trim_start();
        let line = text[..text.len() - start.len()].matches('\n').count() + 1;
        if start.is_empty() {
            return Ok(found);
        }
        let end = start.find('\n').unwrap_or(start.len());
        if start.starts_with('#') {
            rest = &start[end..];
            continue;
        }
        let (name, given) = start[..end].split_once('=').ok_or(line)?;
        let blanks = given.len() - given.trim_start_matches([' ', '\t']).len();
        let given = &start[name.len() + 1 + blanks..];
        let (value, after) = given.strip_prefix('\'').and_then(|given| given.split_once('\'')).ok_or(line)?;
        let end = after.find('\n').unwrap_or(after.len());
        if !after[..end].trim().is_empty() {
            return Err(line);
        }
        if name.trim_end() == key {
            found = Some(value.to_owned());
        }
        rest = &after[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_single_quotes() {
        let text =
            "# said 'so'\n\n  A='one'\nB = 'two words # and $(C)'\nC='over\ntwo \"lines\"'  \nA='last'\n";
        let of = |key: &str| value(text, key).unwrap();
        assert_eq!(of("A").as_deref(), Some("last"));
        assert_eq!(of("B").as_deref(), Some("two words # and $(C)"));
        assert_eq!(of("C").as_deref(), Some("over\ntwo \"lines\""));
        assert_eq!(of("D"), None);
        assert_eq!(value("", "A"), Ok(None));
        for (text, line) in [
            ("A=one", 1),
            ("A='1'\n\nB=\"2\"", 3),
            ("A='1", 1),
            ("A='1' x", 1),
            ("word\n", 1),
            ("A='1''2'", 1),
        ] {
            assert_eq!(value(text, "A"), Err(line), "{text:?}");
        }
    }

    #[test]
    fn a_process_gets_what_the_files_have_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let variable = |place: usize, name: &str, optional| FileVariable {
            name: name.into(),
            mark: mark(place),
            volume: folder.path().into(),
            path: "env".into(),
            key: name.into(),
            optional,
        };
        let all = vec![variable(0, "A", false), variable(1, "B", true)];
        let mut variables = FileVariables { all, marked: None };
        let mut process = Process::default();
        let env = [format!("A={}", mark(0)), format!("B={}", mark(1)), format!("C={}-{}", mark(0), mark(1))];
        process.set_args(Some(vec!["echo".into(), mark(0)])).set_env(Some(env.to_vec()));
        assert!(matches!(variables.fill_in(&mut process), Err(FileVariableError::Read { .. })));
        for (text, env) in
            [("A='one'", vec!["A=one", "C=one-$(B)"]), ("A='two'\nB='b'", vec!["A=two", "B=b", "C=two-b"])]
        {
            std::fs::write(folder.path().join("env"), text).unwrap();
            variables.fill_in(&mut process).unwrap();
            assert_eq!(process.env().clone().unwrap(), env);
        }
        assert_eq!(process.args().clone().unwrap(), ["echo", "two"]);
        std::fs::write(folder.path().join("env"), "B='b'").unwrap();
        assert!(matches!(variables.fill_in(&mut process), Err(FileVariableError::NoKey { .. })));
        // A link of the pod's leads to what the volume has at that path, not to the host's.
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("env"), "A='host'").unwrap();
        std::fs::remove_file(folder.path().join("env")).unwrap();
        std::os::unix::fs::symlink(other.path().join("env"), folder.path().join("env")).unwrap();
        assert!(matches!(variables.fill_in(&mut process), Err(FileVariableError::Read { .. })));
    }
}
