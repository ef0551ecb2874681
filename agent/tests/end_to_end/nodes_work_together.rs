use crate::machine::{Machine, PODS, named, until};
use crate::site::{CLUSTER, Site, until_members, until_ok};
use crate::yaml::{SERVE, daemon_set, spec};
use serde_json::Value;
use std::collections::BTreeSet;

fn voters(members: &[Value]) -> usize {
    members.iter().filter(|member| member["voter"] == true).count()
}

/// The nodes on which pods whose names begin so are ready, as `machine` sees it.
fn until_on(machine: &Machine, prefix: &str, count: usize) -> BTreeSet<String> {
    machine.api.until(PODS, &format!("{count} pods of {prefix}"), |pods| {
        let ready = named(pods, prefix).filter(|pod| {
            let containers = pod["status"]["containerStatuses"].as_array();
            containers.is_some_and(|all| all.iter().all(|container| container["ready"] == true))
        });
        let nodes: BTreeSet<_> =
            ready.filter_map(|pod| Some(pod["spec"]["nodeName"].as_str()?.to_owned())).collect();
        (nodes.len() == count).then_some(nodes)
    })
}

pub(crate) fn three_nodes_run_what_one_of_them_can_fetch(machine: &mut Machine) {
    let mut site = Site::around(machine, 3);
    until_members(machine, "three voters", |members| (voters(members) == 3).then_some(()));
    let commit = machine.repository.push_file("all.yaml", &daemon_set("all", &spec(SERVE)));
    machine.until_synced(&commit);
    let expected: BTreeSet<_> = ["node-2", "node-3", "one"].map(str::to_owned).into();
    for node in [&*machine, &site.neighbours[0].machine, &site.neighbours[1].machine] {
        assert_eq!(until_on(node, "all-", 3), expected);
    }
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
    let leads = second.api.get(CLUSTER)["writable"].clone();
    assert_eq!(leads, true);
    machine.start();
    machine.api.until("/api/v1/nodes", "what was written without it", |nodes| {
        nodes.iter().find(|node| node["metadata"]["labels"]["without"] == "one").map(drop)
    });

    // A node alone of three writes nothing, says so, and still answers.
    site.neighbours.iter_mut().for_each(|neighbour| neighbour.machine.kill_agent());
    until("the loss to be noticed", || (machine.api.get(CLUSTER)["writable"] == false).then_some(()));
    let said = machine.keel(&["cluster"]);
    assert!(said.code == 1 && said.stdout.contains("nothing can be changed"), "{said:?}");
    assert_eq!(until_on(machine, "all-", 3), expected);
    site.neighbours.iter_mut().for_each(crate::site::Neighbour::start);
    until_ok(machine, &["label", "node", "one", "again=yes"]);

    // Who is removed is no member any more, and its pods are nobody's.
    for name in ["node-2", "node-3"] {
        until_ok(machine, &["node", "rm", name]);
    }
    until_members(machine, "one member", |members| (members.len() == 1).then_some(()));
    machine.api.until(PODS, "one pod", |pods| (pods.len() == 1).then_some(()));
    site.end();
}
