//! Which of the files in the folder of networks is the pods'.

use super::list::{ListError, NetworkList, PluginConf};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What kubelets and container runtimes take for networks.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// Why it cannot be told which network is the pods'.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// The folder or a file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file that comes first is wrong. None is taken instead: it would be another network.
    #[error("{} is no CNI network", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ListError,
    },
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// The file and what it says; nothing if there is none.
    pub network: Option<(PathBuf, NetworkList)>,
    /// Files before it that are other programs', and whose.
    pub passed_over: Vec<(PathBuf, &'static str)>,
}

/// The first file of the folder, by name, that is a network; those of other programs only if `all`.
///
/// # Errors
/// [`ChoiceError`]. That there is no such folder is none.
pub(super) fn choose(folder: &Path, all: bool) -> Result<Choice, ChoiceError> {
    let mut choice = Choice::default();
    for path in files(folder, &EXTENSIONS)? {
        let wrong = |source| ChoiceError::Wrong { path: path.clone(), source };
        let text = fs::read(&path).map_err(|source| ChoiceError::Read { path: path.clone(), source })?;
        let mut list = NetworkList::parse(&text).map_err(wrong)?;
        if let Some(owner) = list.owner().filter(|_| !all) {
            choice.passed_over.push((path, owner));
            continue;
        }
        add_folder(folder, &mut list)?;
        if list.plugins.is_empty() {
            let (field, message) = ("plugins".to_owned(), "there is none".to_owned());
            return Err(wrong(ListError::Field { field, message }));
        }
        choice.network = Some((path, list));
        break;
    }
    Ok(choice)
}

/// Plugins beside those of the list, each in a file of its own.
fn add_folder(folder: &Path, list: &mut NetworkList) -> Result<(), ChoiceError> {
    if !list.takes_folder {
        return Ok(());
    }
    for path in files(&folder.join(&list.name), &["conf"])? {
        let text = fs::read(&path).map_err(|source| ChoiceError::Read { path: path.clone(), source })?;
        let plugin = serde_json::from_slice(&text).map_err(ListError::Json);
        let plugin = plugin.and_then(|value| PluginConf::of(&value, "the file"));
        list.plugins.push(plugin.map_err(|source| ChoiceError::Wrong { path, source })?);
    }
    Ok(())
}

fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, ChoiceError> {
    let failed = |source| ChoiceError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if extensions.contains(&extension) && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_name_is_taken_and_other_programs_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(choose(&folder.path().join("none"), false).unwrap(), Choice::default());
        put("00-readme.txt", "no network");
        put("87-podman.conflist", r#"{"name": "podman", "plugins": [{"type": "bridge"}]}"#);
        let choice = choose(folder.path(), false).unwrap();
        assert_eq!((choice.network.is_none(), choice.passed_over[0].1), (true, "podman"));
        assert_eq!(choose(folder.path(), true).unwrap().network.unwrap().1.name, "podman");
        put("99-own.conf", r#"{"name": "own", "type": "ptp"}"#);
        assert_eq!(choose(folder.path(), false).unwrap().network.unwrap().1.name, "own");
        put("90-more.json", r#"{"name": "more", "plugins": [{"type": "bridge"}]}"#);
        fs::create_dir(folder.path().join("more")).unwrap();
        put("more/10-x.conf", r#"{"type": "tuning"}"#);
        let (path, list) = choose(folder.path(), false).unwrap().network.unwrap();
        let kinds: Vec<_> = list.plugins.iter().map(|plugin| plugin.kind.as_str()).collect();
        assert_eq!(
            (path.file_name().unwrap().to_str().unwrap(), kinds),
            ("90-more.json", vec!["bridge", "tuning"])
        );
        put("10-broken.conf", "{\n \"name\": 7}");
        let error = choose(folder.path(), false).unwrap_err();
        assert!(error.to_string().ends_with("/10-broken.conf is no CNI network"), "{error}");
    }
}
