//! `keel demo`: the whole of Evenkeel shown on this machine, offline, in a folder
//! of its own, and every trace of it removed again.
//!
//! It checks what it tells: each act waits for what it promises and fails loudly
//! if that does not come true.

mod agent;
mod error;
mod eyes;
mod repository;
mod stage;
mod story;
mod traces;

use error::DemoError;

use crate::print::{Colour, Paint};
use clap::Args;
use stage::Stage;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;
use story::Story;
use tokio::signal::unix::{SignalKind, signal};

/// The name of the demo's Git source.
const SOURCE: &str = "demo";
/// The branch that it follows.
const BRANCH: &str = "main";
/// Lines of the agent's log that are shown when the story fails.
const LOG_TAIL: usize = 30;

/// See it all happen on this machine, in a folder of its own; leaves no trace.
///
/// Makes a Git repository, starts an agent that follows it, and tells a story: pods
/// come up, a push rolls an update out, a broken manifest is refused, a killed process
/// comes back, and pods go on while their agent is killed. Needs root, and no network.
/// Then it waits for Ctrl-C, so that you can look around.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Do not wait: tell the story, remove every trace, and check that none is left
    #[arg(long)]
    once: bool,
    /// If the story fails, leave everything as it is, to be looked at
    #[arg(long)]
    keep: bool,
}

/// Tells the story.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    let narrator = Narrator::new();
    if !rustix::process::geteuid().is_root() {
        narrator.fail(
            "the demo makes namespaces, cgroups and a bridge: it needs root. Try: sudo keel demo --once",
        );
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            narrator.fail(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(play(args, &narrator))
}

/// Waits for Ctrl-C, or for SIGTERM: either clears up.
async fn asked_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// Sets the stage, plays, and clears it, whatever happens in between.
async fn play(args: &DemoArgs, narrator: &Narrator) -> ExitCode {
    let stage = match Stage::set() {
        Ok(stage) => stage,
        Err(error) => {
            narrator.fail(&crate::chain::chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let mut story = Story::new(&stage, narrator);
    let told = tokio::select! {
        // When the story itself waits for Ctrl-C, that is its good end.
        biased;
        told = story.tell(args.once) => told,
        _asked = asked_to_end() => Err(DemoError::Interrupted),
    };
    let links = traces::links(&stage);
    let ended = match told {
        Ok(()) => story.end().await,
        Err(error) => Err(error),
    };
    if let Err(error) = &ended {
        narrator.fail(&crate::chain::chain(error));
        narrator.log_tail(&stage);
        if args.keep {
            narrator.say(&format!("Kept for you to look at: {}", stage.folder.display()));
            return ExitCode::FAILURE;
        }
    }
    drop(story);
    let removed = traces::remove(&stage).await;
    if let Err(error) = &removed {
        narrator.fail(&crate::chain::chain(error));
    }
    let left = traces::left(&stage, &links);
    for trace in &left {
        narrator.fail(&format!("left behind: {trace}"));
    }
    if left.is_empty() {
        narrator.good("No process, mount, link, cgroup or file of the demo is left.");
    }
    let good = ended.is_ok() && removed.is_ok() && left.is_empty();
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells what happens, with the time since the start.
struct Narrator {
    paint: Paint,
    began_at: Instant,
}

impl Narrator {
    fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let paint = Paint::new(terminal, std::env::var_os("NO_COLOR").as_deref());
        Self { paint, began_at: Instant::now() }
    }

    /// The head of an act.
    fn act(&self, title: &str) {
        self.say(&format!("\n{}", self.paint.paint(Colour::Bold, title)));
    }

    /// Something that happened now.
    fn event(&self, text: &str) {
        let at = format!("{:8.3} s", self.began_at.elapsed().as_secs_f64());
        self.say(&format!("  {}  {text}", self.paint.paint(Colour::Dim, &at)));
    }

    /// Something that came true.
    fn good(&self, text: &str) {
        self.say(&format!("  {} {text}", self.paint.paint(Colour::Good, "✔")));
    }

    /// A line as it is. A reader who has gone is no reason to stop before the
    /// machine is clean again.
    fn say(&self, text: &str) {
        let _gone = writeln!(std::io::stdout(), "{text}");
    }

    /// Something that went wrong.
    fn fail(&self, text: &str) {
        let _gone = writeln!(std::io::stderr(), "{} {text}", self.paint.paint(Colour::Bad, "error:"));
    }

    /// The last lines of the agent's log.
    fn log_tail(&self, stage: &Stage) {
        let log = std::fs::read_to_string(stage.agent_log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let _gone = writeln!(std::io::stderr(), "The agent's last lines:");
        for line in &lines[lines.len().saturating_sub(LOG_TAIL)..] {
            let _gone = writeln!(std::io::stderr(), "  {line}");
        }
    }
}
