//! Networks that plugins make: by programs of ours that say what they were asked, and by Debian's.

mod debian;
mod plugins;

use crate::machine::{Pod, on_fresh_machine};
use netstack::cni::{CallError, Cni, CniError, CniPod};
use plugins::{Folder, LIST, on_own_mounts};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const UID: &str = "5a0c0ffe-0000-4000-8000-000000000001";

fn asked(uid: &str, pod: &Pod) -> CniPod {
    let capabilities = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 1}});
    CniPod {
        uid: uid.into(),
        namespace: "default".into(),
        name: "web".into(),
        pid: pod.pid(),
        capabilities: capabilities.as_object().unwrap().clone(),
    }
}

fn commands(folder: &Folder) -> Vec<(String, String)> {
    folder.calls().into_iter().map(|call| (call.variable("CNI_COMMAND"), call.plugin)).collect()
}

fn words(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(command, plugin)| ((*command).to_owned(), (*plugin).to_owned())).collect()
}

async fn add(cni: &Cni, uid: &str, pod: &Pod) -> Result<netstack::cni::Joined, CniError> {
    let (_, list) = cni.choose().unwrap().network.unwrap();
    cni.add(&list, &asked(uid, pod)).await
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn plugins_are_called_as_the_specification_says() {
    on_own_mounts(|| {
        on_fresh_machine(async |_| {
            let folder = Folder::new();
            folder.put("net.d/10-own.conflist", LIST);
            folder.plugins(&["first", "second"]);
            let (cni, pod) = (folder.cni(), Pod::new());
            let joined = add(&cni, UID, &pod).await.unwrap();
            assert_eq!(
                (joined.network.as_str(), joined.addresses),
                ("own", vec!["10.9.0.2".parse().unwrap()])
            );
            let calls = folder.calls();
            let wanted =
                words(&[("STATUS", "first"), ("STATUS", "second"), ("ADD", "first"), ("ADD", "second")]);
            assert_eq!(commands(&folder), wanted);
            let (first, second) = (&calls[2], &calls[3]);
            let netns = folder.path().join("run/netns").join(UID).display().to_string();
            for (variable, value) in [
                ("CNI_CONTAINERID", UID),
                ("CNI_IFNAME", "eth0"),
                ("CNI_NETNS", &netns),
                ("CNI_PATH", folder.path().join("bin").to_str().unwrap()),
            ] {
                assert_eq!(first.variable(variable), value, "{variable}");
            }
            let arguments = format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID={UID};K8S_POD_UID={UID}"
            );
            assert_eq!(first.variable("CNI_ARGS"), arguments);
            let of_first = json!({"cniVersion": "1.1.0", "name": "own", "type": "first", "answer": 42});
            assert_eq!(first.input, of_first);
            let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.2/24"}]});
            let of_second = json!({"cniVersion": "1.1.0", "name": "own", "type": "second", "prevResult": result,
                "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}});
            assert_eq!(second.input, of_second);

            // It is joined: nobody is asked again, also not by the next agent, which looks after it.
            folder.forget_calls();
            let cni = folder.cni();
            add(&cni, UID, &pod).await.unwrap();
            assert_eq!(folder.calls().len(), 0);
            assert_eq!(cni.joined(UID).unwrap().unwrap().name, "own");
            cni.check(UID).await.unwrap();
            assert_eq!(commands(&folder), words(&[("CHECK", "first"), ("CHECK", "second")]));
            assert_eq!(folder.calls()[0].input["prevResult"], result);

            // The namespace is there when they are asked to take it back, though nobody is in it.
            folder.forget_calls();
            drop(pod);
            assert!(cni.del(UID).await.unwrap());
            assert_eq!(commands(&folder), words(&[("DEL", "second"), ("DEL", "first")]));
            let calls = folder.calls();
            assert_eq!((calls[0].variable("CNI_NETNS"), &calls[1].input["prevResult"]), (netns, &result));
            assert!(calls.iter().all(|call| call.has_namespace));
            assert!(!cni.del(UID).await.unwrap());
            assert_eq!(folder.left(), BTreeSet::new());
        });
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_was_begun_is_taken_back_however_often_it_takes() {
    on_own_mounts(|| {
        on_fresh_machine(async |_| {
            let folder = Folder::new();
            folder.put("net.d/10-own.conflist", LIST);
            folder.plugins(&["first", "second"]);
            let (cni, pod) = (folder.cni(), Pod::new());
            folder.fail(
                "second",
                "ADD",
                r#"{"cniVersion": "1.1.0", "code": 107, "msg": "no more ports", "details": "8080"}"#,
            );
            let error = add(&cni, UID, &pod).await.unwrap_err();
            assert_eq!(
                chain(&error),
                "network \"own\": plugin \"second\" failed (ADD): no more ports; 8080 (code 107)"
            );
            let wanted = [("ADD", "first"), ("ADD", "second"), ("DEL", "second"), ("DEL", "first")];
            assert_eq!(commands(&folder)[2..], words(&wanted)[..]);
            assert_eq!(folder.left(), BTreeSet::new());

            // Taking it back fails too: the next agent goes on with it.
            folder.fail("first", "DEL", "a word without JSON");
            add(&cni, UID, &pod).await.unwrap_err();
            assert_eq!(folder.left().len(), 2, "{:?}", folder.left());
            drop((cni, pod));
            let cni = folder.cni();
            let (gone, errors) = cni.sweep(BTreeSet::new).await;
            assert!(gone.is_empty());
            assert_eq!(
                chain(&errors[0]),
                "network \"own\": plugin \"first\" failed (DEL): a word without JSON"
            );
            folder.forget_calls();
            folder.succeed("first", "DEL");
            let (gone, errors) = cni.sweep(BTreeSet::new).await;
            assert_eq!((gone, errors.len()), (vec![UID.to_owned()], 0));
            // GC hears of what is left: nothing.
            let gc: Vec<_> =
                folder.calls().into_iter().filter(|call| call.variable("CNI_COMMAND") == "GC").collect();
            assert_eq!((gc.len(), &gc[0].input["cni.dev/valid-attachments"]), (2, &json!([])));
            assert_eq!(folder.left(), BTreeSet::new());
        });
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_crash_in_the_middle_is_taken_back_before_it_is_tried_again() {
    on_own_mounts(|| {
        on_fresh_machine(async |_| {
            let folder = Folder::new();
            folder.put("net.d/10-own.conflist", LIST);
            folder.plugins(&["first", "second"]);
            let (cni, pod) = (folder.cni(), Pod::new());
            // Whoever waits for the second plugin dies.
            folder.hang("second", "ADD");
            let dying = tokio::time::timeout(Duration::from_secs(3), add(&cni, UID, &pod));
            assert!(dying.await.is_err());
            assert_eq!(folder.left().len(), 2, "the record and the namespace: {:?}", folder.left());
            drop(cni);
            folder.succeed("second", "ADD");
            folder.forget_calls();
            let (cni, next) = (folder.cni(), Pod::new());
            add(&cni, UID, &next).await.unwrap();
            let wanted = [("DEL", "second"), ("DEL", "first"), ("STATUS", "first"), ("STATUS", "second")];
            assert_eq!(commands(&folder)[..4], words(&wanted)[..]);
            // Another sandbox of the same pod is joined anew.
            folder.forget_calls();
            let third = Pod::new();
            add(&cni, UID, &third).await.unwrap();
            let wanted = [("DEL", "second"), ("DEL", "first"), ("ADD", "first"), ("ADD", "second")];
            assert_eq!(commands(&folder), words(&wanted));
            cni.del(UID).await.unwrap();
        });
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_plugin_that_cannot_be_called_is_named_and_nothing_is_owed() {
    on_own_mounts(|| {
        on_fresh_machine(async |_| {
            let folder = Folder::new();
            folder.put("net.d/10-own.conflist", LIST);
            folder.plugins(&["first"]);
            let (cni, pod) = (folder.cni(), Pod::new());
            let bin = folder.path().join("bin").display().to_string();
            let error = add(&cni, UID, &pod).await.unwrap_err();
            assert_eq!(
                chain(&error),
                format!("network \"own\": plugin \"second\" is in none of the folders {bin}")
            );
            folder.put("bin/second", "#!/bin/sh\n");
            let error = add(&cni, UID, &pod).await.unwrap_err();
            assert_eq!(chain(&error), format!("network \"own\": plugin {bin}/second is not executable"));
            folder.plugins(&["second"]);
            folder.fail("second", "STATUS", r#"{"code": 50, "msg": "the daemon is not there"}"#);
            let error = add(&cni, UID, &pod).await.unwrap_err();
            assert!(chain(&error).ends_with("failed (STATUS): the daemon is not there (code 50)"));
            assert_eq!(folder.left(), BTreeSet::new());
            folder.succeed("second", "STATUS");
            folder.hang("second", "ADD");
            let error = add(&folder.impatient(), UID, &pod).await.unwrap_err();
            let CniError::Call { source: CallError::Timeout { seconds: 1, .. }, .. } = error else {
                panic!("{error:?}");
            };
            assert_eq!(folder.left(), BTreeSet::new());
            folder.succeed("second", "ADD");
            folder.put("bin/second", "#!/bin/sh\necho nonsense\n");
            folder.executable("second");
            let error = add(&folder.cni(), UID, &pod).await.unwrap_err();
            assert!(
                chain(&error).contains("(ADD) gave no result that can be understood: expected"),
                "{error:?}"
            );
        });
    });
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
