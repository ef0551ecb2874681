//! Files that follow what they show, as running containers see them.

use crate::node::{Node, Objects, pod, until};
use crate::pid;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn objects(value: &str) -> Objects {
    let maps = json!({"settings": {"data": {"one": value, "two": value}}});
    let secrets = json!({"keys": {"stringData": {"password": value}}});
    Objects {
        config_maps: serde_json::from_value(maps).unwrap(),
        secrets: serde_json::from_value(secrets).unwrap(),
        ..Objects::default()
    }
}

/// Says `seen` and all that the files hold whenever that has changed; the two keys of the
/// ConfigMap are read through one link, so they may never differ.
const WATCH: &str = "
    old=; while :; do
        link=$(readlink /live/..data)
        one=$(cat /live/$link/one 2>/dev/null) && two=$(cat /live/$link/two 2>/dev/null) || continue
        [ \"$one\" = \"$two\" ] || echo torn
        now=\"$one $(cat /live/password) $(cat /live/label) part $(cat /part) env $ONE\"
        [ \"$now\" = \"$old\" ] || { old=$now; echo \"seen $now\"; }
        sleep 0.02
    done";

pub(crate) async fn files_follow_their_objects_all_at_once(node: Node) {
    let label = json!({"path": "label", "fieldRef": {"fieldPath": "metadata.labels['tier']"}});
    let sources = json!([
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "keys"}},
        {"downwardAPI": {"items": [label]}},
    ]);
    let spec = json!({"volumes": [{"name": "live", "projected": {"sources": sources}}]});
    let container = json!({
        "env": [{"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "one"}}}],
        "volumeMounts": [
            {"name": "live", "mountPath": "/live"},
            {"name": "live", "mountPath": "/part", "subPath": "one"},
        ],
    });
    let labelled = |value: &str| {
        let mut pod = pod("live", WATCH, &container, &spec);
        pod["metadata"]["labels"] = json!({"tier": value});
        pod
    };
    node.launch_plan(&node.built_with("live", Node::host_image(), &labelled("a"), &objects("1"))).await;
    let seen = |text: &'static str| {
        let node = &node;
        until(text, move || Some(node.log("live", 0)).filter(|log| log.contains(&format!("F seen {text}\n"))))
    };
    seen("1 1 a part 1 env 1").await;
    assert_eq!(node.updated(&labelled("a"), &objects("1")), [""; 0]);
    assert_eq!(node.updated(&labelled("a"), &objects("2")), ["live"]);
    // Neither a subPath nor the environment follows.
    seen("2 2 a part 1 env 1").await;
    assert_eq!(node.updated(&labelled("b"), &objects("2")), ["live"]);
    seen("2 2 b part 1 env 1").await;
    for round in 3..40 {
        node.updated(&labelled("b"), &objects(&round.to_string()));
    }
    let log = seen("39 39 b part 1 env 1").await;
    assert!(!log.contains("torn"), "{log}");
}

fn said(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn tokens(log: &str) -> Vec<String> {
    let words = log.lines().filter_map(|line| line.split("F token ").nth(1));
    words.map(str::to_owned).collect()
}

pub(crate) async fn a_token_is_the_pods_own_and_is_made_anew(node: Node) {
    let token =
        json!({"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}});
    let spec = json!({
        "serviceAccountName": "web",
        "securityContext": {"runAsUser": 4242},
        "volumes": [{"name": "id", "projected": {"sources": [token]}}],
    });
    let text = "old=; while :; do now=$(cat /id/token); [ \"$now\" = \"$old\" ] || { old=$now; \
                echo \"token $now\"; stat -L -c 'mode %a %u' /id/token; }; sleep 0.02; done";
    let container = json!({"volumeMounts": [{"name": "id", "mountPath": "/id"}]});
    let pod = pod("token", text, &container, &spec);
    let now = Timestamp::now();
    let ago = |seconds| Objects {
        identity_at: Some(now - SignedDuration::from_secs(seconds)),
        ..Objects::default()
    };
    let missing = node.not_prepared(&pod, &Objects::default());
    assert!(missing.ends_with("failed to fetch token: serviceaccounts \"web\" not found"), "{missing}");

    node.launch_plan(&node.built_with("token", Node::host_image(), &pod, &ago(500))).await;
    let after = |count| {
        let log = &node;
        until("tokens", move || Some(tokens(&log.log("token", 0))).filter(|all| all.len() == count))
    };
    let first = after(1).await.remove(0);
    let claims = said(&first);
    assert_eq!(claims["sub"], "system:serviceaccount:default:web");
    assert_eq!(
        (&claims["aud"], &claims["kubernetes.io"]["pod"]["uid"]),
        (&json!(["vault"]), &json!("token"))
    );
    let lives = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(lives, 600);
    // Who runs in the pod is known, so nobody else may read it.
    let log = until("the mode", || Some(node.log("token", 0)).filter(|log| log.contains("F mode "))).await;
    assert!(log.contains("F mode 600 4242\n"), "{log}");

    assert_eq!(node.updated(&pod, &ago(400)), [""; 0], "young enough");
    assert_eq!(node.updated(&pod, &ago(0)), ["id"], "worn");
    let second = after(2).await.remove(1);
    assert!(said(&second)["exp"].as_i64() > claims["exp"].as_i64());
    assert_eq!(node.updated(&pod, &ago(0)), [""; 0]);
    assert!(pid(&node.runtime().observe()["token"]).is_some());
}

pub(crate) async fn a_pod_knows_itself(node: Node) {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let amount = |name: &str, resource: &str, divisor: &str| {
        let selector = json!({"resource": resource, "divisor": divisor});
        json!({"name": name, "valueFrom": {"resourceFieldRef": selector}})
    };
    let env = [
        field("A", "metadata.name"),
        field("B", "metadata.annotations['example.org/k']"),
        field("C", "spec.serviceAccountName"),
        field("D", "status.hostIPs"),
        field("E", "status.podIP"),
        field("F", "spec.nodeName"),
        amount("G", "limits.cpu", "1m"),
        amount("H", "limits.memory", "1Mi"),
        amount("I", "requests.memory", "1"),
        amount("J", "limits.ephemeral-storage", "1Ki"),
    ];
    let items = json!([
        {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1"}},
        {"path": "all", "fieldRef": {"fieldPath": "metadata.annotations"}},
    ]);
    let container = json!({
        "env": env,
        "resources": {
            "limits": {"cpu": "1500m", "memory": "64Mi", "ephemeral-storage": "10Mi"},
            "requests": {"memory": "1500"},
        },
        "volumeMounts": [{"name": "me", "mountPath": "/me"}],
    });
    let spec = json!({"volumes": [{"name": "me", "downwardAPI": {"items": items}}]});
    let text = "echo $A,$B,$C,$D,$E,$F,$G,$H,$I,$J; echo \"$(cat /me/cpu) $(cat /me/all)\"";
    let mut pod = pod("self", text, &container, &spec);
    pod["metadata"]["annotations"] = json!({"example.org/k": "v"});
    let plan = node.built_with("self", Node::host_image(), &pod, &Objects::default());
    let log = node.output_of(&plan).await;
    assert!(log.contains("F self,v,default,192.0.2.1,127.0.0.9,node-1,1500,64,1500,10240\n"), "{log}");
    assert!(log.contains("F 2 example.org/k=\"v\"\n"), "{log}");
}
