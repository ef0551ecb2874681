use super::*;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn object(kind: Kind, name: &str, rest: Value) -> Object {
    let mut value = rest;
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.as_str().into();
    value["metadata"]["name"] = name.into();
    value["metadata"]["creationTimestamp"] = "2026-11-20T09:00:00Z".into();
    if kind.is_namespaced() {
        value["metadata"]["namespace"] = "shop".into();
    }
    Object::from_json(kind, value).unwrap()
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a", "image": "host:"}, {"name": "b", "image": "oci:/x"}]}})
}

fn table(object: &Object, columns: Columns) -> String {
    Table { heads: heads(object.kind(), columns), rows: vec![row(object, columns, now())] }.render()
}

#[track_caller]
fn check(object: &Object, wanted: &str) {
    assert_eq!(table(object, Columns::default()), wanted);
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "web"}})
}

#[test]
fn workloads_have_kubectls_columns() {
    check(
        &object(
            Kind::Deployment,
            "web",
            json!({"spec": {"replicas": 3, "selector": selector(), "template": template()},
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
        ),
        "NAME   READY   UP-TO-DATE   AVAILABLE   AGE\nweb    2/3     3            1           3h\n",
    );
    check(
        &object(
            Kind::ReplicaSet,
            "web-1",
            json!({"spec": {"replicas": 3, "selector": selector(), "template": template()},
                "status": {"replicas": 2, "readyReplicas": 1}}),
        ),
        "NAME    DESIRED   CURRENT   READY   AGE\nweb-1   3         2         1       3h\n",
    );
    check(
        &object(
            Kind::DaemonSet,
            "logs",
            json!({"spec": {"selector": selector(), "template": template()},
                "status": {"desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberReady": 1,
                    "numberMisscheduled": 0, "updatedNumberScheduled": 1, "numberAvailable": 1}}),
        ),
        "NAME   DESIRED   CURRENT   READY   UP-TO-DATE   AVAILABLE   NODE SELECTOR   AGE\n\
         logs   1         1         1       1            1           <none>          3h\n",
    );
}

#[test]
fn jobs_have_kubectls_columns() {
    let job =
        |spec: Value, status: Value| object(Kind::Job, "backup", json!({"spec": spec, "status": status}));
    let spec = json!({"completions": 2, "parallelism": 1, "template": template()});
    check(
        &job(
            spec.clone(),
            json!({"succeeded": 2, "startTime": "2026-11-20T09:00:00Z", "completionTime": "2026-11-20T09:02:05Z",
                "conditions": [{"type": "Complete", "status": "True"}]}),
        ),
        "NAME     STATUS     COMPLETIONS   DURATION   AGE\nbackup   Complete   2/2           2m5s       3h\n",
    );
    check(
        &job(json!({"parallelism": 3, "template": template()}), json!({"startTime": "2026-11-20T11:59:30Z"})),
        "NAME     STATUS    COMPLETIONS   DURATION   AGE\nbackup   Running   0/1 of 3      30s        3h\n",
    );
    check(
        &object(
            Kind::CronJob,
            "tick",
            json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": spec}},
                "status": {"lastScheduleTime": "2026-11-20T11:55:00Z", "active": [{}]}}),
        ),
        "NAME   SCHEDULE      TIMEZONE   SUSPEND   ACTIVE   LAST SCHEDULE   AGE\n\
         tick   */5 * * * *   <none>     False     1        5m              3h\n",
    );
}

#[test]
fn the_rest_has_kubectls_columns() {
    check(
        &object(Kind::ConfigMap, "web", json!({"data": {"a": "1", "b": "2"}})),
        "NAME   DATA   AGE\nweb    2      3h\n",
    );
    check(
        &object(Kind::Secret, "web", json!({"type": "Opaque", "data": {"a": "MQ=="}})),
        "NAME   TYPE     DATA   AGE\nweb    Opaque   1      3h\n",
    );
    check(
        &object(
            Kind::Service,
            "web",
            json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1",
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]}}),
        ),
        "NAME   TYPE       CLUSTER-IP   EXTERNAL-IP   PORT(S)               AGE\n\
         web    NodePort   10.0.0.1     <none>        80:30080/TCP,53/UDP   3h\n",
    );
    check(
        &object(
            Kind::NetworkPolicy,
            "deny",
            json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}}}),
        ),
        "NAME   POD-SELECTOR   AGE\ndeny   app=web        3h\n",
    );
    check(&object(Kind::Namespace, "shop", json!({})), "NAME   STATUS   AGE\nshop   Active   3h\n");
    check(
        &object(
            Kind::Node,
            "n1",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": {"architecture": "", "bootID": "", "containerRuntimeVersion": "keel://0.1.0",
                        "kernelVersion": "6.18", "kubeProxyVersion": "", "kubeletVersion": "v0.1.0",
                        "machineID": "", "operatingSystem": "linux", "osImage": "Debian", "systemUUID": ""}}}),
        ),
        "NAME   STATUS   ROLES   AGE   VERSION\nn1     Ready    edge    3h    v0.1.0\n",
    );
    check(
        &object(
            Kind::Event,
            "e1",
            json!({"type": "Warning", "reason": "BackOff", "message": "Back-off\nrestarting", "count": 4,
                "involvedObject": {"kind": "Pod", "name": "web"}, "lastTimestamp": "2026-11-20T11:59:00Z"}),
        ),
        "LAST SEEN   TYPE      REASON    OBJECT    MESSAGE\n60s         Warning   BackOff   pod/web   Back-off\\nrestarting\n",
    );
}

#[test]
fn a_revision_shows_the_commit_and_its_author() {
    let revision = object(
        Kind::Revision,
        "infra",
        json!({"spec": {"url": "u", "reference": "main", "commit": "1a2b3c4d5e6f", "author": "Ada <a@b.c>",
            "committedAt": "2026-11-20T11:00:00Z", "subject": "Serve more", "contentHash": "", "objects": []},
            "status": {"result": "Synced"}}),
    );
    check(
        &revision,
        "NAME    RESULT   COMMIT    AUTHOR   AGE   SUBJECT\ninfra   Synced   1a2b3c4   Ada      60m   Serve more\n",
    );
}

#[test]
fn more_columns_are_added_where_kubectl_adds_them() {
    let deployment = object(
        Kind::Deployment,
        "web",
        json!({"metadata": {"labels": {"tier": "front"}},
            "spec": {"replicas": 1, "selector": selector(), "template": template()}}),
    );
    let columns = Columns { wide: true, namespace: true, labels: true, prefix: true };
    assert_eq!(
        table(&deployment, columns),
        "NAMESPACE   NAME                  READY   UP-TO-DATE   AVAILABLE   AGE   CONTAINERS   IMAGES         SELECTOR   LABELS\n\
         shop        deployment.apps/web   0/1     0            0           3h    a,b          host:,oci:/x   app=web    tier=front\n",
    );
}

#[test]
fn an_event_that_repeats_says_how_often() {
    let Object::Event(event) = object(
        Kind::Event,
        "e1",
        json!({"type": "Warning", "reason": "BackOff", "message": "m", "count": 4,
            "firstTimestamp": "2026-11-20T11:50:00Z", "lastTimestamp": "2026-11-20T11:55:00Z",
            "involvedObject": {"kind": "Pod", "name": "web"}}),
    ) else {
        panic!("an event")
    };
    assert_eq!(
        seen_row(&event, true, now()),
        ["shop", "5m (x4 over 10m)", "Warning", "BackOff", "Pod/web", "m"]
    );
}

#[test]
fn a_load_balancers_address_is_pending_until_it_is_given() {
    let balanced = |status| {
        let spec = json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [{"port": 80}]});
        object(Kind::Service, "web", json!({"spec": spec, "status": status}))
    };
    check(
        &balanced(json!({})),
        "NAME   TYPE           CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE\n\
         web    LoadBalancer   10.0.0.1     <pending>     80/TCP    3h\n",
    );
    check(
        &balanced(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]}})),
        "NAME   TYPE           CLUSTER-IP   EXTERNAL-IP             PORT(S)   AGE\n\
         web    LoadBalancer   10.0.0.1     192.0.2.1,2001:db8::1   80/TCP    3h\n",
    );
}

#[test]
fn ingresses_have_kubectls_columns() {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    check(
        &object(Kind::Ingress, "all", json!({"spec": {"defaultBackend": backend}})),
        "NAME   CLASS    HOSTS   ADDRESS   PORTS   AGE\nall    <none>   *                 80      3h\n",
    );
    let rules: Vec<_> = ["a.x", "b.x", "c.x", "d.x", "e.x"].map(|host| json!({"host": host})).into();
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}]}});
    let spec = json!({"ingressClassName": "keel", "rules": rules, "tls": [{"hosts": ["a.x"]}]});
    let many = object(Kind::Ingress, "many", json!({"spec": spec, "status": status}));
    check(
        &many,
        "NAME   CLASS   HOSTS                     ADDRESS            PORTS     AGE\n\
         many   keel    a.x,b.x,c.x + 2 more...   192.0.2.1,lb....   80, 443   3h\n",
    );
    let wide = table(&many, Columns { wide: true, ..Columns::default() });
    assert!(wide.contains("192.0.2.1,lb.example "), "{wide}");
    let spec = json!({"controller": "evenkeel.dev/ingress"});
    check(
        &object(Kind::IngressClass, "keel", json!({"spec": spec})),
        "NAME   CONTROLLER             PARAMETERS   AGE\nkeel   evenkeel.dev/ingress   <none>       3h\n",
    );
}
