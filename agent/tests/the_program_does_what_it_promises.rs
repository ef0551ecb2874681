//! The whole program from a commit to running pods: needs root, and reports its
//! tests as ignored to anybody else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

#[path = "end_to_end/a_commit_becomes_pods.rs"]
mod a_commit_becomes_pods;
#[path = "end_to_end/a_lost_node_is_not_asked.rs"]
mod a_lost_node_is_not_asked;
#[path = "end_to_end/api.rs"]
mod api;
#[path = "end_to_end/commands_go_inside.rs"]
mod commands_go_inside;
#[path = "end_to_end/commands_look_into_pods.rs"]
mod commands_look_into_pods;
#[path = "end_to_end/fields_reach_the_kernel.rs"]
mod fields_reach_the_kernel;
#[path = "end_to_end/git_has_the_last_word.rs"]
mod git_has_the_last_word;
#[path = "end_to_end/harness.rs"]
mod harness;
#[path = "end_to_end/ingresses_lead_to_pods.rs"]
mod ingresses_lead_to_pods;
#[path = "end_to_end/logs_and_lists_follow.rs"]
mod logs_and_lists_follow;
#[path = "end_to_end/machine.rs"]
mod machine;
#[path = "end_to_end/names_lead_to_pods.rs"]
mod names_lead_to_pods;
#[path = "end_to_end/nodes_share_images.rs"]
mod nodes_share_images;
#[path = "end_to_end/nodes_work_together.rs"]
mod nodes_work_together;
#[path = "end_to_end/nothing_depends_on_git.rs"]
mod nothing_depends_on_git;
#[path = "end_to_end/nothing_depends_on_the_agent.rs"]
mod nothing_depends_on_the_agent;
#[path = "end_to_end/plugins_make_the_network.rs"]
mod plugins_make_the_network;
#[path = "end_to_end/pods_by_request.rs"]
mod pods_by_request;
#[path = "end_to_end/pods_of_ipv6_alone.rs"]
mod pods_of_ipv6_alone;
#[path = "end_to_end/pods_reach_one_another.rs"]
mod pods_reach_one_another;
#[path = "end_to_end/pods_reach_other_nodes.rs"]
mod pods_reach_other_nodes;
#[path = "end_to_end/policies_hold.rs"]
mod policies_hold;
#[path = "../../runtime/tests/pods/refused.rs"]
mod refused;
#[path = "end_to_end/repository.rs"]
mod repository;
#[path = "end_to_end/services_lead_to_pods.rs"]
mod services_lead_to_pods;
#[path = "end_to_end/shelf.rs"]
mod shelf;
#[path = "end_to_end/site.rs"]
mod site;
#[path = "end_to_end/the_agent_tells_how_it_is.rs"]
mod the_agent_tells_how_it_is;
#[path = "end_to_end/the_node_cares_for_itself.rs"]
mod the_node_cares_for_itself;
#[path = "end_to_end/the_world_reaches_services.rs"]
mod the_world_reaches_services;
#[path = "end_to_end/traces.rs"]
mod traces;
#[path = "end_to_end/workloads_run_to_their_end.rs"]
mod workloads_run_to_their_end;
#[path = "end_to_end/workloads_wait_for_one_another.rs"]
mod workloads_wait_for_one_another;
#[path = "end_to_end/yaml.rs"]
mod yaml;

use harness::Test;
use std::process::ExitCode;

macro_rules! tests {
    ($($theme:ident: $($name:ident),* $(,)?);* $(;)?) => {
        vec![$($((stringify!($name), $theme::$name as Test)),*),*]
    };
}

/// The longest first.
fn of_pods() -> Vec<(&'static str, Test)> {
    tests![
        nothing_depends_on_the_agent:
            twenty_kills_of_the_agent_in_a_rollout_harm_nothing,
            a_crash_while_the_agent_is_dead_is_repaired,
            an_agent_that_stops_leaves_its_pods_alone;
        nodes_work_together:
            three_nodes_run_what_one_of_them_can_fetch,
            a_survivor_begins_anew_and_others_come_back_to_it;
        pods_reach_other_nodes:
            pods_of_three_nodes_reach_one_another_by_addresses_that_they_are_given;
        a_lost_node_is_not_asked:
            nobody_is_led_to_a_node_that_is_lost;
        nodes_share_images:
            all_nodes_run_what_one_of_them_can_pull,
            a_peer_that_dies_in_the_middle_is_gone_on_with;
        pods_by_request:
            a_sandbox_lives_by_the_words_of_its_client,
            containers_share_processes_as_they_are_asked_to,
            a_container_of_a_client_is_kept_apart_too,
            commands_and_terminals_go_over_websockets;
        workloads_run_to_their_end:
            a_cron_job_runs_at_its_minute,
            a_job_runs_to_completion_and_goes_after_its_time,
            a_job_that_fails_too_often_has_failed,
            an_allocator_over_its_limit_is_oom_killed,
            a_change_of_a_config_map_reaches_a_running_pod,
            a_pod_that_cannot_start_says_why_and_leaves_nothing,
            a_pod_without_its_config_map_starts_once_it_is_there;
        a_commit_becomes_pods:
            a_commit_becomes_running_pods_and_its_removal_leaves_nothing,
            a_changed_pod_is_made_anew;
        nothing_depends_on_git:
            a_broken_revision_is_refused_whole,
            a_rewritten_history_needs_consent,
            an_emptied_path_needs_consent,
            an_agent_without_its_repository_runs_what_it_had;
        git_has_the_last_word:
            what_is_deleted_by_hand_comes_back,
            what_is_changed_by_hand_is_put_back;
        commands_go_inside:
            a_command_runs_in_a_container,
            files_are_copied_with_the_containers_rights,
            a_local_port_leads_to_a_pods_own;
        commands_look_into_pods:
            who_attaches_speaks_to_the_container,
            a_container_is_added_to_a_pod_that_runs,
            a_pod_that_ends_does_not_wait_for_what_was_added,
            a_pod_looks_into_the_node;
    ]
}

fn of_the_node() -> Vec<(&'static str, Test)> {
    tests![
        the_node_cares_for_itself:
            a_shutdown_waits_for_pods_and_brings_them_back,
            a_pod_over_its_disk_limit_is_evicted,
            pressure_ends_the_least_important_pod_first_and_keeps_others_out,
            a_node_says_what_pods_may_use,
            labels_and_tokens_reach_a_pod;
        fields_reach_the_kernel:
            tokens_are_where_they_are_wanted_and_grace_is_what_it_says,
            probes_over_tls_and_grpc_ask_in_the_pods_network,
            a_class_names_a_runtime_a_place_and_a_price,
            images_come_by_their_policies_and_secrets;
        workloads_wait_for_one_another:
            a_workload_starts_after_those_that_it_requires;
        pods_reach_one_another:
            a_port_of_the_node_leads_to_a_pod,
            a_pod_keeps_its_address_when_its_machine_is_started_anew,
            pods_and_host_reach_one_another;
        pods_of_ipv6_alone:
            a_network_of_ipv6_alone_is_enough;
        plugins_make_the_network:
            pods_are_joined_by_the_plugins_of_a_network,
            a_plugin_that_fails_is_quoted_until_it_works;
        policies_hold:
            a_pod_starts_behind_its_policies;
        services_lead_to_pods:
            a_rollout_and_a_killed_agent_lose_no_request,
            a_services_address_leads_to_its_pods;
        the_world_reaches_services:
            neighbours_and_routers_find_a_load_balancers_address;
        ingresses_lead_to_pods:
            an_ingress_leads_to_pods_with_and_without_tls;
        names_lead_to_pods:
            a_pod_finds_others_by_their_names;
        the_agent_tells_how_it_is:
            metrics_tell_what_runs,
            metrics_of_pods_have_cadvisors_names,
            only_root_and_one_agent_may_have_the_socket,
            every_mistake_in_a_configuration_is_told_at_once;
        logs_and_lists_follow:
            logs_are_followed_cut_and_kept,
            a_long_log_gives_way_and_is_read_as_one,
            a_watched_list_shows_each_change;
    ]
}

fn main() -> ExitCode {
    let mut tests = of_pods();
    tests.extend(of_the_node());
    harness::run(&tests)
}
