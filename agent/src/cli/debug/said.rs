//! What a container without a terminal says, from its first byte: by its log, which has what it
//! said before anybody was attached.

use super::super::attach::{How, warn_of_missing_input};
use super::super::exec::copy_input;
use super::super::inside::Inside;
use super::super::output::Output;
use super::super::{CommandError, wait_for};
use super::{ended, until_begun};
use crate::client::{Client, Lines, ObjectPath, Query, Selectors};
use manifests::Kind;
use runtime::pods::Attached;
use std::fs::File;
use std::os::fd::AsFd as _;

/// How much of it has been shown.
pub(super) struct Said {
    pub(super) client: Client,
    pub(super) path: ObjectPath,
    pub(super) container: String,
    pub(super) bytes: usize,
}

impl Said {
    /// Shows what the container says, and passes our input on, until it ends.
    ///
    /// # Errors
    /// If it has ended already.
    pub(super) fn follow(&mut self, inside: &Inside, how: How) -> Result<(), CommandError> {
        let null = File::options().write(true).open("/dev/null").map_err(CommandError::Runtime)?;
        let outputs = [null.as_fd(), null.as_fd()];
        let attached = runtime::pods::attach(&inside.socket, &inside.container, how.stdin, outputs)?;
        let Attached { input, execution, .. } = attached;
        warn_of_missing_input(inside, how, input.as_ref());
        if let Some(input) = input.filter(|_| how.stdin) {
            copy_input(File::from(input));
        }
        let (sender, ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(execution.wait()));
        wait_for(async {
            let lines = self.open(true).await?;
            tokio::select! {
                shown = self.show(lines) => shown,
                // How it ended, its status says.
                _ = ended => Ok(()),
            }
        })
    }

    async fn open(&self, follow: bool) -> Result<Lines, CommandError> {
        let mut query = Query::default();
        query.push("container", &self.container);
        if follow {
            query.push("follow", "true");
        }
        Ok(self.client.log(&self.path, &query).await?)
    }

    async fn show(&mut self, mut lines: Lines) -> Result<(), CommandError> {
        let mut output = Output::stdout();
        while let Some(line) = lines.next().await? {
            self.bytes += line.len();
            output.write(&line)?;
        }
        Ok(())
    }

    /// Shows the rest of what the container said; its exit code.
    pub(super) async fn finish(mut self) -> Result<i32, CommandError> {
        let code = self.until_ended().await?;
        let mut shown = std::mem::take(&mut self.bytes);
        let mut output = Output::stdout();
        let mut lines = self.open(false).await?;
        while let Some(line) = lines.next().await? {
            let known = shown.min(line.len());
            shown -= known;
            output.write(&line[known..])?;
        }
        Ok(code)
    }

    async fn until_ended(&self) -> Result<i32, CommandError> {
        loop {
            let (pod, status) = until_begun(&self.client, &self.path, &self.container).await?;
            if let Some(code) = ended(&status) {
                return Ok(code);
            }
            let version = pod.metadata.resource_version.unwrap_or_default();
            let selectors = Selectors::named(pod.metadata.name.as_deref().unwrap_or_default());
            let collection = ObjectPath::all(Kind::Pod, pod.metadata.namespace.as_deref());
            // Any event is a reason to look again; an ended watch as well.
            self.client.watch(&collection, &selectors, &version).await?.next().await?;
        }
    }
}
