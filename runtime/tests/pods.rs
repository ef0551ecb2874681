//! Pods as they really run: needs root, and reports its tests as ignored to anybody else.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "pods/amounts.rs"]
mod amounts;
#[path = "pods/escapes.rs"]
mod escapes;
#[path = "pods/foreign.rs"]
mod foreign;
#[path = "pods/habits.rs"]
mod habits;
#[path = "pods/inside.rs"]
mod inside;
#[path = "pods/isolation.rs"]
mod isolation;
#[path = "pods/listener.rs"]
mod listener;
#[path = "pods/names.rs"]
mod names;
#[path = "pods/node.rs"]
mod node;
#[path = "pods/probes.rs"]
mod probes;
#[path = "pods/refused.rs"]
mod refused;
#[path = "pods/requests.rs"]
mod requests;
#[path = "pods/resizes.rs"]
mod resizes;
#[path = "pods/rights.rs"]
mod rights;
#[path = "pods/socket.rs"]
mod socket;
#[path = "pods/users.rs"]
mod users;
#[path = "pods/volumes.rs"]
mod volumes;
#[path = "pods/volumes_files.rs"]
mod volumes_files;
#[path = "pods/volumes_live.rs"]
mod volumes_live;
#[path = "pods/volumes_mounts.rs"]
mod volumes_mounts;
#[path = "pods/watched.rs"]
mod watched;

use amounts::*;
use escapes::*;
use foreign::*;
use habits::*;
use inside::*;
use isolation::*;
use names::*;
use node::{Node, Script, is_alive, until};
use probes::*;
use requests::*;
use resizes::*;
use rights::*;
use runtime::plan::{Resources, Rootfs};
use runtime::state::{ContainerState, PodState, Stage, Termination};
use socket::*;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use users::*;
use volumes::*;
use volumes_files::*;
use volumes_live::*;
use volumes_mounts::*;
use watched::*;

type Test = fn(Node) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), (|node| Box::pin($name(node))) as Test)),*] };
}

fn main() -> ExitCode {
    node::run(TESTS)
}

const TESTS: &[(&str, Test)] = tests![
    a_program_runs_and_its_output_is_logged,
    exit_codes_and_signals_are_told,
    a_program_that_is_missing_cannot_run,
    init_containers_run_before_in_order,
    an_allocator_over_its_limit_is_oom_killed,
    a_cpu_quota_holds_a_spinner,
    a_pids_limit_stops_a_fork_bomb,
    grace_ends_in_sigkill_for_everything,
    a_program_is_told_to_end_when_it_can_hear_it,
    a_crash_is_repaired_while_no_agent_is_there,
    containers_die_with_their_supervisor,
    a_pod_stopped_by_a_shutdown_goes_on_after_it,
    pids_stay_when_the_agent_comes_back,
    links_in_an_image_lead_nowhere_out,
    fifty_pods_run_at_once,
    a_link_in_a_volume_leads_nowhere_out,
    a_link_in_a_volume_in_memory_leads_nowhere_out,
    a_volume_in_memory_is_shared_and_has_its_size,
    a_race_for_a_sub_path_is_lost,
    a_read_only_mount_cannot_be_written,
    what_is_below_is_read_only_only_if_asked,
    mounts_pass_where_they_are_asked_to_and_nowhere_else,
    what_the_host_keeps_to_itself_is_not_mounted_both_ways,
    a_volume_in_memory_is_shared_by_what_is_mounted_in_it,
    an_image_is_a_volume_that_nobody_changes,
    volumes_belong_to_the_pods_group,
    volumes_have_the_modes_and_options_that_are_asked_for,
    files_follow_their_objects_all_at_once,
    a_token_is_the_pods_own_and_is_made_anew,
    a_pod_knows_itself,
    a_pod_has_namespaces_of_its_own,
    a_pod_can_stay_in_the_hosts_namespaces,
    a_container_cannot_reach_the_host,
    a_privileged_container_may_nearly_all,
    the_supervisors_program_is_out_of_reach,
    the_hosts_root_is_a_copy_without_the_agents_folders,
    users_have_names_and_groups,
    groups_of_the_image_can_be_left_out,
    numbers_stand_over_the_images_user,
    the_pods_address_is_in_the_environment,
    kernel_parameters_are_the_pods_own,
    a_supervisor_answers_nonsense_and_goes_on,
    a_supervisor_does_not_wait_for_its_clients,
    a_flood_of_output_is_logged_to_its_last_line,
    readiness_follows_what_the_server_answers,
    a_failed_liveness_probe_restarts_the_container,
    a_probe_that_hangs_is_timed_out,
    hooks_run_in_the_container_after_its_start_and_before_its_end,
    a_hook_that_fails_is_told_and_ends_the_container,
    sidecars_serve_from_before_to_after,
    a_probe_asks_where_and_what_it_was_told_to,
    a_probe_waits_and_counts_as_it_was_told,
    hooks_of_every_kind_reach_whom_they_name,
    policies_and_deadlines_end_or_repeat_a_run,
    the_last_words_come_from_where_they_were_asked_for,
    rules_and_signals_of_a_container_are_its_own,
    a_command_runs_in_everything_that_is_the_containers,
    what_cannot_be_run_inside_says_why,
    a_terminal_is_one_of_the_containers_own,
    a_connection_leads_to_a_port_of_the_pods_own,
    a_process_that_comes_in_brings_nothing_along,
    containers_come_and_go_by_request,
    a_containers_limits_and_log_change_while_it_runs,
    a_container_sees_the_host_as_it_is_when_it_comes,
    a_container_that_is_added_can_mount_an_image,
    who_attaches_talks_to_the_program,
    a_containers_own_terminal_can_be_attached_to,
    a_container_without_open_input_is_at_its_end,
    a_container_says_when_it_is_ready_and_how_it_is,
    anybody_in_the_container_can_say_it,
    a_container_without_a_sign_of_life_is_aborted,
    a_stuck_container_that_catches_nothing_is_killed,
    starts_are_counted_and_then_there_are_no_more,
    connections_wait_while_the_container_restarts,
    a_socket_of_the_host_goes_from_pod_to_pod,
    a_socket_is_the_programs_wherever_it_is_a_process,
    credentials_are_files_in_memory_for_the_user_alone,
    every_known_way_out_is_refused,
    without_a_filter_the_kernel_itself_would_let_some_through,
    profiles_come_from_the_pod_the_container_and_the_nodes_folder,
    devices_are_opened_by_the_rules,
    a_working_directory_leads_nowhere_out,
    a_sub_path_that_changes_all_the_time_leads_nowhere_out,
    pods_meet_neither_one_another_nor_the_host,
    another_runtime_makes_the_containers,
    what_another_runtime_cannot_make_is_told,
    containers_of_a_pod_can_share_their_processes,
    the_whole_name_can_be_the_hosts,
    what_a_container_may_use_is_in_its_cgroup,
    pods_are_in_cgroups_of_their_quality,
    limits_change_while_a_container_runs,
    a_pod_can_have_users_of_its_own,
    a_pod_has_the_users_that_it_is_asked_to,
    a_pod_has_the_names_that_it_asks_for,
    other_policies_take_the_hosts_resolvers,
    every_source_of_a_variable_reaches_the_program,
    variables_come_from_files_that_the_pod_has_written,
    capabilities_are_added_and_dropped,
    a_read_only_root_has_writable_volumes,
    proc_can_be_shown_whole_to_users_of_the_pods_own,
    users_of_the_pod_hold_where_containers_have_none,
    nobody_gains_rights_who_may_not,
    keys_are_files_with_the_names_and_modes_that_items_say,
    sources_are_projected_into_one_folder,
    a_path_of_the_host_is_what_its_type_says,
    a_sub_path_can_be_named_by_variables,
    a_pods_own_limits_stand_over_its_containers,
    what_a_pod_costs_beside_its_containers_is_on_top,
    huge_pages_are_limited_where_the_kernel_can_and_harm_nowhere,
];

fn ended(state: &PodState) -> Option<Termination> {
    match &state.containers[0].state {
        ContainerState::Terminated(termination) => Some(termination.clone()),
        ContainerState::Waiting { .. } | ContainerState::Running { .. } => None,
    }
}

fn pid(state: &PodState) -> Option<i32> {
    match &state.containers[0].state {
        ContainerState::Running { pid, .. } => Some(*pid),
        ContainerState::Waiting { .. } | ContainerState::Terminated(_) => None,
    }
}

async fn to_the_end(node: &Node, uid: &str) -> Termination {
    let state = node.wait(uid, |state| state.stage == Stage::Finished).await;
    ended(&state).unwrap()
}

async fn a_program_runs_and_its_output_is_logged(node: Node) {
    let script = Script::once("echo out; echo err >&2; hostname; echo why >/dev/termination-log");
    node.launch("one", &script).await;
    let end = to_the_end(&node, "one").await;
    assert_eq!((end.exit_code, end.reason.as_str(), end.message.as_str()), (0, "Completed", "why\n"));
    let log = node.log("one", 0);
    for line in [" stdout F out\n", " stderr F err\n", " stdout F one\n"] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
}

async fn exit_codes_and_signals_are_told(node: Node) {
    for (uid, text, code, signal) in
        [("three", "exit 3", 3, None), ("nine", "sh -c 'kill -9 $PPID'; sleep 9", 137, None)]
    {
        node.launch(uid, &Script::once(text)).await;
        if uid == "nine" {
            // Nobody in a process namespace can kill its first process: the host can.
            node.wait(uid, |state| pid(state).is_some()).await;
            node.runtime().signal(uid, "main", 9).await.unwrap();
        }
        let end = to_the_end(&node, uid).await;
        let signal = if uid == "nine" { Some(9) } else { signal };
        assert_eq!((end.exit_code, end.signal, end.reason.as_str()), (code, signal, "Error"));
    }
}

async fn a_program_that_is_missing_cannot_run(node: Node) {
    let mut plan = node.plan("none", &Script::once(""));
    let mut process = plan.containers[0].spec.process().clone().unwrap();
    process.set_args(Some(vec!["no-such-program".into()]));
    plan.containers[0].spec.set_process(Some(process));
    node.launch_plan(&plan).await;
    let end = to_the_end(&node, "none").await;
    assert_eq!((end.exit_code, end.reason.as_str()), (127, "ContainerCannotRun"));
    assert!(end.message.contains("no-such-program"), "{}", end.message);
}

async fn init_containers_run_before_in_order(node: Node) {
    let mut plan = node.plan("init", &Script::once("cat /data/order"));
    let data = node.folder("data");
    let bind = |script: &str| {
        let mut container = node.plan("x", &Script::once(script)).containers.remove(0);
        node::bind(&mut container.spec, &data, Path::new("/data"));
        container
    };
    for name in ["first", "second"] {
        let mut container = bind(&format!("echo {name} >> /data/order"));
        name.clone_into(&mut container.name);
        plan.init_containers.push(container);
    }
    plan.containers = vec![bind("cat /data/order")];
    node.launch_plan(&plan).await;
    assert_eq!(to_the_end(&node, "init").await.exit_code, 0);
    let log = node.log("init", 0);
    let first = log.find("first").unwrap();
    assert!(log.find("second").unwrap() > first, "{log}");
}

async fn an_allocator_over_its_limit_is_oom_killed(node: Node) {
    let mut script = Script::once("head -c 200000000 /dev/zero | exec tail -c 199000000 >/dev/null");
    script.resources = Resources { memory_bytes: Some(64 << 20), ..Resources::default() };
    node.launch("oom", &script).await;
    let end = to_the_end(&node, "oom").await;
    assert_eq!((end.reason.as_str(), end.exit_code), ("OOMKilled", 137));
}

async fn a_cpu_quota_holds_a_spinner(node: Node) {
    let mut script = Script::forever("while :; do :; done");
    script.resources = Resources { cpu_millis: Some(200), ..Resources::default() };
    node.launch("spin", &script).await;
    node.wait("spin", |state| pid(state).is_some()).await;
    let stats = || node.runtime().stats("spin").containers.remove("main").unwrap();
    let (began, before) = (std::time::Instant::now(), stats());
    let after = until("ten throttled periods", || {
        Some(stats()).filter(|now| now.throttled_periods >= before.throttled_periods + 10)
    })
    .await;
    let used = after.cpu_nanoseconds - before.cpu_nanoseconds;
    // A tenth more, and one period's quota that can fall on either side of a reading.
    let allowed = began.elapsed().as_nanos() / 5 * 11 / 10 + 20_000_000;
    assert!(u128::from(used) <= allowed, "used {used} ns of {allowed}");
    assert!(used > 0);
}

async fn a_pids_limit_stops_a_fork_bomb(node: Node) {
    let mut script = Script::forever("bomb() { bomb | bomb & }; bomb; exec sleep 1000");
    script.resources = Resources { pids: Some(20), ..Resources::default() };
    node.launch("bomb", &script).await;
    node.wait("bomb", |state| pid(state).is_some()).await;
    let fork_failed = || node.log("bomb", 0).to_lowercase().contains("fork").then_some(());
    until("a refused fork", fork_failed).await;
    assert!(node.runtime().stats("bomb").containers["main"].pids <= 20);
}

async fn grace_ends_in_sigkill_for_everything(node: Node) {
    let text = "trap '' TERM; (setsid sleep 1000 & ) ; echo up; while :; do sleep 1; done";
    node.launch("deaf", &Script::forever(text)).await;
    until("the program's word", || node.log("deaf", 0).contains("up").then_some(())).await;
    let pids = node.runtime().stats("deaf").containers["main"].processes.clone();
    assert!(pids.len() >= 2, "{pids:?}");
    node.runtime().stop("deaf", 1).await.unwrap();
    let end = to_the_end(&node, "deaf").await;
    assert_eq!((end.exit_code, end.signal), (137, Some(9)));
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
}

async fn a_program_is_told_to_end_when_it_can_hear_it(node: Node) {
    let folder = node.folder("slow-tools");
    let text = "echo up; until [ -e /t/go ]; do sleep 0.05; done
        trap 'exit 7' TERM; while :; do sleep 0.05; done";
    let mounts = serde_json::json!({"volumeMounts": [{"name": "t", "mountPath": "/t"}]});
    let volumes = serde_json::json!({"volumes": [{"name": "t", "hostPath": {"path": folder}}]});
    node.launch_plan(&node.built("slow", text, &mounts, &volumes)).await;
    until("the program's word", || node.log("slow", 0).contains("up").then_some(())).await;
    node.runtime().stop("slow", 3000).await.unwrap();
    std::fs::write(folder.join("go"), "").unwrap();
    let end = to_the_end(&node, "slow").await;
    assert_eq!((end.exit_code, end.signal), (7, None));
}

async fn a_crash_is_repaired_while_no_agent_is_there(mut node: Node) {
    node.launch("crash", &Script::forever("exec sleep 1000")).await;
    let before = node.wait("crash", |state| pid(state).is_some()).await;
    node.detach();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid(&before).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    until("the second run", || {
        node.saved("crash").filter(|state| state.containers[0].restarts == 1 && pid(state).is_some())
    })
    .await;
    node.attach().await;
    let after = node.wait("crash", |state| pid(state).is_some()).await;
    assert_eq!(after.supervisor_pid, before.supervisor_pid);
    assert_ne!(pid(&after), pid(&before));
    assert_eq!(after.containers[0].restarts, 1);
    assert_eq!(after.containers[0].last.as_ref().unwrap().signal, Some(9));
}

async fn containers_die_with_their_supervisor(node: Node) {
    node.launch("lost", &Script::forever("sleep 1000 & exec sleep 1000")).await;
    let state = node.wait("lost", |state| pid(state).is_some()).await;
    let supervisor = rustix::process::Pid::from_raw(state.supervisor_pid).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    node.wait("lost", |state| state.stage == Stage::Lost).await;
    let container = pid(&state).unwrap();
    until("the container's end", || (!is_alive(container)).then_some(())).await;
    // The same pod can be made again, and its count goes on.
    node.launch("lost", &Script::forever("exec sleep 1000")).await;
    let again = node.wait("lost", |state| state.stage == Stage::Started && pid(state).is_some()).await;
    assert_eq!(again.containers[0].restarts, 1);
}

async fn a_pod_stopped_by_a_shutdown_goes_on_after_it(node: Node) {
    let script = Script::forever("trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done");
    node.launch("down", &script).await;
    until("the program's word", || node.log("down", 0).contains("up").then_some(())).await;
    let state = node.wait("down", |state| pid(state).is_some()).await;
    let supervisor = rustix::process::Pid::from_raw(state.supervisor_pid).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::TERM).unwrap();
    let lost = node.wait("down", |state| state.stage == Stage::Lost).await;
    assert_eq!(ended(&lost).unwrap().reason, "Completed");
    node.launch("down", &script).await;
    let again = node.wait("down", |state| pid(state).is_some()).await;
    assert_eq!(again.containers[0].restarts, 1);
}

async fn pids_stay_when_the_agent_comes_back(mut node: Node) {
    for uid in ["a", "b"] {
        node.launch(uid, &Script::forever("exec sleep 1000")).await;
        node.wait(uid, |state| pid(state).is_some()).await;
    }
    let before = node.runtime().observe();
    node.detach();
    node.attach().await;
    assert_eq!(node.runtime().observe(), before);
    node.runtime().signal("a", "main", 15).await.unwrap_or_else(|error| panic!("{error}"));
}

async fn links_in_an_image_lead_nowhere_out(node: Node) {
    let image = node.folder("image");
    std::fs::create_dir(image.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", image.join("bin/busybox")).unwrap();
    for (link, to) in [("bin/sh", "busybox"), ("slash", "/"), ("up", "../../../../..")] {
        std::os::unix::fs::symlink(to, image.join(link)).unwrap();
    }
    let text =
        "busybox ls /; busybox cat /evenkeel-link-test/file; busybox ps | busybox wc -l; busybox mount";
    let mut plan = node.plan("links", &Script::once(text));
    plan.containers[0].rootfs = Rootfs::Layers(vec![image]);
    let data = node.folder("given");
    std::fs::write(data.join("file"), "given\n").unwrap();
    node::bind(&mut plan.containers[0].spec, &data, Path::new("/slash/evenkeel-link-test"));
    node::bind(&mut plan.containers[0].spec, &data, Path::new("/up/evenkeel-link-up"));
    node.launch_plan(&plan).await;
    let end = to_the_end(&node, "links").await;
    let log = node.log("links", 0);
    assert_eq!(end.exit_code, 0, "{log} {}", end.message);
    assert!(log.contains("F given\n") && log.contains("F evenkeel-link-up\n"), "{log}");
    assert!(!Path::new("/evenkeel-link-test").exists() && !Path::new("/evenkeel-link-up").exists());
    assert!(!log.contains("/dev/vda on / ") && log.contains("overlay on / "), "{log}");
}

async fn fifty_pods_run_at_once(node: Node) {
    let uids: Vec<String> = (0..50).map(|number| format!("many{number}")).collect();
    let script = Script::forever("exec sleep 1000");
    let began = std::time::Instant::now();
    futures_of(uids.iter().map(|uid| node.launch(uid, &script))).await;
    for uid in &uids {
        node.wait(uid, |state| pid(state).is_some()).await;
    }
    println!("50 pods run after {:?}", began.elapsed());
    let began = std::time::Instant::now();
    futures_of(uids.iter().map(|uid| async { node.runtime().remove(uid).await.unwrap() })).await;
    println!("50 pods are gone after {:?}", began.elapsed());
    assert!(node.runtime().observe().is_empty());
}

/// Drives all to their ends together.
async fn futures_of(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
