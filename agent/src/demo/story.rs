//! The acts of the story. Each does one thing and waits until it is true.

use super::agent::Agent;
use super::eyes::{View, container_pids, tell_pods};
use super::repository::Clone;
use super::stage::Stage;
use super::{DemoError, Narrator};
use crate::client::{Client, ObjectPath, Query};
use crate::print::{self, Columns, Table, short_commit};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use manifests::revision::Revision;
use manifests::{Kind, Object};
use rustix::process::{Pid as Process, Signal, kill_process};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Instant;

/// The namespace of the examples.
const NAMESPACE: &str = "demo";

/// The manifests of `manifests/examples`.
const EXAMPLES: [(&str, &str); 4] = [
    ("namespace.yaml", include_str!("../../../manifests/examples/namespace.yaml")),
    ("web.yaml", include_str!("../../../manifests/examples/web.yaml")),
    ("watcher.yaml", include_str!("../../../manifests/examples/watcher.yaml")),
    ("jobs.yaml", include_str!("../../../manifests/examples/jobs.yaml")),
];

/// A manifest with two mistakes.
const BROKEN: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: broken
  namespace: demo
spec:
  replica: 3
  selector:
    matchLabels:
      app: broken
  template:
    metadata:
      labels:
        app: borken
    spec:
      containers:
        - name: broken
          image: \"host:\"
";

/// The story so far.
pub(super) struct Story<'a> {
    stage: &'a Stage,
    narrator: &'a Narrator,
    client: Client,
    agent: Option<Agent>,
    clone: Option<Clone>,
}

impl<'a> Story<'a> {
    /// Before the first act.
    pub(super) fn new(stage: &'a Stage, narrator: &'a Narrator) -> Self {
        Self { stage, narrator, client: Client::new(stage.socket()), agent: None, clone: None }
    }

    /// Plays every act, and waits for Ctrl-C unless `once`.
    ///
    /// # Errors
    /// The first promise that did not come true.
    pub(super) async fn tell(&mut self, once: bool) -> Result<(), DemoError> {
        self.begin().await?;
        self.first_push().await?;
        self.rolling_update().await?;
        self.broken_manifest().await?;
        self.killed_container().await?;
        self.killed_agent().await?;
        if !once {
            self.look_around().await?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), DemoError> {
        let Stage { folder, bridge, pod_cidr, cgroup, .. } = self.stage;
        self.narrator.act("1. A repository and an agent");
        self.narrator
            .event(&format!("folder {}, bridge {bridge} ({pod_cidr}), cgroup {cgroup}", folder.display()));
        self.stage.write_configuration()?;
        self.clone = Some(Clone::make(&self.stage.repository(), &self.stage.work())?);
        self.start_agent().await
    }

    async fn start_agent(&mut self) -> Result<(), DemoError> {
        let began_at = Instant::now();
        let agent = Agent::start(self.stage).await?;
        self.narrator.event(&format!("agent ready after {}, PID {}", millis(began_at), agent.pid()));
        self.agent = Some(agent);
        Ok(())
    }

    async fn first_push(&mut self) -> Result<(), DemoError> {
        self.narrator.act("2. A push is the whole deployment");
        for (name, content) in EXAMPLES {
            self.clone()?.write(name, content)?;
        }
        let began_at = Instant::now();
        self.push("Deploy the examples")?;
        self.tell_while(async {
            self.until_deployed(1).await?;
            let done = |set: &DaemonSet| {
                let status = set.status.clone().unwrap_or_default();
                status.desired_number_scheduled == 1 && status.number_ready == 1
            };
            self.until(Kind::DaemonSet, "the watcher to run", done).await?;
            let done = |job: &Job| {
                job.metadata.name.as_deref() == Some("count")
                    && job.status.as_ref().is_some_and(|status| status.succeeded == Some(2))
            };
            self.until(Kind::Job, "the job to complete", done).await
        })
        .await?;
        self.narrator.good(&format!("all is running {} after the push:", millis(began_at)));
        self.table(Kind::Pod).await
    }

    async fn rolling_update(&mut self) -> Result<(), DemoError> {
        self.narrator.act("3. A change of ConfigMap and arguments rolls out, one pod after the other");
        let clone = self.clone()?;
        clone.replace("web.yaml", "Hello from Git", "Hello again")?;
        clone.replace("web.yaml", "version 1", "version 2")?;
        let began_at = Instant::now();
        self.push("Greet again, as version 2")?;
        self.tell_while(self.until_deployed(2)).await?;
        self.narrator.good(&format!("version 2 has replaced version 1 after {}; it says:", millis(began_at)));
        let pod = self.a_web_pod().await?;
        let path = ObjectPath::one(Kind::Pod, NAMESPACE, pod.metadata.name.as_deref().unwrap_or_default());
        let mut query = Query::default();
        query.push("container", "web").push("follow", "true");
        let mut lines = self.client.log(&path, &query).await?;
        // The file follows the ConfigMap a moment after the pods follow the Deployment.
        let said = async {
            while let Some(line) = lines.next().await? {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if line.starts_with("Hello again") && line.ends_with("version 2") {
                    return Ok(line);
                }
            }
            Err(DemoError::Broken("the log of version 2 ended".into()))
        };
        let line = super::eyes::in_time("version 2 to say its new greeting", said).await?;
        self.narrator.say(&format!("      {line}"));
        Ok(())
    }

    async fn broken_manifest(&mut self) -> Result<(), DemoError> {
        self.narrator.act("4. A broken manifest is refused as a whole, and harms nothing");
        let before = container_pids(&self.client).await?;
        self.clone()?.write("broken.yaml", BROKEN)?;
        let commit = self.push("Break it")?;
        let refused = |revision: &Revision| {
            let status = &revision.status;
            (status.attempted_commit == commit && status.result == "Invalid").then(|| status.message.clone())
        };
        let message = self.find(Kind::Revision, "the broken revision to be refused", refused).await?;
        for line in message.lines() {
            self.narrator.say(&format!("      {line}"));
        }
        self.same_processes(&before).await?;
        self.narrator.good("refused; every process goes on as it was");
        self.clone()?.remove("broken.yaml")?;
        let commit = self.push("Put it right")?;
        let synced = |revision: &Revision| {
            (revision.spec.commit == commit && revision.status.result == "Synced").then_some(())
        };
        self.find(Kind::Revision, "the repaired revision to be taken", synced).await?;
        self.narrator.good("put right, and in sync again");
        Ok(())
    }

    async fn killed_container(&mut self) -> Result<(), DemoError> {
        self.narrator.act("5. A process that dies is started again");
        let pod = self.a_web_pod().await?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let before = self.web_pid(&name).await?;
        let began_at = Instant::now();
        kill(before)?;
        self.narrator.event(&format!("killed process {before} of pod/{name}"));
        let restarted = |pod: &Pod| {
            let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
            let running = container.state.as_ref().is_some_and(|state| state.running.is_some());
            let it_is = pod.metadata.name.as_deref() == Some(&name);
            (it_is && container.restart_count == 1 && running).then_some(())
        };
        self.find(Kind::Pod, "the killed container to run again", restarted).await?;
        let after = self.web_pid(&name).await?;
        if after == before {
            return Err(DemoError::Broken(format!("pod/{name} still has the killed process {before}")));
        }
        self.narrator.good(&format!("running again as process {after} after {}", millis(began_at)));
        Ok(())
    }

    async fn killed_agent(&mut self) -> Result<(), DemoError> {
        self.narrator.act("6. Pods do not need their agent to go on");
        let before = container_pids(&self.client).await?;
        let agent = self.agent.take().ok_or(DemoError::AgentEnded)?;
        let pid = agent.pid();
        agent.kill().await?;
        self.narrator.event(&format!("killed the agent, PID {pid}"));
        if let Some((name, pid)) = before.iter().find(|(_, pid)| !Path::new(&format!("/proc/{pid}")).exists())
        {
            return Err(DemoError::Broken(format!("{name} (process {pid}) went with the agent")));
        }
        self.narrator.event(&format!("all {} containers still run", before.len()));
        self.start_agent().await?;
        self.until_deployed(2).await?;
        self.same_processes(&before).await?;
        self.narrator.good("the new agent has taken every pod over; all have kept their processes:");
        for (name, pid) in &before {
            self.narrator.say(&format!("      {pid:>8}  {name}"));
        }
        Ok(())
    }

    async fn look_around(&self) -> Result<(), DemoError> {
        self.narrator.act("Look around, in another terminal:");
        let program = std::env::current_exe().unwrap_or_else(|_| "keel".into());
        let socket = self.client.socket();
        self.narrator.say(&format!("  export KEEL_SOCKET={}", socket.display()));
        for command in
            ["status", "get all -n demo", "status deployment/web -n demo", "logs deployment/web -n demo -f"]
        {
            self.narrator.say(&format!("  {} {command}", program.display()));
        }
        self.narrator.say(&format!("  edit, commit and push in {}", self.stage.work().display()));
        self.narrator.say("Ctrl-C ends the demo and removes every trace of it.");
        // The caller's Ctrl-C ends the story as an interruption; here it is the plan.
        super::asked_to_end().await.map_err(DemoError::Start)
    }

    /// The last act: Git says that nothing is to run, then the agent stops.
    ///
    /// # Errors
    /// If a pod is left, or the agent does not end well.
    pub(super) async fn end(&mut self) -> Result<(), DemoError> {
        self.narrator.act("The end: an empty repository deletes everything");
        let began_at = Instant::now();
        for (name, _) in EXAMPLES {
            self.clone()?.remove(name)?;
        }
        self.push("Remove everything")?;
        let mut pods = View::open(&self.client, Kind::Pod).await?;
        pods.until("every pod to be gone", |view| view.objects().next().is_none().then_some(())).await?;
        self.narrator.event(&format!("every pod is gone after {}", millis(began_at)));
        drop(pods);
        let agent = self.agent.take().ok_or(DemoError::AgentEnded)?;
        agent.stop().await?;
        self.narrator.event("the agent has stopped");
        Ok(())
    }

    fn clone(&self) -> Result<&Clone, DemoError> {
        self.clone.as_ref().ok_or_else(|| DemoError::Broken("the story has not begun".into()))
    }

    fn push(&self, subject: &str) -> Result<String, DemoError> {
        let commit = self.clone()?.push(subject)?;
        self.narrator.event(&format!("pushed {} {subject:?}", short_commit(&commit)));
        Ok(commit)
    }

    /// Tells of the pods' changes while `act` goes on.
    async fn tell_while<T>(&self, act: impl Future<Output = Result<T, DemoError>>) -> Result<T, DemoError> {
        tokio::select! {
            result = act => result,
            ended = tell_pods(&self.client, |text| self.narrator.event(text)) => {
                ended?;
                Err(DemoError::AgentEnded)
            }
        }
    }

    /// Waits until `look` finds something in an object of `kind`.
    async fn find<O, T>(
        &self,
        kind: Kind,
        what: &str,
        mut look: impl FnMut(&O) -> Option<T>,
    ) -> Result<T, DemoError>
    where
        for<'o> &'o O: TryFrom<&'o Object>,
    {
        let mut view = View::open(&self.client, kind).await?;
        view.until(what, |view| view.objects().find_map(|object| look(<&O>::try_from(object).ok()?))).await
    }

    /// Waits until an object of `kind` is as wanted.
    async fn until<O>(&self, kind: Kind, what: &str, done: impl Fn(&O) -> bool) -> Result<(), DemoError>
    where
        for<'o> &'o O: TryFrom<&'o Object>,
    {
        self.find(kind, what, |object| done(object).then_some(())).await
    }

    /// Waits until the Deployment has rolled `version` out, and nothing older is left.
    async fn until_deployed(&self, version: u32) -> Result<(), DemoError> {
        let wanted = format!("version {version}");
        let done = |deployment: &Deployment| {
            let container = deployment.spec.template.spec.as_ref().and_then(|spec| spec.containers.first());
            let args = container.and_then(|container| container.args.as_ref());
            let status = deployment.status.clone().unwrap_or_default();
            args.is_some_and(|args| args.contains(&wanted))
                && status.observed_generation == deployment.metadata.generation
                && [status.replicas, status.updated_replicas, status.ready_replicas] == [Some(3); 3]
        };
        self.until(Kind::Deployment, "the Deployment to be rolled out", done).await?;
        let only = |view: &View| {
            let pods = view.objects().filter_map(|object| <&Pod>::try_from(object).ok());
            let web = pods.filter(|pod| is_web(pod)).count();
            (web == 3).then_some(())
        };
        View::open(&self.client, Kind::Pod).await?.until("the old pods to be gone", only).await
    }

    /// The first pod of the Deployment.
    async fn a_web_pod(&self) -> Result<Pod, DemoError> {
        let living =
            |pod: &Pod| (is_web(pod) && pod.metadata.deletion_timestamp.is_none()).then(|| pod.clone());
        self.find(Kind::Pod, "a pod of the Deployment", living).await
    }

    async fn web_pid(&self, pod: &str) -> Result<i32, DemoError> {
        let inspection = self.client.inspect(NAMESPACE, pod).await?;
        let pid = inspection.containers.first().and_then(|container| container.pid);
        pid.ok_or_else(|| DemoError::Broken(format!("pod/{pod} has no process")))
    }

    /// Every container of `before` still has its process.
    async fn same_processes(&self, before: &BTreeMap<String, i32>) -> Result<(), DemoError> {
        let now = container_pids(&self.client).await?;
        for (name, pid) in before {
            if now.get(name) != Some(pid) {
                let now = now.get(name).map_or_else(|| "none".into(), i32::to_string);
                return Err(DemoError::Broken(format!("{name} had process {pid} and now has {now}")));
            }
        }
        Ok(())
    }

    async fn table(&self, kind: Kind) -> Result<(), DemoError> {
        let path = ObjectPath::all(kind, Some(NAMESPACE));
        let objects = self.client.list_objects(&path, &crate::client::Selectors::default()).await?;
        let columns = Columns::default();
        let now = Timestamp::now();
        let rows = objects.iter().map(|object| print::row(object, columns, now)).collect();
        let table = Table { heads: print::heads(kind, columns), rows };
        for line in table.render().lines() {
            self.narrator.say(&format!("      {line}"));
        }
        Ok(())
    }
}

fn is_web(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).is_some_and(|app| app == "web")
}

fn kill(pid: i32) -> Result<(), DemoError> {
    let failed = |source| DemoError::Kill { pid, source };
    let process = Process::from_raw(pid).ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
    kill_process(process, Signal::KILL).map_err(|errno| failed(errno.into()))
}

fn millis(since: Instant) -> String {
    format!("{} ms", since.elapsed().as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::parse::{SourceFile, parse};

    fn file(name: &str, content: &str) -> SourceFile {
        SourceFile { path: name.to_owned(), content: content.as_bytes().to_vec() }
    }

    #[test]
    fn the_examples_are_valid_and_the_broken_manifest_is_not() {
        let mut files: Vec<_> = EXAMPLES.iter().map(|(name, content)| file(name, content)).collect();
        let parsed = parse(files.clone());
        assert_eq!(parsed.diagnostics, []);
        assert_eq!(parsed.objects.len(), 7);
        files.push(file("broken.yaml", BROKEN));
        let broken = parse(files).diagnostics;
        let codes: Vec<_> = broken.iter().map(|found| (found.code, found.line)).collect();
        assert_eq!(codes.first().map(|(code, _)| *code), Some("unknown-field"), "{broken:#?}");
        assert_eq!(codes.len(), 2, "{broken:#?}");
    }

    #[test]
    fn the_edits_of_the_story_find_their_places() {
        let (_, web) = EXAMPLES[1];
        for text in ["Hello from Git", "version 1"] {
            assert_eq!(web.matches(text).count(), 1, "{text}");
        }
    }
}
