//! Several machines with a network between them: one bridge, and a network namespace for each.

use crate::machine::{Machine, Said, until};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};
use std::fs::File;
use std::process::Command;

pub(crate) const BRIDGE: &str = "site0";
/// What busybox calls the other end of a cable.
const FAR: &str = "veth0";
pub(crate) const CLUSTER: &str = "/evenkeel/v1alpha1/cluster";

/// One machine more, and its network.
pub(crate) struct Neighbour {
    pub(crate) machine: Machine,
    network: File,
}

/// The neighbours of a test's machine, which keeps the cables: they are gone with its end.
pub(crate) struct Site {
    pub(crate) neighbours: Vec<Neighbour>,
}

pub(crate) fn busybox(words: &str) {
    let done = Command::new("busybox").args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
}

fn address(number: usize) -> String {
    format!("10.200.0.{number}")
}

/// Runs `work` in the network namespace `network`, which children that it starts stay in.
pub(crate) fn inside<T: Send>(network: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        worker.join().unwrap()
    })
}

/// A network namespace that is connected to this thread's bridge, as machine `number`.
pub(crate) fn connected(number: usize) -> File {
    let (made, network) = std::sync::mpsc::channel();
    let (cable, plugged) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let own = File::open("/proc/thread-self/ns/net").unwrap();
            made.send((own, rustix::thread::gettid())).unwrap();
            plugged.recv().unwrap();
            busybox("ip link set lo up");
            busybox(&format!("ip addr add {}/24 dev {FAR}", address(number)));
            busybox(&format!("ip link set {FAR} up"));
        });
        // Dropped with what fails here, so that the other thread ends too.
        let cable = cable;
        let (network, thread) = network.recv().unwrap();
        let thread = thread.as_raw_nonzero();
        busybox(&format!("ip link add cable{number} type veth"));
        busybox(&format!("ip link set {FAR} netns {thread}"));
        busybox(&format!("ip link set cable{number} master {BRIDGE}"));
        busybox(&format!("ip link set cable{number} up"));
        cable.send(()).unwrap();
        network
    })
}

impl Site {
    /// `count` machines, of which `first` is one, form a cluster of voters. None but `first` and the
    /// second are told of the repository.
    pub(crate) fn around(first: &mut Machine, count: usize, sources: &Value) -> Self {
        busybox(&format!("ip link add {BRIDGE} type bridge"));
        busybox(&format!("ip addr add {}/24 dev {BRIDGE}", address(1)));
        busybox(&format!("ip link set {BRIDGE} up"));
        // A test may have said how soon a silent node is lost.
        let grace =
            first.configuration["cluster"]["nodeMonitorGracePeriod"].as_str().unwrap_or("40s").to_owned();
        first.configuration["cluster"] =
            json!({"listenAddress": format!("{}:7443", address(1)), "nodeMonitorGracePeriod": grace});
        first.start();
        let token = first.ok(&["token", "create"]);
        let mut neighbours = Vec::new();
        for number in 2..=count {
            let network = connected(number);
            let mut machine = Machine::new(&format!("{}-{number}", first.name()));
            machine.configuration["nodeName"] = format!("node-{number}").into();
            machine.configuration["sources"] = if number == 2 { sources.clone() } else { json!([]) };
            machine.configuration["network"] = first.configuration["network"].clone();
            if !first.configuration["network"]["podCIDR"].is_null() {
                machine.configuration["network"]["podCIDR"] = format!("10.77.{number}.0/24").into();
            }
            machine.configuration["cluster"] = json!({
                "listenAddress": format!("{}:7443", address(number)),
                "nodeMonitorGracePeriod": grace,
                "join": {"token": token.trim(), "servers": [format!("{}:7443", address(1))]},
            });
            inside(&network, || machine.start());
            neighbours.push(Neighbour { machine, network });
        }
        until_members(first, "that all vote", |members| {
            (members.iter().filter(|member| member["voter"] == true).count() == count).then_some(())
        });
        Self { neighbours }
    }

    /// Everything of the neighbours is gone, and the cables.
    pub(crate) fn end(self) {
        for neighbour in self.neighbours {
            neighbour.machine.clear();
        }
        busybox(&format!("ip link del {BRIDGE}"));
    }
}

impl Neighbour {
    /// Starts the agent again.
    pub(crate) fn start(&mut self) {
        let Self { machine, network } = self;
        inside(network, || machine.start());
    }
}

/// The members as `machine` sees them, once `look` likes them.
pub(crate) fn until_members<T>(machine: &Machine, what: &str, look: impl Fn(&[Value]) -> Option<T>) -> T {
    until(what, || look(machine.api.get(CLUSTER)["members"].as_array()?))
}

/// What the program says on `machine`, once it exits 0.
pub(crate) fn until_ok(machine: &Machine, words: &[&str]) -> Said {
    until(&format!("keel {words:?} to do it"), || Some(machine.keel(words)).filter(|said| said.code == 0))
}
