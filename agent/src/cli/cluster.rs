//! `keel cluster`: who its members are, who leads, and whether anything can be written.

mod rescue;

use super::CommandError;
use super::connection::Connection;
use super::output::Output;
use crate::client::{ClusterView, MemberView};
use crate::print::Table;
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// A member that was silent for longer is shown as lost.
const LOST_SECONDS: u64 = 5;

/// The members of the cluster, as this node sees them; and ways out when it is lost.
///
/// Exits 1 if nothing can be written because no majority answers.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Action {
    Reset(rescue::ResetArgs),
    /// A copy of all objects in one file: write it, or begin anew with it
    #[command(subcommand)]
    Snapshot(rescue::SnapshotAction),
}

pub(super) async fn run(args: &ClusterArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    match &args.action {
        Some(Action::Reset(reset)) => return rescue::reset(reset, &args.connection, output),
        Some(Action::Snapshot(action)) => return rescue::snapshot(action, &args.connection, output).await,
        None => {}
    }
    let view = args.connection.client()?.cluster().await?;
    output.write(render(&view))?;
    Ok(if view.writable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn state(member: &MemberView) -> &'static str {
    match member.silent_seconds {
        Some(seconds) if seconds > LOST_SECONDS => "silent",
        Some(_) | None if member.disk_stuck_seconds.is_some() => "its disk refuses",
        Some(_) => "answers",
        None if member.is_self => "this node",
        None => "",
    }
}

fn render(view: &ClusterView) -> String {
    let mut table = Table { heads: vec!["ID", "NAME", "ADDRESS", "ZONE", "ROLE", "STATE"], rows: Vec::new() };
    for member in &view.members {
        let role = match (member.leader, member.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let row = [&member.id.to_string(), &member.name, &member.address, &member.zone, role, state(member)];
        table.rows.push(row.into_iter().map(|cell: &str| cell.to_owned()).collect());
    }
    let mut text = format!("cluster {}\n{}", view.cluster, table.render());
    if let Some(seconds) = view.staleness_seconds.filter(|seconds| *seconds > LOST_SECONDS as f64) {
        text.push_str(&format!("This node has not heard all that was written for {seconds:.0} s.\n"));
    }
    let voters = view.members.iter().filter(|member| member.voter).count();
    if view.writable {
        let spare = voters.saturating_sub(1) / 2;
        text.push_str(&format!("{voters} vote; {spare} of them may be lost before nothing can be changed\n"));
    } else {
        text.push_str(
            "No majority of the voters answers: nothing can be changed. What runs goes on running, and \
             this node answers from what it knows. Bring back a voter; or, if they are lost for good, \
             `keel cluster reset --force` begins anew from this node's copy.\n",
        );
    }
    if voters % 2 == 0 && voters > 0 {
        text.push_str("An even number votes: one more member would make it safer.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, voter: bool, leader: bool) -> MemberView {
        MemberView { id, name: format!("n{id}"), voter, leader, is_self: leader, ..MemberView::default() }
    }

    #[test]
    fn it_says_who_leads_and_how_many_may_be_lost() {
        let members = vec![member(1, true, true), member(2, true, false), member(3, true, false)];
        let view = ClusterView { cluster: "c".into(), writable: true, staleness_seconds: None, members };
        let text = render(&view);
        assert!(text.contains("leader") && text.contains("3 vote; 1 of them may be lost"), "{text}");
        let mut full = view.clone();
        full.members[1].disk_stuck_seconds = Some(3);
        assert!(render(&full).contains("its disk refuses"), "{}", render(&full));
        let stuck = ClusterView { writable: false, ..view };
        assert!(render(&stuck).contains("nothing can be changed"), "{}", render(&stuck));
    }
}
