//! A machine for one test: a repository, an agent that follows it, and folders,
//! cgroup and bridge of its own.

use crate::api::Api;
use crate::repository::Repository;
use crate::traces;
use crate::yaml::config_map;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixDatagram;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub(crate) const PREFIX: &str = "keel-e2e-";
/// Only a broken build meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The program under test.
pub(crate) const KEEL: &str = env!("CARGO_BIN_EXE_keel");
const BRIDGE: &str = "keeltest0";

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
pub(crate) const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const EVENTS: &str = "/api/v1/namespaces/default/events";
pub(crate) const REVISIONS: &str = "/apis/evenkeel.dev/v1alpha1/revisions";

pub(crate) struct Machine {
    name: String,
    pub(crate) folder: PathBuf,
    pub(crate) repository: Repository,
    pub(crate) api: Api,
    agent: Option<Child>,
    /// One source, `site`, without any consent; what is changed in it holds from the next start.
    pub(crate) configuration: Value,
    /// Of the agent, from its next start.
    pub(crate) environment: Vec<(String, String)>,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Machine {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let repository = Repository::new(&folder);
        let configuration = json!({
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "AgentConfiguration",
            "nodeName": "one",
            "stateDir": folder.join("state"),
            "runDir": folder.join("run"),
            "logDir": folder.join("logs"),
            "cgroupRoot": name,
            "metricsAddress": "127.0.0.1:10250",
            // Whatever networks of plugins the machine has that the tests run on.
            "network": {"bridge": BRIDGE, "podCIDR": "10.77.0.0/24", "cni": {"mode": "never"}},
            // However full the machine is that the tests run on.
            "node": {"evictionHard": {}, "volumeStatsAggPeriod": "200ms"},
            "sources": [{
                "name": "site",
                "url": format!("file://{}", repository.bare.display()),
                "branch": "main",
                // What is to be seen in time is told by the push, or by `keel sync`.
                "interval": "24h",
            }],
        });
        let api = Api { socket: folder.join("run/keel.sock") };
        let environment = Vec::new();
        Self { name: name.to_owned(), folder, repository, api, agent: None, configuration, environment }
    }

    /// The agent runs, and has said that it is ready.
    pub(crate) fn start(&mut self) {
        assert!(self.agent.is_none(), "an agent runs already");
        let path = self.folder.join("keel.yaml");
        fs::write(&path, self.configuration.to_string()).unwrap();
        let told = self.folder.join("notify");
        let _stale = fs::remove_file(&told);
        let ready = UnixDatagram::bind(&told).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("agent.log")).unwrap();
        let mut command = Command::new(KEEL);
        command.arg("agent").arg("--config").arg(path).env("NOTIFY_SOCKET", &told);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.agent = Some(command.spawn().unwrap());
        let mut message = [0; 1024];
        // It may tell how it is before.
        while {
            let length = ready.recv(&mut message).expect("the agent's word that it is ready");
            !message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
        } {}
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn agent_pid(&self) -> i32 {
        self.agent.as_ref().unwrap().id().cast_signed()
    }

    /// SIGKILL.
    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// SIGTERM; how it ended.
    pub(crate) fn stop_agent(&mut self) -> ExitStatus {
        traces::kill(self.agent_pid(), Signal::TERM);
        let mut agent = self.agent.take().unwrap();
        until("the agent's end", || agent.try_wait().unwrap())
    }

    pub(crate) fn restart_agent(&mut self) {
        assert!(self.stop_agent().success());
        self.start();
    }

    /// What the program says to `words`, whatever its exit code.
    pub(crate) fn keel(&self, words: &[&str]) -> Said {
        Said::of(self.command(words).output().unwrap())
    }

    /// What it says if it is given `input`.
    pub(crate) fn keel_with(&self, words: &[&str], input: &str) -> Said {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // It may end before it has read all.
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
            Said::of(child.wait_with_output().unwrap())
        })
    }

    /// What the program writes to stdout; it must exit 0.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let said = self.keel(words);
        assert_eq!(said.code, 0, "keel {words:?}: {said:?}");
        said.stdout
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(KEEL);
        command.args(words).env("KEEL_SOCKET", &self.api.socket).stdin(Stdio::null());
        command
    }

    /// The program's lines as it writes them.
    pub(crate) fn follow(&self, words: &[&str]) -> Follow {
        let mut child = self.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Follow { child, lines, words: words.join(" ") }
    }

    /// The source's commit is `commit`, without fault.
    pub(crate) fn until_synced(&self, commit: &str) {
        self.api.until(REVISIONS, "the commit to be taken", |revisions| {
            let revision = revisions.first()?;
            (revision["spec"]["commit"] == commit && revision["status"]["result"] == "Synced").then_some(())
        });
    }

    /// The Deployment runs as its newest manifest says, and nothing older is left of it.
    pub(crate) fn until_rolled_out(&self, name: &str, replicas: usize) {
        self.api.until(DEPLOYMENTS, &format!("{name} to be rolled out"), |deployments| {
            let deployment = deployments.iter().find(|deployment| deployment["metadata"]["name"] == name)?;
            let status = &deployment["status"];
            let all = ["replicas", "updatedReplicas", "readyReplicas"].iter().all(|n| status[*n] == replicas);
            (all && status["observedGeneration"] == deployment["metadata"]["generation"]).then_some(())
        });
        self.api.until(PODS, &format!("{replicas} pods of {name}"), |pods| {
            (pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == name).count() == replicas)
                .then_some(())
        });
    }

    /// The pod of this name prefix, once it runs and nothing else has the prefix.
    pub(crate) fn until_running(&self, prefix: &str) -> Value {
        self.api.until(PODS, &format!("{prefix} to run"), |pods| {
            let mut pods = named(pods, prefix);
            let pod = pods.next().filter(|_| pods.next().is_none())?;
            let ready = pod["status"]["containerStatuses"].as_array()?;
            ready.iter().all(|container| container["ready"] == true).then(|| pod.clone())
        })
    }

    pub(crate) fn until_gone(&self, path: &str) {
        self.api.until(path, "an empty list", |items| items.is_empty().then_some(()));
    }

    /// The first process of the pod's one container.
    pub(crate) fn pid(&self, pod: &str) -> i32 {
        let inspection = self.api.get(&format!("/evenkeel/v1alpha1/pods/default/{pod}/inspect"));
        let pid = inspection["containers"][0]["pid"].as_i64();
        i32::try_from(pid.unwrap_or_else(|| panic!("{pod} has no process: {inspection}"))).unwrap()
    }

    /// First processes by pod, of those whose names begin so.
    pub(crate) fn pids(&self, prefix: &str) -> BTreeMap<String, i32> {
        let pods = self.api.list(PODS);
        named(&pods, prefix).map(name_of).map(|name| (name.clone(), self.pid(&name))).collect()
    }

    /// Whatever belongs to pods of this machine.
    pub(crate) fn traces(&self) -> BTreeSet<String> {
        traces::of_pods(&self.name, &self.folder, BRIDGE)
    }

    /// What belongs to pods of this machine is as `look` likes it.
    pub(crate) fn until_traces(&self, look: impl Fn(&BTreeSet<String>) -> bool) {
        let looked = catch_unwind(AssertUnwindSafe(|| {
            until("the traces", || look(&self.traces()).then_some(()));
        }));
        assert!(looked.is_ok(), "there is: {:#?}", self.traces());
    }

    pub(crate) fn agent_log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// After the test: a repository without pods deletes them, and no trace of one is left.
    pub(crate) fn leave_nothing(&mut self) {
        self.repository.empty();
        let commit = self.repository.push_file("apps/nothing.yaml", &config_map("nothing", "a", "b"));
        self.until_synced(&commit);
        self.until_gone("/api/v1/pods");
        self.until_traces(BTreeSet::is_empty);
        assert!(self.stop_agent().success());
        assert!(!self.api.socket.exists(), "an agent that ended well leaves no socket");
    }

    /// Nothing is left, also after a test that failed.
    pub(crate) fn clear(mut self) {
        if self.agent.is_some() {
            self.kill_agent();
        }
        traces::clear(&self.name, &self.folder);
    }
}

/// A program whose lines are read while it runs; ends when dropped.
pub(crate) struct Follow {
    child: Child,
    lines: mpsc::Receiver<String>,
    words: String,
}

impl Follow {
    /// The next line that `look` likes; those before it are passed over.
    pub(crate) fn until(&self, what: &str, mut look: impl FnMut(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("keel {}: waited in vain for {what}", self.words));
            if look(&line) {
                return line;
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

pub(crate) fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// The objects whose names begin so.
pub(crate) fn named<'a>(objects: &'a [Value], prefix: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| name_of(object).starts_with(prefix))
}

/// Polls for what nothing announces.
#[allow(clippy::disallowed_methods, reason = "nothing announces it")]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
