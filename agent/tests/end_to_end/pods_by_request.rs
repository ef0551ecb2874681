//! The Container Runtime Interface, as a kubelet speaks it, and streams into pods.

use crate::machine::{Machine, PATIENCE, until};
use crate::refused::{OF_THE_KERNEL, REFUSED};
use crate::yaml::{pod, spec};
use futures::{SinkExt as _, StreamExt as _};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// A client of the machine's CRI socket.
struct Kubelet {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Kubelet {
    async fn connect(socket: &Path) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self { runtime: RuntimeServiceClient::new(channel.clone()), images: ImageServiceClient::new(channel) }
    }

    async fn run_sandbox(&mut self, config: &v1::PodSandboxConfig) -> String {
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        self.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id
    }

    async fn create(&mut self, sandbox: &str, config: v1::ContainerConfig) -> String {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: None,
        };
        self.runtime.create_container(request).await.unwrap().into_inner().container_id
    }

    async fn start(&mut self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.start_container(request).await.map(|_| ())
    }

    async fn status(&mut self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.runtime.container_status(request).await.unwrap().into_inner().status.unwrap()
    }

    async fn exec(
        &mut self,
        id: &str,
        script: &str,
        timeout: i64,
    ) -> Result<v1::ExecSyncResponse, tonic::Status> {
        let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
        let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout };
        Ok(self.runtime.exec_sync(request).await?.into_inner())
    }
}

fn sandbox(machine: &Machine) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "asked".into(),
            uid: "u-1".into(),
            namespace: "elsewhere".into(),
            attempt: 2,
        }),
        hostname: "asked-for".into(),
        log_directory: machine.folder.join("asked").display().to_string(),
        dns_config: Some(v1::DnsConfig { servers: vec!["192.0.2.53".into()], ..Default::default() }),
        labels: HashMap::from([("tier".to_owned(), "front".to_owned())]),
        ..Default::default()
    }
}

fn container(name: &str, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 1 }),
        image: Some(v1::ImageSpec { image: "host:".into(), ..Default::default() }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        envs: vec![v1::KeyValue { key: "COLOUR".into(), value: b"$(green)".to_vec() }],
        log_path: format!("{name}.log"),
        ..Default::default()
    }
}

fn running(status: &v1::ContainerStatus) -> bool {
    status.state() == v1::ContainerState::ContainerRunning
}

fn prepare(machine: &mut Machine) -> tokio::runtime::Runtime {
    let socket = machine.folder.join("cri.sock");
    machine.configuration["cri"] = serde_json::json!({"socket": socket});
    machine.start();
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A sandbox and its container run; their ids, and the sandbox's address.
async fn begin(socket: &Path, config: &v1::PodSandboxConfig) -> (String, String, String) {
    let mut kubelet = Kubelet::connect(socket).await;
    let mut events =
        kubelet.runtime.get_container_events(v1::GetEventsRequest {}).await.unwrap().into_inner();
    let id = kubelet.run_sandbox(config).await;
    let text = "echo began $COLOUR; trap 'echo over; exit 5' TERM; while :; do sleep 0.1; done";
    let main = kubelet.create(&id, container("main", text)).await;
    assert_eq!(kubelet.status(&main).await.state(), v1::ContainerState::ContainerCreated);
    kubelet.start(&main).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let event = events.next().await.unwrap().unwrap();
        kinds.push((event.container_id == main, event.container_event_type().as_str_name()));
    }
    let (created, started) = ("CONTAINER_CREATED_EVENT", "CONTAINER_STARTED_EVENT");
    assert_eq!(kinds, [(false, created), (false, started), (true, created), (true, started)]);
    let said = kubelet.exec(&main, "hostname; cat /etc/resolv.conf; echo no >&2; exit 3", 0).await.unwrap();
    assert_eq!((said.exit_code, said.stderr.as_slice()), (3, &b"no\n"[..]));
    assert_eq!(said.stdout, b"asked-for\nnameserver 192.0.2.53\n");
    let late = kubelet.exec(&main, "exec sleep 4321", 1).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    let left = kubelet.exec(&main, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", 0).await.unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains("sleep 4321"), "{left:?}");
    let missing =
        kubelet.create(&id, v1::ContainerConfig { command: vec!["/no/such".into()], ..container("bad", "") });
    let missing = missing.await;
    let error = kubelet.start(&missing).await.unwrap_err();
    assert!(error.message().contains("/no/such"), "{error}");
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id[..9].to_owned(), verbose: false };
    let status = kubelet.runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.metadata, config.metadata);
    (id, main, status.network.unwrap().ip)
}

/// The next agent finds them, and ends them.
async fn end(socket: &Path, id: &str, before: &v1::ContainerStatus) {
    let main = &before.id;
    let mut kubelet = Kubelet::connect(socket).await;
    let after = kubelet.status(main).await;
    assert!(running(&after));
    assert_eq!((after.started_at, &after.metadata), (before.started_at, &before.metadata));
    let filter = v1::PodSandboxFilter {
        label_selector: HashMap::from([("tier".to_owned(), "front".to_owned())]),
        ..Default::default()
    };
    let listed = kubelet.runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) });
    let listed = listed.await.unwrap().into_inner().items;
    assert_eq!(listed.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), [id]);
    let stats = v1::ContainerStatsRequest { container_id: main.clone() };
    let stats = kubelet.runtime.container_stats(stats).await.unwrap().into_inner().stats.unwrap();
    assert!(stats.memory.unwrap().usage_bytes.unwrap().value > 0);
    let stop = v1::StopContainerRequest { container_id: main.clone(), timeout: 30 };
    kubelet.runtime.stop_container(stop).await.unwrap();
    let ended = kubelet.status(main).await;
    assert_eq!((ended.state(), ended.exit_code), (v1::ContainerState::ContainerExited, 5));
    kubelet
        .runtime
        .stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() })
        .await
        .unwrap();
    let listed = kubelet.runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().items[0].state(), v1::PodSandboxState::SandboxNotready);
    for _ in 0..2 {
        let gone = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        kubelet.runtime.remove_pod_sandbox(gone).await.unwrap();
    }
    let listed = kubelet.runtime.list_containers(v1::ListContainersRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().containers, []);
}

pub(crate) fn a_sandbox_lives_by_the_words_of_its_client(machine: &mut Machine) {
    let runtime = prepare(machine);
    let socket = machine.folder.join("cri.sock");
    let log = machine.folder.join("asked/main.log");
    // A pod of the store beside it.
    machine.repository.push_file("own.yaml", &pod("own", &spec("exec sleep 1000")));
    machine.until_running("own");
    let own = machine.pid("own");
    let config = sandbox(machine);
    let (id, main, address) = runtime.block_on(begin(&socket, &config));
    assert!(address.starts_with("10.77.0."), "{address}");
    until("the log", || fs::read_to_string(&log).ok()?.contains(" F began $(green)\n").then_some(()));

    // Whoever moves the log away gets a new one.
    let old = log.with_extension("old");
    fs::rename(&log, &old).unwrap();
    runtime.block_on(async {
        let request = v1::ReopenContainerLogRequest { container_id: main.clone() };
        Kubelet::connect(&socket).await.runtime.reopen_container_log(request).await.unwrap();
    });
    assert_eq!(fs::read_to_string(&log).unwrap(), "");

    // Neither an agent that is killed nor the pods of the store have to do with it.
    let before = runtime.block_on(async { Kubelet::connect(&socket).await.status(&main).await });
    machine.kill_agent();
    machine.start();
    runtime.block_on(end(&socket, &id, &before));
    assert_eq!(machine.pid("own"), own);
    assert!(fs::read_to_string(&log).unwrap().ends_with(" stdout F over\n"));
    assert!(fs::read_to_string(&old).unwrap().ends_with(" F began $(green)\n"));
}

fn namespaces(pid: v1::NamespaceMode, target: &str) -> v1::NamespaceOption {
    v1::NamespaceOption { pid: pid.into(), target_id: target.to_owned(), ..Default::default() }
}

/// Of which container, under the words of the sandbox's own, `pid` is.
fn with_processes(config: v1::ContainerConfig, pid: v1::NamespaceMode, target: &str) -> v1::ContainerConfig {
    let security_context = Some(v1::LinuxContainerSecurityContext {
        namespace_options: Some(namespaces(pid, target)),
        ..Default::default()
    });
    v1::ContainerConfig {
        linux: Some(v1::LinuxContainerConfig { security_context, ..Default::default() }),
        ..config
    }
}

impl Kubelet {
    /// A sandbox with two containers, the second beside the first's processes if that is named.
    async fn two(&mut self, config: &v1::PodSandboxConfig, pid: v1::NamespaceMode) -> [String; 3] {
        let mut config = config.clone();
        config.linux = Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pid, "")),
                ..Default::default()
            }),
            ..Default::default()
        });
        let id = self.run_sandbox(&config).await;
        let first = with_processes(container("first", "exec sleep 4242"), pid, "");
        let first = self.create(&id, first).await;
        self.start(&first).await.unwrap();
        let (mode, target) = match pid {
            v1::NamespaceMode::Container => (v1::NamespaceMode::Target, first.as_str()),
            v1::NamespaceMode::Pod | v1::NamespaceMode::Node | v1::NamespaceMode::Target => (pid, ""),
        };
        let second = with_processes(container("second", "exec sleep 4343"), mode, target);
        let second = self.create(&id, second).await;
        self.start(&second).await.unwrap();
        [id, first, second]
    }
}

pub(crate) fn containers_share_processes_as_they_are_asked_to(machine: &mut Machine) {
    let runtime = prepare(machine);
    let (socket, config) = (machine.folder.join("cri.sock"), sandbox(machine));
    runtime.block_on(async {
        let mut kubelet = Kubelet::connect(&socket).await;
        let processes = "cat /proc/1/comm; cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
        for (mode, first_process) in
            [(v1::NamespaceMode::Pod, "pause\n"), (v1::NamespaceMode::Container, "sleep\n")]
        {
            let [id, first, second] = kubelet.two(&config, mode).await;
            let said = kubelet.exec(&second, processes, 0).await.unwrap();
            let text = String::from_utf8(said.stdout).unwrap();
            assert!(text.starts_with(first_process), "{mode:?}: {text}");
            assert!(text.contains("sleep 4242") && text.contains("sleep 4343"), "{mode:?}: {text}");
            // Its end takes nobody along but its own.
            let stop = v1::StopContainerRequest { container_id: second.clone(), timeout: 0 };
            kubelet.runtime.stop_container(stop).await.unwrap();
            assert!(running(&kubelet.status(&first).await));
            let gone = v1::RemovePodSandboxRequest { pod_sandbox_id: id };
            kubelet.runtime.remove_pod_sandbox(gone).await.unwrap();
        }
        // Told to end before it could hear that, it ends as soon as it hears.
        let id = kubelet.run_sandbox(&config).await;
        let slow = "sleep 0.3; trap 'exit 5' TERM; while :; do sleep 0.1; done";
        let slow = kubelet.create(&id, container("slow", slow)).await;
        kubelet.start(&slow).await.unwrap();
        let stop = v1::StopContainerRequest { container_id: slow.clone(), timeout: 60 };
        kubelet.runtime.stop_container(stop).await.unwrap();
        assert_eq!(kubelet.status(&slow).await.exit_code, 5);
        kubelet.runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id }).await.unwrap();
    });
}

/// A program that tries to get out, compiled into a folder of the machine's.
fn tries(machine: &Machine) -> PathBuf {
    let folder = machine.folder.join("tools");
    fs::create_dir(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/pods/escapes/tries.c");
    let mut command = Command::new("cc");
    let built = command.args(["-static", "-O1", "-w", "-o"]).arg(folder.join("tries")).arg(source).status();
    assert!(built.unwrap().success());
    folder
}

pub(crate) fn a_container_of_a_client_is_kept_apart_too(machine: &mut Machine) {
    let runtime = prepare(machine);
    let folder = tries(machine);
    let config = sandbox(machine);
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
    // What a kubelet asks for without a word in the Pod but `seccompProfile: RuntimeDefault`.
    let security = v1::LinuxContainerSecurityContext {
        seccomp: Some(v1::SecurityProfile::default()),
        masked_paths: words(&["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]),
        readonly_paths: words(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        ..Default::default()
    };
    // It sends every size of pages that it knows, also where there are none.
    let pages = |size: &str| v1::HugepageLimit { page_size: size.into(), limit: 0 };
    let linux = v1::LinuxContainerConfig {
        security_context: Some(security),
        resources: Some(v1::LinuxContainerResources {
            hugepage_limits: vec![pages("2MB"), pages("1GB"), pages("64KB")],
            ..Default::default()
        }),
    };
    let mount = |host: PathBuf, at: &str| v1::Mount {
        host_path: host.display().to_string(),
        container_path: at.into(),
        ..Default::default()
    };
    let data = machine.folder.join("data");
    fs::create_dir(&data).unwrap();
    let tries = v1::ContainerConfig {
        linux: Some(linux),
        mounts: vec![mount(folder, "/tools"), mount(data, "/data")],
        ..container("tries", &format!("exec /tools/tries {}", std::process::id()))
    };
    let socket = machine.folder.join("cri.sock");
    let id = runtime.block_on(async {
        let mut kubelet = Kubelet::connect(&socket).await;
        let id = kubelet.run_sandbox(&config).await;
        let tries = kubelet.create(&id, tries).await;
        kubelet.start(&tries).await.unwrap();
        id
    });
    let log = machine.folder.join("asked/tries.log");
    let log = until("its word", || {
        Some(fs::read_to_string(&log).ok()?).filter(|log| log.contains("F tries are over"))
    });
    let said = log.lines().filter_map(|line| line.split_once(" F try ")?.1.split_once(' '));
    let mut said: BTreeMap<&str, &str> = said.collect();
    for &name in OF_THE_KERNEL {
        if said[name] == "ENOENT" {
            said.insert(name, "EROFS");
        }
    }
    assert_eq!(said, REFUSED.iter().copied().collect());
    runtime.block_on(async {
        let mut kubelet = Kubelet::connect(&socket).await;
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id };
        kubelet.runtime.remove_pod_sandbox(request).await.unwrap();
    });
}

/// What a command said on each channel, by the number, until the server closed.
async fn talk(io: impl AsyncRead + AsyncWrite + Unpin, url: &str, input: &[&[u8]]) -> HashMap<u8, Vec<u8>> {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "v5.channel.k8s.io".parse().unwrap());
    let (mut socket, answer) = tokio_tungstenite::client_async(request, io).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    for message in input {
        socket.send(Message::Binary(message.to_vec().into())).await.unwrap();
    }
    let mut said: HashMap<u8, Vec<u8>> = HashMap::new();
    while let Some(Ok(message)) = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
        match message {
            Message::Binary(bytes) => said.entry(bytes[0]).or_default().extend_from_slice(&bytes[1..]),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                break;
            }
            other @ (Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                panic!("{other:?}")
            }
        }
    }
    said
}

pub(crate) fn commands_and_terminals_go_over_websockets(machine: &mut Machine) {
    let runtime = prepare(machine);
    let script = "while read word; do echo \"<$word>\"; done; exit 6";
    let mut open = spec(script);
    open["containers"][0]["stdin"] = true.into();
    open["containers"][0]["stdinOnce"] = true.into();
    machine.repository.push_file("open.yaml", &pod("open", &open));
    machine.until_running("open");
    let path = "ws://keel/api/v1/namespaces/default/pods/open";
    let api = machine.api.socket.clone();
    runtime.block_on(async {
        let url = format!("{path}/exec?command=sh&command=-c&command=cat%3B+echo+err+%3E%262%3B+exit+3&stdin=true&stdout=true&stderr=true");
        let said = talk(UnixStream::connect(&api).await.unwrap(), &url, &[b"\0in", b"\0put", b"\xff\0"]).await;
        assert_eq!((said[&1].as_slice(), said[&2].as_slice()), (&b"input"[..], &b"err\n"[..]));
        let status: serde_json::Value = serde_json::from_slice(&said[&3]).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        let url = format!("{path}/exec?command=sh&command=-c&command=sleep+0.2%3B+stty+size&stdin=true&stdout=true&tty=true");
        let size: &[u8] = b"\x04{\"Width\":91,\"Height\":31}";
        let said = talk(UnixStream::connect(&api).await.unwrap(), &url, &[size]).await;
        assert_eq!(said[&1], b"31 91\r\n");
        let url = format!("{path}/attach?stdin=true&stdout=true&stderr=true");
        let said = talk(UnixStream::connect(&api).await.unwrap(), &url, &[b"\0word\n", b"\xff\0"]).await;
        assert_eq!(said[&1], b"<word>\n");
    });
    // The same over an address that the CRI gives, once.
    let socket = machine.folder.join("cri.sock");
    let config = sandbox(machine);
    runtime.block_on(async {
        let mut kubelet = Kubelet::connect(&socket).await;
        let id = kubelet.run_sandbox(&config).await;
        let main = kubelet.create(&id, container("main", "exec sleep 1000")).await;
        kubelet.start(&main).await.unwrap();
        let cmd = ["echo", "hello"].map(str::to_owned).to_vec();
        let exec =
            v1::ExecRequest { container_id: main, cmd, stdout: true, stderr: true, ..Default::default() };
        let url = kubelet.runtime.exec(exec).await.unwrap().into_inner().url;
        let place = url.strip_prefix("http://").unwrap();
        let host = place.split('/').next().unwrap();
        let url = format!("ws://{place}");
        let said = talk(TcpStream::connect(host).await.unwrap(), &url, &[]).await;
        assert_eq!(said[&1], b"hello\n");
        let again =
            tokio_tungstenite::client_async(url.as_str(), TcpStream::connect(host).await.unwrap()).await;
        assert!(again.is_err(), "an address is good once");
        // The request is cut off, what it asked for is done.
        let mut cut = Request::new(v1::StopPodSandboxRequest { pod_sandbox_id: id.clone() });
        cut.set_timeout(Duration::from_nanos(1));
        let _cut = kubelet.runtime.stop_pod_sandbox(cut).await;
        kubelet.runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id }).await.unwrap();
        let version = kubelet.runtime.version(v1::VersionRequest::default()).await.unwrap().into_inner();
        assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("keel", "v1"));
        let images = kubelet.images.list_images(v1::ListImagesRequest::default()).await.unwrap();
        assert_eq!(images.into_inner().images, []);
    });
}
