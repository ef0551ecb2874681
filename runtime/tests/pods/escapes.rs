//! Ways out of a container that were tried before, each refused with an errno.
//!
//! The tries are C programs, compiled here: a shell would hide which call failed, and how.

use crate::isolation::image;
use crate::node::{Node, pod};
use crate::refused::{OF_THE_KERNEL, REFUSED};
use runtime::pods::ExecSpec;
use runtime::state::Stage;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Compiles a C program into a folder of the node's, to be mounted into containers.
pub(crate) fn compile(node: &Node, name: &str, source: &str) -> PathBuf {
    let folder = node.folder(&format!("c-{name}"));
    let text = folder.join(format!("{name}.c"));
    fs::write(&text, source).unwrap();
    let built = std::process::Command::new("cc")
        .args(["-static", "-O1", "-w", "-o"])
        .args([&folder.join(name), &text])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder
}

/// What a container with this security context has to say of each try.
async fn tries(node: &Node, uid: &str, folder: &PathBuf, context: &Value) -> BTreeMap<String, String> {
    let container = json!({"securityContext": context, "volumeMounts": [
        {"name": "tools", "mountPath": "/tools"}, {"name": "data", "mountPath": "/data"}]});
    let spec = json!({"volumes": [
        {"name": "tools", "hostPath": {"path": folder}}, {"name": "data", "emptyDir": {}}]});
    let script = format!("exec /tools/tries {}", std::process::id());
    let log = node.output_of(&node.built(uid, &script, &container, &spec)).await;
    assert!(log.contains("F tries are over"), "{log}");
    let said = log.lines().filter_map(|line| line.split_once(" F try ")?.1.split_once(' '));
    said.map(|(name, errno)| (name.to_owned(), errno.to_owned())).collect()
}

const TRIES: &str = include_str!("escapes/tries.c");

pub(crate) async fn every_known_way_out_is_refused(node: Node) {
    let folder = compile(&node, "tries", TRIES);
    let mut said = tries(&node, "root", &folder, &json!({})).await;
    for &name in OF_THE_KERNEL {
        if said[name] == "ENOENT" {
            said.insert(name.to_owned(), "EROFS".to_owned());
        }
    }
    let wanted = REFUSED.iter().map(|(name, errno)| ((*name).to_owned(), (*errno).to_owned()));
    assert_eq!(said, wanted.collect());
}

/// Without a filter the same program does what needs no capability: the tries are real ones.
pub(crate) async fn without_a_filter_the_kernel_itself_would_let_some_through(node: Node) {
    let folder = compile(&node, "tries", TRIES);
    let unconfined = json!({"seccompProfile": {"type": "Unconfined"}});
    let root = tries(&node, "unconfined", &folder, &unconfined).await;
    for name in ["unshare-user", "clone-user", "keyctl", "add-key", "no-randomisation", "clone3"] {
        assert_ne!((name, root[name].as_str()), (name, "EPERM"));
        assert_ne!((name, root[name].as_str()), (name, "ENOSYS"));
    }
    for name in ["mount", "open-disk-in-volume", "pivot-root", "ptrace-outside", "core-pattern"] {
        let wanted = REFUSED.iter().find(|(one, _)| *one == name).unwrap();
        assert_eq!((name, root[name].as_str()), *wanted);
    }
    // Who is not root, and cannot become it, is refused no less.
    let nobody = json!({"runAsUser": 65534, "allowPrivilegeEscalation": false});
    let said = tries(&node, "nobody", &folder, &nobody).await;
    let went: Vec<_> = said.iter().filter(|(_, errno)| *errno == "ok").collect();
    assert!(went.is_empty(), "{went:?}");
    assert_eq!(said["unshare-user"], "EPERM");
}

const MODE: &str =
    "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; mkdir /tmp/made; echo up; exec sleep 1000";

/// Runs until `up`, and returns what was said before.
async fn said(node: &Node, uid: &str, container: &Value, spec: &Value) -> String {
    node.launch_plan(&node.built(uid, MODE, container, spec)).await;
    crate::until("its word", || Some(node.log(uid, 0)).filter(|log| log.contains("F up"))).await
}

pub(crate) async fn profiles_come_from_the_pod_the_container_and_the_nodes_folder(node: Node) {
    let profiles = node.folder("seccomp");
    let deny = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 84}]});
    fs::write(profiles.join("no-mkdir.json"), deny.to_string()).unwrap();
    let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "no-mkdir.json"}});
    let unconfined = json!({"seccompProfile": {"type": "Unconfined"}});
    let of = |context: &Value| json!({"securityContext": context});

    let own = said(&node, "own", &of(&local), &of(&unconfined)).await;
    assert!(own.contains("Seccomp:\t2") && own.contains("Invalid or incomplete multibyte"), "{own}");
    // So is a process that comes in later.
    let enter = ExecSpec {
        container: "main".into(),
        args: ["mkdir", "/tmp/later"].map(Into::into).into(),
        ..ExecSpec::default()
    };
    let (code, _, why) = crate::inside::inside(&node, "own", enter, b"").await;
    assert!(code.unwrap() == 1 && why.contains("Invalid or incomplete multibyte"), "{why}");

    let none = said(&node, "none", &json!({}), &of(&unconfined)).await;
    assert!(none.contains("Seccomp:\t0") && !none.contains("cannot"), "{none}");
    let usual = said(&node, "usual", &json!({}), &json!({})).await;
    assert!(usual.contains("Seccomp:\t2") && usual.contains("NoNewPrivs:\t0"), "{usual}");
    let strict = of(&json!({"allowPrivilegeEscalation": false}));
    let strict = said(&node, "strict", &strict, &json!({})).await;
    assert!(strict.contains("Seccomp:\t2") && strict.contains("NoNewPrivs:\t1"), "{strict}");
    let privileged = said(&node, "privileged", &of(&json!({"privileged": true})), &of(&local)).await;
    assert!(privileged.contains("Seccomp:\t0"), "{privileged}");
    for uid in ["own", "none", "usual", "strict", "privileged"] {
        node.runtime().stop(uid, 0).await.unwrap();
    }
    let gone = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "gone.json"}});
    let error = node.runtime().create(&node.built("gone", "", &of(&gone), &json!({}))).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot confine the container main");
}

pub(crate) async fn devices_are_opened_by_the_rules(node: Node) {
    let text = "cd /data; mknod zero c 1 5 && head -c 3 zero | wc -c; mknod kmsg c 1 11 && cat kmsg; \
                ls /dev; echo end";
    let container = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let spec = json!({"volumes": [{"name": "data", "emptyDir": {}}]});
    let log = node.output_of(&node.built("plain", text, &container, &spec)).await;
    assert!(log.contains("stdout F 3\n") && log.contains("kmsg: Operation not permitted"), "{log}");
    let mut mighty = container.clone();
    mighty["securityContext"] = json!({"privileged": true});
    let text = "ls -l /dev/kmsg; cd /data; mknod kmsg c 1 11; : < kmsg && echo opened";
    let log = node.output_of(&node.built("mighty", text, &mighty, &spec)).await;
    assert!(log.contains("F opened") && log.contains("F crw"), "{log}");
}

/// What the root of this machine has, and an image with a busybox alone has not.
const OF_THE_HOST: [&str; 3] = ["usr", "var", "home"];

fn is_outside(listed: &str) -> bool {
    listed.lines().any(|line| OF_THE_HOST.contains(&line.rsplit(' ').next().unwrap_or_default()))
}

/// CVE-2024-21626: a descriptor of ours that is still open when the working directory is entered.
pub(crate) async fn a_working_directory_leads_nowhere_out(node: Node) {
    let image = image(&node, "");
    let look = "ls -A ../../../../../..; echo end";
    for number in 3..20 {
        let uid = format!("cwd{number}");
        let container = json!({"workingDir": format!("/proc/self/fd/{number}")});
        let plan = node.built_from(&uid, image.clone(), &pod(&uid, look, &container, &json!({})));
        node.launch_plan(&plan).await;
        let state = node.wait(&uid, |state| state.stage == Stage::Finished).await;
        let (end, log) = (crate::ended(&state).unwrap(), node.log(&uid, 0));
        assert!(end.reason == "StartError" || log.contains("F end"), "{number}: {end:?}");
        assert!(!is_outside(&log), "{number}: {log}");
    }
    let plan =
        node.built_from("late", image, &pod("late", "exec busybox sleep 1000", &json!({}), &json!({})));
    node.launch_plan(&plan).await;
    node.wait("late", |state| crate::pid(state).is_some()).await;
    for number in 3..20 {
        let args = ["ls", "-A", "../../../../../.."].map(Into::into).into();
        let cwd = Some(format!("/proc/self/fd/{number}"));
        let enter = ExecSpec { container: "main".into(), args, cwd, ..ExecSpec::default() };
        let (_, said, _) = crate::inside::inside(&node, "late", enter, b"").await;
        assert!(!is_outside(&said), "{number}: {said}");
    }
    node.runtime().stop("late", 0).await.unwrap();
}

/// CVE-2021-25741: a folder of a volume becomes a link out of it while it is being mounted.
pub(crate) async fn a_sub_path_that_changes_all_the_time_leads_nowhere_out(node: Node) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};
    let volume = node.folder("volume");
    fs::create_dir(volume.join("inside")).unwrap();
    fs::write(volume.join("inside/own"), "").unwrap();
    std::os::unix::fs::symlink("/", volume.join("outside")).unwrap();
    let over = std::sync::Arc::new(AtomicBool::new(false));
    let flipper = std::thread::spawn({
        let (over, inside, outside) = (over.clone(), volume.join("inside"), volume.join("outside"));
        move || {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &inside, CWD, &outside, RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let container = json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "inside"}]});
    let spec = json!({"volumes": [{"name": "v", "hostPath": {"path": volume}}]});
    let (mut mounted, mut refused) = (0, 0);
    for number in 0..40 {
        let uid = format!("race{number}");
        node.launch_plan(&node.built(&uid, "ls -A /v; echo end", &container, &spec)).await;
        let state = node.wait(&uid, |state| state.stage == Stage::Finished).await;
        match crate::ended(&state).unwrap().reason.as_str() {
            // A link to the host's root, taken for one to the volume's, shows the volume's own.
            "Completed" => mounted += 1,
            _ => refused += 1,
        }
        let log = node.log(&uid, 0);
        for word in ["F etc\n", "F proc\n", "F usr\n"] {
            assert!(!log.contains(word), "{log}");
        }
    }
    over.store(true, Ordering::Relaxed);
    flipper.join().unwrap();
    assert_eq!(mounted + refused, 40);
    assert!(mounted > 0, "it never came to a mount");
}

/// What each way of meeting came to.
fn met(log: &str) -> BTreeMap<String, String> {
    let said = log.lines().filter_map(|line| line.split_once("apart ")?.1.split_once(' '));
    said.map(|(what, errno)| (what.to_owned(), errno.to_owned())).collect()
}

/// One of each thing that programs meet by, on the host; gone when it is dropped.
struct Kept {
    child: std::process::Child,
    program: PathBuf,
}

impl Kept {
    fn on_the_host(program: &Path) -> Self {
        let mut command = std::process::Command::new(program);
        let mut child = command.arg("keep").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.map_while(Result::ok).any(|line| line == "kept"));
        Self { child, program: program.to_owned() }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        let forgotten = std::process::Command::new(&self.program).arg("forget").status();
        assert!(forgotten.unwrap().success());
    }
}

pub(crate) async fn pods_meet_neither_one_another_nor_the_host(node: Node) {
    let folder = compile(&node, "apart", include_str!("escapes/apart.c"));
    let container = json!({"volumeMounts": [{"name": "tools", "mountPath": "/tools"}]});
    let with = |more: Value| {
        let mut spec = json!({"volumes": [{"name": "tools", "hostPath": {"path": folder}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        spec
    };
    let _host = Kept::on_the_host(&folder.join("apart"));
    let looks = |uid: &str, more: Value| node.built(uid, "exec /tools/apart look", &container, &with(more));
    let all = ["shm", "msg", "sem", "queue", "memory", "abstract", "loopback"];
    let refused =
        |what: &str| if matches!(what, "abstract" | "loopback") { "ECONNREFUSED" } else { "ENOENT" };
    let wanted = |open: &[&str]| -> BTreeMap<String, String> {
        let one = |what: &str| if open.contains(&what) { "ok" } else { refused(what) };
        all.iter().map(|what| ((*what).to_owned(), one(what).to_owned())).collect()
    };
    assert_eq!(met(&node.output_of(&looks("alone", json!({}))).await), wanted(&[]), "the host's");
    // The tries are real ones: who shares the host's namespaces meets it.
    let shared = met(&node.output_of(&looks("ipc", json!({"hostIPC": true}))).await);
    assert_eq!(shared, wanted(&["shm", "msg", "sem", "queue", "memory"]));
    let shared = met(&node.output_of(&looks("net", json!({"hostNetwork": true}))).await);
    assert_eq!(shared, wanted(&["abstract", "loopback"]));

    let keeps = node.built("keeps", "exec /tools/apart keep", &container, &with(json!({})));
    node.launch_plan(&keeps).await;
    let kept = || Some(node.log("keeps", 0)).filter(|log| log.contains("F kept"));
    assert_eq!(met(&crate::until("all of it", kept).await), wanted(&all));
    assert_eq!(met(&node.output_of(&looks("other", json!({}))).await), wanted(&[]), "another pod's");
    // Another container of the same pod meets it, but for the processes.
    let enter = ExecSpec {
        container: "main".into(),
        args: ["/tools/apart", "look"].map(Into::into).into(),
        ..ExecSpec::default()
    };
    let (_, said, _) = crate::inside::inside(&node, "keeps", enter, b"").await;
    assert_eq!(met(&said), wanted(&all));
    let text = "ls /proc | grep -c '^[0-9]'; echo end";
    let log = node.output_of(&node.built("looks", text, &json!({}), &json!({}))).await;
    let said: Vec<_> = log.lines().filter_map(|line| line.split_once(" F ")).map(|(_, said)| said).collect();
    // No process but the shell and what it has just started.
    assert!(matches!(said[..], ["2" | "3" | "4", "end"]), "{log}");
    node.runtime().stop("keeps", 0).await.unwrap();
}
