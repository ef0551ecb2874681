//! A node of a test's own: folders, cgroup root and runtime, gone without a trace at the end.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use oci_spec::runtime::Spec;
use runtime::cgroup::Cgroups;
use runtime::image::{Image, ImageConfig};
use runtime::plan::{
    ContainerPlan, ContainerSecurity, FileVariables, HabitPlan, HookPlans, LogPlace, NodeFacts, NodeRules,
    PodInput, PodPlan, PodSecurity, ProbePlans, Resources, RestartPolicy, Rootfs,
};
use runtime::pods::{Runtime, RuntimeOptions};
use runtime::state::{PodState, Stage};
use runtime::token::{Identity, TokenKey};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const PREFIX: &str = "keel-test-";
/// The address of every pod: it has no network but its loopback.
pub(crate) const ADDRESS: &str = "127.0.0.9";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a pod's one container does.
pub(crate) struct Script {
    text: String,
    policy: RestartPolicy,
    pub(crate) resources: Resources,
}

impl Script {
    pub(crate) fn once(text: &str) -> Self {
        Self { text: text.into(), policy: RestartPolicy::Never, resources: Resources::default() }
    }

    pub(crate) fn forever(text: &str) -> Self {
        Self { policy: RestartPolicy::Always, ..Self::once(text) }
    }
}

/// What a pod refers to.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Beside those of its containers.
    pub(crate) images: BTreeMap<String, Image>,
    /// When its tokens are made.
    pub(crate) identity_at: Option<Timestamp>,
}

pub(crate) struct Node {
    folder: PathBuf,
    cgroup_root: String,
    runtime: Option<Runtime>,
}

impl Node {
    async fn new(folder: &Path, number: usize) -> Self {
        let cgroup_root = format!("{}{number}", own_prefix());
        let mut node = Self { folder: folder.to_owned(), cgroup_root, runtime: None };
        node.attach().await;
        node
    }

    /// As an agent that starts.
    pub(crate) async fn attach(&mut self) {
        self.runtime = Some(Runtime::open(self.options()).await.unwrap());
    }

    /// As an agent that is gone.
    pub(crate) fn detach(&mut self) {
        self.runtime = None;
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    fn options(&self) -> RuntimeOptions {
        let at = |name: &str| self.folder.join(name);
        RuntimeOptions {
            state_dir: at("state"),
            run_dir: at("run"),
            log_dir: at("logs"),
            cgroup_root: self.cgroup_root.clone(),
            seccomp_profiles: at("seccomp"),
            supervisor: vec![env!("CARGO_BIN_EXE_keel-supervisor").into()],
        }
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Of a folder that [`Node::folder`] has made.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn plan(&self, uid: &str, script: &Script) -> PodPlan {
        let options = self.options();
        PodPlan {
            uid: uid.into(),
            namespace: "default".into(),
            name: uid.into(),
            hostname: uid.into(),
            host_network: false,
            host_ipc: false,
            host_pid: false,
            restart_policy: script.policy,
            grace_seconds: 1,
            active_deadline_seconds: None,
            cgroup: options.pod_cgroup(uid),
            resources: Resources::default(),
            log_dir: options.pod_logs("default", uid, uid),
            log_limits: Default::default(),
            state_dir: options.pod_folder(uid),
            memory_volumes: Vec::new(),
            shared_mounts: Vec::new(),
            image_volumes: Vec::new(),
            init_containers: Vec::new(),
            security: PodSecurity::default(),
            containers: vec![ContainerPlan {
                name: "main".into(),
                image: "host:".into(),
                image_id: "host:".into(),
                rootfs: Rootfs::Host { hidden: vec![self.folder.clone()] },
                spec: spec(&["sh", "-c", &script.text]),
                resources: script.resources.clone(),
                probes: ProbePlans::default(),
                hooks: HookPlans::default(),
                sidecar: false,
                restart: None,
                restart_rules: Vec::new(),
                stop_signal: None,
                message_path: "/dev/termination-log".into(),
                message_from_log: false,
                stdin: false,
                stdin_once: false,
                log: LogPlace::Own,
                ties: Vec::new(),
                image_volumes: Vec::new(),
                processes_of: None,
                ephemeral: false,
                habits: HabitPlan::default(),
                security: ContainerSecurity::default(),
                file_variables: FileVariables::default(),
            }],
            by_request: false,
        }
    }

    /// The plan of a Pod as the agent would make it. Its one container is called `main`, and
    /// runs `script` with a shell; `container` and `spec` come on top.
    pub(crate) fn built(&self, uid: &str, script: &str, container: &Value, spec: &Value) -> PodPlan {
        self.built_from(uid, Self::host_image(), &pod(uid, script, container, spec))
    }

    pub(crate) fn host_image() -> Image {
        Image {
            id: "host:".into(),
            digest: "host:".into(),
            rootfs: Rootfs::Host { hidden: Vec::new() },
            config: ImageConfig::default(),
        }
    }

    pub(crate) fn built_from(&self, uid: &str, image: Image, pod: &Value) -> PodPlan {
        self.built_with(uid, image, pod, &Objects::default())
    }

    /// The same, where the pod finds ConfigMaps, Secrets and an identity.
    pub(crate) fn built_with(&self, uid: &str, image: Image, pod: &Value, objects: &Objects) -> PodPlan {
        self.with_input(&image, pod, objects, |input| {
            let mut plan = runtime::plan::build(input).unwrap();
            runtime::volume::prepare(input).unwrap();
            let addresses = [ADDRESS.to_owned()];
            for container in plan.init_containers.iter_mut().chain(&mut plan.containers) {
                runtime::plan::address::fill_in(&mut container.spec, &addresses);
            }
            runtime::volume::etc::write(input, &addresses).unwrap();
            assert_eq!(plan.uid, uid);
            plan
        })
    }

    /// Swaps in what has changed; the names of the volumes that did.
    pub(crate) fn updated(&self, pod: &Value, objects: &Objects) -> Vec<String> {
        self.with_input(&Self::host_image(), pod, objects, |input| runtime::volume::update(input).unwrap())
    }

    /// Why the pod's volumes cannot be made.
    pub(crate) fn not_prepared(&self, pod: &Value, objects: &Objects) -> String {
        let prepare = |input: &PodInput<'_>| runtime::volume::prepare(input).unwrap_err().to_string();
        self.with_input(&Self::host_image(), pod, objects, prepare)
    }

    /// Makes the pod's volumes, or not.
    pub(crate) fn try_to_prepare(&self, pod: &Value) {
        let prepare = |input: &PodInput<'_>| drop(runtime::volume::prepare(input));
        self.with_input(&Self::host_image(), pod, &Objects::default(), prepare);
    }

    pub(crate) fn with_input<T>(
        &self,
        image: &Image,
        pod: &Value,
        objects: &Objects,
        then: impl FnOnce(&PodInput<'_>) -> T,
    ) -> T {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let spec = pod.spec.as_ref().unwrap();
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let of_containers = containers.map(|container| (container.name.clone(), image.clone()));
        let images = of_containers.chain(objects.images.clone()).collect();
        let options = self.options();
        let facts = NodeFacts {
            node_name: "node-1".into(),
            host_ips: vec!["192.0.2.1".into()],
            state_dir: options.state_dir.clone(),
            log_dir: options.log_dir.clone(),
            log_limits: Default::default(),
            cgroup_root: options.cgroup_root.clone(),
            hidden: vec![self.folder.clone()],
            cpu_millis: 2000,
            memory_bytes: 4 << 30,
            storage_bytes: 10 << 30,
            default_pids: Some(1000),
            rules: NodeRules::default(),
            dns: None,
        };
        let key = TokenKey::open(&self.folder.join("tokens.key")).unwrap();
        let identity = objects.identity_at.map(|now| Identity { key: &key, account_uid: "a-1", now });
        then(&PodInput {
            pod: &pod,
            config_maps: &objects.config_maps,
            secrets: &objects.secrets,
            images: &images,
            node: &facts,
            identity,
        })
    }

    /// Runs the pod to its end and returns what its container said.
    pub(crate) async fn output_of(&self, plan: &PodPlan) -> String {
        self.launch_plan(plan).await;
        let state = self.wait(&plan.uid, |state| state.stage == Stage::Finished).await;
        let log = self.log(&plan.uid, 0);
        assert!(!log.is_empty(), "{state:#?}");
        log
    }

    pub(crate) async fn launch(&self, uid: &str, script: &Script) {
        self.launch_plan(&self.plan(uid, script)).await;
    }

    pub(crate) async fn launch_plan(&self, plan: &PodPlan) {
        let created = self.runtime().create(plan).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert!(created.netns.exists());
        self.runtime().start(&plan.uid, vec![ADDRESS.into()]).await.unwrap();
    }

    /// Waits until the pod's state is as described.
    pub(crate) async fn wait(&self, uid: &str, enough: impl Fn(&PodState) -> bool) -> PodState {
        let mut changes = self.runtime().changes();
        let search = async {
            loop {
                changes.borrow_and_update();
                if let Some(state) = self.runtime().observe().remove(uid).filter(|state| enough(state)) {
                    return state;
                }
                changes.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(state) => PodState::clone(&state),
            Err(_) => panic!("{uid} stays {:#?}", self.runtime().observe().get(uid)),
        }
    }

    pub(crate) fn log(&self, uid: &str, run: u32) -> String {
        let folder = self.options().pod_logs("default", uid, uid);
        fs::read_to_string(folder.join(format!("main/{run}.log"))).unwrap_or_default()
    }

    pub(crate) fn socket(&self, uid: &str) -> PathBuf {
        runtime::supervisor::socket_path(&self.options().run_dir, uid)
    }

    /// The folder of the container's logs.
    pub(crate) fn logs(&self, uid: &str) -> PathBuf {
        self.options().pod_logs("default", uid, uid).join("main")
    }

    pub(crate) fn saved(&self, uid: &str) -> Option<PodState> {
        let path = self.options().pod_folder(uid).join("status.json");
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

/// A Pod that is never run again, unless `spec` says otherwise.
pub(crate) fn pod(uid: &str, script: &str, container: &Value, spec: &Value) -> Value {
    let mut main = json!({"name": "main", "image": "any", "command": ["/bin/sh", "-c", script]});
    let mut all = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": []});
    for (onto, from) in [(&mut main, container), (&mut all, spec)] {
        let fields = from.as_object().cloned().unwrap_or_default();
        onto.as_object_mut().unwrap().extend(fields);
    }
    all["containers"].as_array_mut().unwrap().insert(0, main);
    json!({"metadata": {"uid": uid, "name": uid, "namespace": "default"}, "spec": all})
}

/// Polls for what nothing announces.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A zombie is not alive.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

pub(crate) fn bind(spec: &mut Spec, from: &Path, to: &Path) {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let mount = json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", "rw"]});
    mounts.push(serde_json::from_value(mount).unwrap());
    spec.set_mounts(Some(mounts));
}

fn spec(args: &[&str]) -> Spec {
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]);
    serde_json::from_value(json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/", "env": ["PATH=/usr/bin:/bin"],
            "capabilities":
                {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        ],
        "linux": {"maskedPaths": ["/proc/kcore", "/sys/firmware"], "readonlyPaths": ["/proc/sys"]},
    }))
    .unwrap()
}

/// What of this program's tests is on the machine, which each must leave as it was; others may run
/// beside them.
fn traces() -> BTreeSet<String> {
    let own = own_prefix();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut traces: BTreeSet<String> =
        mounts.lines().filter(|line| line.contains(&own)).map(|line| format!("mount {line}")).collect();
    for name in Cgroups::detect().unwrap().children("") {
        if name.starts_with(&own) {
            traces.insert(format!("cgroup {name}"));
        }
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if words.contains("keel-supervisor") && words.contains(&own) {
            traces.insert(format!("process {words}"));
        }
    }
    traces
}

/// How everything begins that this program's tests make.
fn own_prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// Removes the cgroups of test programs that were killed.
fn sweep() {
    let cgroups = Cgroups::detect().unwrap();
    for name in cgroups.children("") {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid| !is_alive(pid)) {
            cgroups.kill(&name);
            cgroups.remove(&name).unwrap();
        }
    }
}

type Test = fn(Node) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Runs the tests, in the words of the standard harness.
pub(crate) fn run(tests: &[(&str, Test)]) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_chosen =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let chosen = tests.iter().filter(|(name, _)| is_chosen(name));
    if words.iter().any(|word| word == "--list") {
        let ignored_only = words.iter().any(|word| word == "--ignored");
        chosen.filter(|_| !ignored_only).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        chosen.for_each(|(name, _)| println!("test {name} ... ignored, needs root"));
        return ExitCode::SUCCESS;
    }
    sweep();
    let mut failed = 0;
    for (number, (name, test)) in chosen.enumerate() {
        let passed = std::panic::catch_unwind(|| run_one(number, *test)).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    println!("\ntest result: {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_one(number: usize, test: Test) {
    let before = traces();
    let executor =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::Builder::new().prefix(&own_prefix()).tempdir().unwrap();
    let root = executor.block_on(async {
        let node = Node::new(folder.path(), number).await;
        let (options, root) = (node.options(), node.cgroup_root.clone());
        let local = tokio::task::LocalSet::new();
        let outcome = local.run_until(async { tokio::task::spawn_local(test(node)).await }).await;
        // Also after a test that failed.
        let runtime = Runtime::open(options).await.unwrap();
        for uid in runtime.observe().into_keys() {
            runtime.remove(&uid).await.unwrap();
        }
        outcome.unwrap();
        root
    });
    drop(folder);
    Cgroups::detect().unwrap().remove(&root).unwrap();
    assert_eq!(traces(), before, "something is left");
}
