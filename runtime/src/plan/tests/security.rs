//! Users, capabilities, AppArmor's profiles and the kernel's parameters.

use super::*;

#[test]
fn security_context_becomes_user_and_capabilities() {
    let plan = World::new(
        json!({"securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CAP_SYS_TIME"]}}}),
        json!({"securityContext": {"runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000],
                "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "2"}]}}),
    )
    .plan();
    let spec = &plan.containers[0].spec;
    let process = spec.process().as_ref().unwrap();
    assert_eq!((process.user().uid(), process.user().gid()), (1000, 2000));
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[4000, 3000][..]));
    assert_eq!(process.no_new_privileges(), Some(true));
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    let bounding = process.capabilities().as_ref().unwrap().bounding().clone().unwrap();
    let mut names: Vec<_> = bounding.iter().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["NET_BIND_SERVICE", "SYS_TIME"]);
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.sysctl().as_ref().unwrap()["net.ipv4.tcp_syncookies"], "2");
    assert!(linux.masked_paths().as_ref().unwrap().contains(&"/proc/kcore".to_owned()));

    let privileged = app(json!({"securityContext": {"privileged": true}}));
    let capabilities = privileged.process().as_ref().unwrap().capabilities().clone().unwrap();
    assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 41);
    assert!(privileged.linux().as_ref().unwrap().masked_paths().is_none());
    assert!(mount_options(&privileged, "/sys").1.contains(&"rw".to_owned()));

    let usual = app(json!({})).process().as_ref().unwrap().capabilities().clone().unwrap();
    assert!(usual.bounding().as_ref().unwrap().contains(&oci_spec::runtime::Capability::Mknod));
}

#[test]
fn users_by_name_are_left_to_the_sandbox() {
    let cases = [
        ("", json!({}), (0, 0), "0"),
        ("1000", json!({}), (1000, 0), "1000"),
        ("1000:50", json!({}), (1000, 50), "1000:50"),
        ("www", json!({}), (0, 0), "www"),
        ("www:staff", json!({}), (0, 0), "www:staff"),
        ("1000:staff", json!({}), (1000, 0), "1000:staff"),
        ("www", json!({"runAsUser": 7}), (7, 0), "7"),
        ("www:staff", json!({"runAsGroup": 8}), (0, 8), "www:8"),
    ];
    for (user, context, ids, unresolved) in cases {
        let config = ImageConfig { user: user.into(), ..ImageConfig::default() };
        let plan = World::new(json!({"securityContext": context}), json!({})).with_image(config).plan();
        let spec = &plan.containers[0].spec;
        let found = spec.process().as_ref().unwrap().user();
        assert_eq!((found.uid(), found.gid()), ids, "{user}");
        let annotation =
            spec.annotations().as_ref().and_then(|all| all.get(USER_ANNOTATION)).map(String::as_str);
        assert_eq!(annotation, Some(unresolved), "{user}");
    }
    let config = ImageConfig { user: "www".into(), ..ImageConfig::default() };
    let world = World::new(json!({"securityContext": {"runAsNonRoot": true}}), json!({})).with_image(config);
    assert!(world.error().0.contains("non-numeric user (www)"));
}

#[test]
fn profiles_of_apparmor_need_a_kernel_that_has_it() {
    use crate::plan::AppArmorProfile::{DefaultIfPossible, Inherited, Localhost, RuntimeDefault, Unconfined};
    let profile = |kind: &str, name: Option<&str>| json!({"type": kind, "localhostProfile": name});
    let of = |own: Value, pod: Value, kernel: bool| {
        let context = |profile: Value| json!({"securityContext": {"appArmorProfile": profile}});
        let mut world = World::new(context(own), context(pod));
        world.node.rules.apparmor = kernel;
        world.build().map(|mut plan| plan.containers.remove(0).security.confinement)
    };
    let local = || profile("Localhost", Some("mine"));
    let mine = || Localhost("mine".into());
    let unconfined = || profile("Unconfined", None);
    assert_eq!(of(local(), unconfined(), true).unwrap(), mine());
    assert_eq!(of(Value::Null, local(), true).unwrap(), mine());
    assert_eq!(of(unconfined(), local(), true).unwrap(), Unconfined);
    assert_eq!(of(profile("RuntimeDefault", None), local(), true).unwrap(), RuntimeDefault);
    assert_eq!(of(Value::Null, Value::Null, true).unwrap(), DefaultIfPossible);
    assert_eq!(of(Value::Null, Value::Null, false).unwrap(), Inherited);
    assert_eq!(of(unconfined(), Value::Null, false).unwrap(), Inherited);
    assert_eq!(of(profile("RuntimeDefault", None), Value::Null, false).unwrap(), Inherited);
    assert_eq!(of(local(), Value::Null, false).unwrap_err().reason(), "AppArmor");
}

#[test]
fn the_annotation_for_apparmor_stands_between_container_and_pod() {
    use crate::plan::AppArmorProfile::{Inherited, Localhost, RuntimeDefault, Unconfined};
    let of = |word: &str, own: Value| {
        let pod = json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}});
        let mut world = World::new(json!({"securityContext": own}), pod);
        world.node.rules.apparmor = true;
        let key = "container.apparmor.security.beta.kubernetes.io/app".to_owned();
        world.pod.metadata.annotations = Some([(key, word.to_owned())].into());
        world.build().map(|mut plan| plan.containers.remove(0).security.confinement)
    };
    assert_eq!(of("localhost/my/own", json!({})).unwrap(), Localhost("my/own".into()));
    assert_eq!(of("runtime/default", json!({})).unwrap(), RuntimeDefault);
    assert_eq!(of("runtime/default", json!({"privileged": true})).unwrap(), Inherited);
    assert_eq!(of("unconfined", json!({})).unwrap(), Unconfined);
    let own = json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"}});
    assert_eq!(of("unconfined", own).unwrap(), Localhost("mine".into()));
    assert_eq!(of("localhost/", json!({})).unwrap_err().reason(), "CreateContainerConfigError");
}

#[test]
fn kernel_parameters_of_the_host_are_refused() {
    let plan = |name: &str, host: Value| {
        let mut spec = json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        merge(&mut spec, host);
        let mut world = World::new(json!({}), spec);
        world.node.rules.allowed_unsafe_sysctls =
            ["net.core.*", "net.ipv4.ip_forward", "kernel.*", "fs.mqueue.*"].map(Into::into).into();
        world.build()
    };
    assert!(plan("net.ipv4.tcp_fin_timeout", json!({})).is_ok(), "safe");
    let forbidden = plan("net.ipv4.tcp_mem", json!({})).expect_err("unsafe");
    assert_eq!(forbidden.to_string(), "forbidden sysctl: \"net.ipv4.tcp_mem\" not allowlisted");
    for good in
        ["net.core.somaxconn", "net/ipv4/ip_forward", "kernel.shmmax", "kernel.sem", "fs.mqueue.msg_max"]
    {
        assert!(plan(good, json!({})).is_ok(), "{good}");
    }
    for bad in
        ["kernel.panic", "vm.swappiness", "net", "net..ipv4", "net/../kernel/panic", "net.ipv4/../../x", ""]
    {
        let error = plan(bad, json!({})).expect_err(bad);
        assert_eq!(error.reason(), "CreateContainerConfigError");
    }
    assert!(plan("net.core.somaxconn", json!({"hostNetwork": true})).is_err());
    assert!(plan("kernel.shmmax", json!({"hostIPC": true})).is_err());
}
