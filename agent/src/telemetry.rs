//! Where the agent's own log goes: the journal when systemd reads our stderr
//! through it, else stderr.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The log goes out from here on, at the level that `KEEL_LOG` names
/// (the syntax is `tracing`'s: `info,runtime=debug`). If it names none, at `info`, and without what
/// the log's library tells of its own work.
///
/// # Errors
/// If `KEEL_LOG` cannot be read as such, or a log was set up before.
pub(crate) fn start() -> anyhow::Result<()> {
    let directives = std::env::var("KEEL_LOG").unwrap_or_else(|_| "info,openraft=off".into());
    let filter = EnvFilter::try_new(&directives)
        .with_context(|| format!("KEEL_LOG={directives} is no filter; try `info` or `info,runtime=debug`"))?;
    let registry = tracing_subscriber::registry().with(filter);
    // systemd sets JOURNAL_STREAM when stderr is the journal: then fields stay fields.
    if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        return registry.with(journal).try_init().context("the log is already set up");
    }
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    registry.with(layer).try_init().context("the log is already set up")
}
