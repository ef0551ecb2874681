//! Three nodes, of which one reaches the registry: it is at an address of that node alone.

use crate::machine::{EVENTS, Machine, PODS, named, until};
use crate::nodes_work_together::{part, until_on};
use crate::shelf::{HOST, LOGIN, Shelf};
use crate::site::Site;
use crate::yaml::{SERVE, config_map, daemon_set, pod, spec};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// Runs `app:TAG`, with the registry's password or without.
fn of(tag: &str, with_password: bool) -> Value {
    let mut spec = spec(SERVE);
    spec["containers"][0]["image"] = format!("{HOST}/app:{tag}").into();
    spec["containers"][0]["imagePullPolicy"] = "IfNotPresent".into();
    if with_password {
        spec["imagePullSecrets"] = json!([{"name": "login"}]);
    }
    spec
}

/// On the node `node`.
fn on(node: &str, mut spec: Value) -> Value {
    spec["nodeName"] = node.into();
    spec
}

fn password() -> String {
    let config = json!({"auths": {HOST: {"auth": LOGIN}}}).to_string();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config}});
    secret.to_string()
}

/// The value of a metric of `machine`.
fn metric(machine: &Machine, name: &str) -> f64 {
    let (code, text) = machine.api.ask("GET", "/metrics", "");
    assert_eq!(code, 200);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// What the events say of the pull for the pod whose name begins so, once they do.
fn until_pulled(machine: &Machine, prefix: &str) -> String {
    machine.api.until(EVENTS, &format!("the pull for {prefix}"), |events| {
        events.iter().find_map(|event| {
            let about = event["involvedObject"]["name"].as_str()?.starts_with(prefix);
            let message = event["message"].as_str()?;
            (about && message.starts_with("Successfully pulled image")).then(|| message.to_owned())
        })
    })
}

fn until_refused(machine: &Machine, name: &str) {
    machine.api.until(PODS, &format!("{name} to be refused"), |pods| {
        let status = &named(pods, name).next()?["status"]["containerStatuses"][0];
        let reason = status["state"]["waiting"]["reason"].as_str()?;
        ["ErrImagePull", "ImagePullBackOff"].contains(&reason).then_some(())
    });
}

/// The file of a blob that is kept for peers.
fn kept(machine: &Machine, digest: &str) -> PathBuf {
    machine.folder.join("state/images/blobs/sha256").join(&digest["sha256:".len()..])
}

/// The file of a blob that is not whole yet.
fn arriving(machine: &Machine, digest: &str) -> PathBuf {
    let name = format!("{}.part", &digest["sha256:".len()..]);
    machine.folder.join("state/images/downloads/blobs/sha256").join(name)
}

/// A shelf, and a site of three; the first runs `app:1`.
fn begin(machine: &mut Machine) -> (Shelf, PathBuf, Site) {
    let folder = machine.folder.join("shelf");
    fs::create_dir(&folder).unwrap();
    let shelf = Shelf::new(&folder);
    let site = Site::around(machine, 3, &json!([]));
    machine.repository.write("login.yaml", &password());
    machine.repository.push_file("first.yaml", &pod("first", &on("one", of("1", true))));
    machine.until_running("first");
    (shelf, folder, site)
}

fn end(machine: &mut Machine, site: Site) {
    let sources = machine.configuration["sources"].clone();
    machine.repository.empty();
    machine.repository.push_file("nothing.yaml", &config_map("nothing", "a", "b"));
    machine.until_gone(PODS);
    part(machine, site, sources);
}

pub(crate) fn all_nodes_run_what_one_of_them_can_pull(machine: &mut Machine) {
    let (shelf, folder, mut site) = begin(machine);
    machine.repository.push_file("all.yaml", &daemon_set("all", &of("1", true)));
    until_on(machine, "all-", 3);
    for neighbour in &site.neighbours {
        let own = neighbour.machine.configuration["nodeName"].as_str().unwrap();
        let pods = machine.api.list(PODS);
        let pod = named(&pods, "all-").find(|pod| pod["spec"]["nodeName"] == own).unwrap();
        let told = until_pulled(machine, pod["metadata"]["name"].as_str().unwrap());
        assert!(told.contains("from peer ") && told.contains("the registry did not answer"), "{told}");
        assert_eq!(metric(&neighbour.machine, "keel_image_blobs_fetched_total{from=\"peer\"}"), 3.0);
        assert_eq!(metric(&neighbour.machine, "keel_image_blobs_fetched_total{from=\"registry\"}"), 0.0);
    }
    assert_eq!(metric(machine, "keel_image_blobs_fetched_total{from=\"registry\"}"), 3.0);
    // Whom the registry would give nothing, no peer does.
    let mut closed = on("node-2", of("1", false));
    closed["containers"][0]["imagePullPolicy"] = "Always".into();
    machine.repository.push_file("closed.yaml", &pod("closed", &closed));
    until_refused(machine, "closed");

    // A node that has something false on its disk gives nothing that is used.
    let layer = shelf.add(&folder, "2", 3 << 20);
    machine.repository.push_file("second-one.yaml", &pod("second-one", &on("one", of("2", true))));
    machine.until_running("second-one");
    machine.repository.push_file("second-two.yaml", &pod("second-two", &on("node-2", of("2", true))));
    machine.until_running("second-two");
    site.neighbours[0].machine.kill_agent();
    let mut content = fs::read(kept(machine, &layer)).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(kept(machine, &layer), &content).unwrap();
    machine.repository.push_file("second-three.yaml", &pod("second-three", &on("node-3", of("2", true))));
    until_refused(machine, "second-three");
    let third = &site.neighbours[1].machine;
    assert_eq!(metric(third, "keel_image_peer_failures_total{reason=\"corrupt\"}"), 1.0);
    assert!(!kept(third, &layer).exists() && !arriving(third, &layer).exists());
    // Another one has the truth.
    site.neighbours[0].start();
    machine.until_running("second-three");
    let told = until_pulled(machine, "second-three");
    assert!(told.contains("from peer node-2"), "{told}");
    end(machine, site);
}

pub(crate) fn a_peer_that_dies_in_the_middle_is_gone_on_with(machine: &mut Machine) {
    let (shelf, folder, site) = begin(machine);
    let layer = shelf.add(&folder, "large", 64 << 20);
    machine.repository.push_file("large-one.yaml", &pod("large-one", &on("one", of("large", true))));
    machine.until_running("large-one");
    let size = fs::metadata(kept(machine, &layer)).unwrap().len();
    machine.repository.push_file("large-three.yaml", &pod("large-three", &on("node-3", of("large", true))));
    let file = arriving(&site.neighbours[1].machine, &layer);
    let have = || fs::metadata(&file).map_or(0, |found| found.len());
    until("a part of the layer", || (have() > 0).then_some(()));
    machine.kill_agent();
    let got = have();
    assert!(got > 0 && got < size, "{got} of {size} bytes, too late to see anything");
    // It waits with what it has.
    until_refused(&site.neighbours[1].machine, "large-three");
    assert!(have() >= got);
    machine.start();
    machine.until_running("large-three");
    assert_eq!(fs::metadata(kept(&site.neighbours[1].machine, &layer)).unwrap().len(), size);
    let fetched = metric(&site.neighbours[1].machine, "keel_image_bytes_fetched_total{from=\"peer\"}");
    let twice = fetched - size as f64;
    assert!((0.0..65536.0).contains(&twice), "{fetched} bytes for a layer of {size}");
    end(machine, site);
}
