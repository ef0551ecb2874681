use crate::machine::{CONFIG_MAPS, Machine, PODS, named, until};
use crate::site::{CLUSTER, Neighbour, Site, until_members, until_ok};
use crate::yaml::{SERVE, config_map, daemon_set, spec};
use std::collections::BTreeSet;

/// The nodes on which pods whose names begin so are ready, as `machine` sees it.
pub(crate) fn until_on(machine: &Machine, prefix: &str, count: usize) -> BTreeSet<String> {
    machine.api.until(PODS, &format!("{count} pods of {prefix}"), |pods| {
        let ready = named(pods, prefix).filter(|pod| {
            let containers = pod["status"]["containerStatuses"].as_array();
            containers.is_some_and(|all| all.iter().all(|container| container["ready"] == true))
        });
        let nodes = ready.filter_map(|pod| Some(pod["spec"]["nodeName"].as_str()?.to_owned()));
        let nodes: BTreeSet<_> = nodes.collect();
        (nodes.len() == count).then_some(nodes)
    })
}

fn until_writable(machine: &Machine, is: bool) {
    until("a leader to come or go", || (machine.api.get(CLUSTER)["writable"] == is).then_some(()));
}

/// Everybody but `machine` is removed, and `machine` alone again, with the source `sources`. No pod may
/// be left: those of nodes that are gone go some time after them.
pub(crate) fn part(machine: &mut Machine, site: Site, sources: serde_json::Value) {
    for name in ["node-2", "node-3"] {
        until_ok(machine, &["node", "rm", name]);
    }
    until_members(machine, "one member", |members| (members.len() == 1).then_some(()));
    machine.configuration["sources"] = sources;
    machine.restart_agent();
    site.end();
}

pub(crate) fn three_nodes_run_what_one_of_them_can_fetch(machine: &mut Machine) {
    let sources = machine.configuration["sources"].clone();
    // The leader is told of it too, and does not reach it.
    machine.configuration["sources"][0]["url"] = "file:///nowhere".into();
    let mut site = Site::around(machine, 3, &sources);
    let commit = machine.repository.push_file("all.yaml", &daemon_set("all", &spec(SERVE)));
    machine.until_synced(&commit);
    let expected: BTreeSet<_> = ["node-2", "node-3", "one"].map(str::to_owned).into();
    for node in [&*machine, &site.neighbours[0].machine, &site.neighbours[1].machine] {
        assert_eq!(until_on(node, "all-", 3), expected);
    }
    // Whoever is asked to look, the one that can does; it may just have been the other one's turn.
    let said = until_ok(&site.neighbours[1].machine, &["sync", "site"]);
    assert!(said.stdout.contains(&format!("up to date at {}", &commit[..7])), "{said:?}");
    // Each of them really has its process, and only its own.
    for neighbour in &site.neighbours {
        let pods = neighbour.machine.api.list(PODS);
        let name = neighbour.machine.configuration["nodeName"].as_str().unwrap();
        let own = named(&pods, "all-").find(|pod| pod["spec"]["nodeName"] == name).unwrap();
        assert!(neighbour.machine.pid(own["metadata"]["name"].as_str().unwrap()) > 0);
    }

    // Whoever is asked, the leader writes, and who asked sees it at once.
    let last = &site.neighbours[1].machine;
    last.ok(&["label", "node", "node-2", "seen=yes"]);
    assert_eq!(last.api.get("/api/v1/nodes/node-2")["metadata"]["labels"]["seen"], "yes");

    // Without the first, the others go on; with it again, it knows what they did.
    machine.kill_agent();
    let second = &site.neighbours[0].machine;
    until_ok(second, &["label", "node", "node-3", "without=one"]);
    machine.start();
    machine.api.until("/api/v1/nodes", "what was written without it", |nodes| {
        nodes.iter().find(|node| node["metadata"]["labels"]["without"] == "one").map(drop)
    });

    // A node alone of three writes nothing, says so, and still answers, also after a start.
    site.neighbours.iter_mut().for_each(|neighbour| neighbour.machine.kill_agent());
    until_writable(machine, false);
    let said = machine.keel(&["cluster"]);
    assert!(said.code == 1 && said.stdout.contains("nothing can be changed"), "{said:?}");
    machine.restart_agent();
    assert_eq!(until_on(machine, "all-", 3), expected);
    let said = machine.keel(&["get", "pods"]);
    assert!(said.stderr.contains("Warning: this node has heard no leader"), "{said:?}");
    site.neighbours.iter_mut().for_each(Neighbour::start);
    until_ok(machine, &["label", "node", "one", "again=yes"]);
    machine.repository.empty();
    machine.repository.push_file("nothing.yaml", &config_map("nothing", "a", "b"));
    machine.until_gone(PODS);
    part(machine, site, sources);
}

pub(crate) fn a_survivor_begins_anew_and_others_come_back_to_it(machine: &mut Machine) {
    let sources = machine.configuration["sources"].clone();
    let mut site = Site::around(machine, 3, &serde_json::json!([]));
    let commit = machine.repository.push_file("a.yaml", &config_map("a", "key", "first"));
    machine.until_synced(&commit);
    let copy = machine.folder.join("copy");
    let copy = copy.to_str().unwrap();
    site.neighbours[0].machine.ok(&["cluster", "snapshot", "save", copy]);
    let again = machine.keel(&["cluster", "snapshot", "save", copy]);
    assert!(again.code == 1 && again.stderr.contains("exists"), "{again:?}");

    // Two of three are lost for good.
    site.neighbours.iter_mut().for_each(|neighbour| neighbour.machine.kill_agent());
    until_writable(machine, false);
    let configuration = machine.folder.join("keel.yaml");
    let reset = ["cluster", "reset", "--force", "--config", configuration.to_str().unwrap()];
    let refused = machine.keel(&reset);
    assert!(refused.code == 1 && refused.stderr.contains("in use"), "{refused:?}");
    machine.kill_agent();
    assert!(machine.ok(&reset).contains("is a cluster of one"));
    machine.start();
    until_writable(machine, true);
    assert_eq!(machine.api.get(&format!("{CONFIG_MAPS}/a"))["data"]["key"], "first");
    let commit = machine.repository.push_file("a.yaml", &config_map("a", "key", "second"));
    machine.until_synced(&commit);

    // Who was not lost after all is not mixed in, and comes back when it is told to.
    let second = &mut site.neighbours[0];
    let configuration = second.machine.folder.join("keel.yaml");
    second.machine.ok(&["cluster", "reset", "--rejoin", "--config", configuration.to_str().unwrap()]);
    second.start();
    until_members(machine, "two members", |members| (members.len() == 2).then_some(()));
    second.machine.api.until(CONFIG_MAPS, "what was written meanwhile", |maps| {
        maps.iter().any(|map| map["data"]["key"] == "second").then_some(())
    });

    // And back to the copy, in which it was the first value, until Git is heard again.
    until_ok(machine, &["node", "rm", "node-2"]);
    machine.stop_agent();
    let configuration = machine.folder.join("keel.yaml");
    let restore = ["cluster", "snapshot", "restore", copy, "--config", configuration.to_str().unwrap()];
    assert!(machine.ok(&restore).contains("is a cluster of one"));
    machine.start();
    machine.until_synced(&commit);
    part(machine, site, sources);
}
