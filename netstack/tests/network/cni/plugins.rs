//! Folders with networks and with plugins that write down what they were asked.

use netstack::cni::{Cni, CniOptions};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Two plugins, of which the second can map ports.
pub(crate) const LIST: &str = r#"{"cniVersion": "1.1.0", "name": "own", "plugins": [
    {"type": "first", "answer": 42},
    {"type": "second", "capabilities": {"portMappings": true, "bandwidth": false}}]}"#;

/// Writes its environment and its input down, then does what a file beside it says, or succeeds.
const PLUGIN: &str = r#"#!/bin/sh
input=$(cat)
number=$(ls "$LOG" | wc -l)
here=no
[ "$(stat -f -c %t "$CNI_NETNS" 2>/dev/null)" = 6e736673 ] && here=yes
{ echo "$NAME"; echo "$here"; env | grep ^CNI_; echo INPUT; echo "$input"; } > "$LOG/$(printf %04d "$number")"
if [ -e "$0.$CNI_COMMAND.hang" ]; then sleep 1000; fi
if [ -e "$0.$CNI_COMMAND.fail" ]; then cat "$0.$CNI_COMMAND.fail"; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then
  echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.2/24"}]}'
fi
"#;

/// Runs `test` where nobody else sees what it mounts.
pub(crate) fn on_own_mounts(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let flags = rustix::mount::MountPropagationFlags::REC | rustix::mount::MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change("/", flags).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// One call of a plugin.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) plugin: String,
    pub(crate) has_namespace: bool,
    pub(crate) input: Value,
    environment: Vec<String>,
}

impl Call {
    pub(crate) fn variable(&self, name: &str) -> String {
        let found = self.environment.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    }
}

/// All of one test.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for name in ["net.d", "bin", "state", "run", "log"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// They are there, and succeed.
    pub(crate) fn plugins(&self, names: &[&str]) {
        for name in names {
            let log = self.path().join("log").display().to_string();
            let text = PLUGIN.replace("$LOG", &log).replace("$NAME", name);
            self.put(&format!("bin/{name}"), &text);
            self.executable(name);
        }
    }

    pub(crate) fn executable(&self, name: &str) {
        let path = self.path().join("bin").join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn fail(&self, plugin: &str, command: &str, said: &str) {
        self.put(&format!("bin/{plugin}.{command}.fail"), said);
    }

    pub(crate) fn hang(&self, plugin: &str, command: &str) {
        self.put(&format!("bin/{plugin}.{command}.hang"), "");
    }

    pub(crate) fn succeed(&self, plugin: &str, command: &str) {
        for end in ["fail", "hang"] {
            let _ = fs::remove_file(self.path().join(format!("bin/{plugin}.{command}.{end}")));
        }
    }

    fn with(&self, plugins: Vec<PathBuf>, timeout: Duration) -> Cni {
        Cni::new(CniOptions {
            networks: self.path().join("net.d"),
            plugins,
            all: false,
            state_dir: self.path().join("state"),
            run_dir: self.path().join("run"),
            timeout,
        })
    }

    pub(crate) fn cni(&self) -> Cni {
        self.with(vec![self.path().join("bin")], Duration::from_secs(60))
    }

    pub(crate) fn impatient(&self) -> Cni {
        self.with(vec![self.path().join("bin")], Duration::from_secs(1))
    }

    pub(crate) fn debian(&self, folder: &str) -> Cni {
        self.with(vec![folder.into()], Duration::from_secs(60))
    }

    /// What plugins were asked, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let mut files: Vec<_> =
            fs::read_dir(self.path().join("log")).unwrap().flatten().map(|file| file.path()).collect();
        files.sort();
        files.iter().map(|path| read(&fs::read_to_string(path).unwrap())).collect()
    }

    pub(crate) fn forget_calls(&self) {
        fs::remove_dir_all(self.path().join("log")).unwrap();
        fs::create_dir(self.path().join("log")).unwrap();
    }

    /// Records and namespaces.
    pub(crate) fn left(&self) -> BTreeSet<String> {
        let mut left = BTreeSet::new();
        for name in ["state/cni", "run/netns"] {
            for file in fs::read_dir(self.path().join(name)).into_iter().flatten().flatten() {
                left.insert(format!("{name}/{}", file.file_name().to_string_lossy()));
            }
        }
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let run = self.path().join("run").display().to_string();
        if left.is_empty() {
            left.extend(mounts.lines().filter(|line| line.contains(&run)).map(str::to_owned));
        }
        left
    }
}

fn read(text: &str) -> Call {
    let (head, input) = text.split_once("INPUT\n").unwrap();
    let mut lines = head.lines();
    Call {
        plugin: lines.next().unwrap().to_owned(),
        has_namespace: lines.next().unwrap() == "yes",
        input: serde_json::from_str(input).unwrap(),
        environment: lines.map(str::to_owned).collect(),
    }
}
