use crate::machine::{CONFIG_MAPS, DEPLOYMENTS, Machine, PODS, name_of, named};
use crate::yaml::{SERVE, config_map, deployment, spec};
use serde_json::Value;

pub(crate) fn what_is_deleted_by_hand_comes_back(machine: &mut Machine) {
    machine.start();
    machine.repository.write("text.yaml", &config_map("text", "a", "b"));
    machine.repository.push_file("web.yaml", &deployment("web", 2, &spec(SERVE)));
    machine.until_rolled_out("web", 2);

    let map = machine.api.get(&format!("{CONFIG_MAPS}/text"));
    let said = machine.keel(&["delete", "configmap/text"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "configmap \"text\" deleted\n"), "{said:?}");
    assert!(said.stderr.contains("site (text.yaml:1) and will be put back"), "{said:?}");
    machine.api.until(CONFIG_MAPS, "another ConfigMap of the same name", |maps| {
        let new = maps.iter().find(|new| new["metadata"]["name"] == "text")?;
        (new["metadata"]["uid"] != map["metadata"]["uid"] && new["data"] == map["data"]).then_some(())
    });

    let before = machine.pids("web-");
    let first = before.keys().next().unwrap();
    machine.ok(&["delete", "pod", first]);
    // Its Deployment may not have heard of it yet: the pods themselves have to be looked at.
    machine.api.until(PODS, "another pod in its place", |pods| {
        let ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        let new = pods.iter().all(|pod| name_of(pod) != *first);
        (new && named(pods, "web-").filter(ready).count() == 2).then_some(())
    });
    let after = machine.pids("web-");
    assert!(!after.contains_key(first) && after.iter().filter(|pod| before.contains_key(pod.0)).count() == 1);

    machine.ok(&["delete", "deploy", "web"]);
    machine.api.until(PODS, "two pods, none of them of before", |pods| {
        let new = pods.iter().all(|pod| !after.contains_key(&name_of(pod)));
        (new && pods.len() == 2).then_some(())
    });
    machine.until_rolled_out("web", 2);

    let said = machine.keel(&["delete", "pod/none"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("pods \"none\" not found"), "{said:?}");
    let said = machine.keel(&["delete", "node/one"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("belongs to the agent"), "{said:?}");
}

pub(crate) fn what_is_changed_by_hand_is_put_back(machine: &mut Machine) {
    machine.start();
    machine.repository.write("text.yaml", &config_map("text", "key", "from Git"));
    machine.repository.push_file("web.yaml", &deployment("web", 1, &spec(SERVE)));
    machine.until_rolled_out("web", 1);
    let before = machine.pids("web-");

    let path = format!("{CONFIG_MAPS}/text");
    let mut map = machine.api.get(&path);
    map["data"]["key"] = "by hand".into();
    let (code, text) = machine.api.put(&path, &map);
    assert_eq!(code, 200, "{text}");
    machine.api.until(CONFIG_MAPS, "the ConfigMap of Git", |maps| {
        maps.iter().any(|map| map["data"]["key"] == "from Git").then_some(())
    });
    let (code, text) = machine.api.put(&path, &map);
    assert_eq!(code, 409, "an old version was taken: {text}");

    let path = format!("{DEPLOYMENTS}/web");
    let mut deployment = machine.api.get(&path);
    let generation = deployment["metadata"]["generation"].as_i64().unwrap();
    deployment["spec"]["replicas"] = 3.into();
    let (code, text) = machine.api.put(&path, &deployment);
    assert_eq!(code, 200, "{text}");
    machine.api.until(DEPLOYMENTS, "the replicas of Git", |deployments| {
        let web = &deployments[0];
        let back = web["spec"]["replicas"] == 1 && web["metadata"]["generation"] == generation + 2;
        back.then_some(())
    });
    machine.until_rolled_out("web", 1);
    assert_eq!(machine.pids("web-"), before, "the oldest pod stays");
}
