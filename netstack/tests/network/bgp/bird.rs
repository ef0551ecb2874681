//! BIRD, a router's program, with a configuration and a socket of its own.

use crate::machine::Pod;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long something may take; reached only when a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

const PROGRAMS: [&str; 2] = ["bird", "birdc"];

/// A router that runs.
pub(crate) struct Bird {
    child: Child,
    folder: TempDir,
}

/// Where the program is; Debian has it where only root looks.
fn program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/usr/local/sbin"];
    places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

impl Bird {
    /// At 192.0.2.1, of the system 64512, for a node 192.0.2.2 of 65001; none if there is no BIRD here.
    pub(crate) fn start(place: &Pod, more: &str) -> Option<Self> {
        Self::start_as(place, "192.0.2.1", ("192.0.2.2", 65_001), more)
    }

    pub(crate) fn start_as(place: &Pod, own: &str, (node, asn): (&str, u32), more: &str) -> Option<Self> {
        let found = PROGRAMS.map(program);
        let [Some(bird), Some(_)] = found else {
            // Past the harness, which shows nothing of tests that hold.
            let said = "SKIPPED: there is no BIRD (bird2) on this machine: no router was told anything";
            let _unheard = writeln!(std::io::stderr(), "{said}");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let text = format!(
            "router id 192.0.2.1;\nlog stderr all;\nprotocol device {{ scan time 1; }}\n\
             protocol static {{ ipv4; route 198.51.100.0/24 blackhole; }}\n\
             protocol bgp node {{\n  local {own} as 64512;\n  neighbor {node} as {asn};\n  passive;\n  \
             connect retry time 1;\n  error wait time 1, 2;\n  {more}\n  ipv4 {{ import all; export all; }};\n  \
             ipv6 {{ import all; export all; }};\n}}\n"
        );
        let (conf, socket) = (folder.path().join("bird.conf"), folder.path().join("ctl"));
        std::fs::write(&conf, text).unwrap();
        let (words, log) = ([conf.clone(), socket.clone()], folder.path().join("log"));
        let child = place.run(move || {
            let [conf, socket] = words;
            Command::new(bird)
                .arg("-f")
                .arg("-c")
                .arg(conf)
                .arg("-s")
                .arg(socket)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(log).unwrap())
                .spawn()
                .unwrap()
        });
        let bird = Self { child, folder };
        until("BIRD is there", || bird.ask("show status").contains("Daemon is up and running"));
        Some(bird)
    }

    /// What it answers.
    pub(crate) fn ask(&self, question: &str) -> String {
        let Some(program) = program("birdc") else { return String::new() };
        let socket = self.folder.path().join("ctl");
        let output = Command::new(program).arg("-s").arg(socket).args(question.split(' ')).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The networks that the node told it of.
    pub(crate) fn routes(&self) -> BTreeSet<String> {
        let text = self.ask("show route protocol node");
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        text.lines().filter_map(first).filter(|word| word.contains('/')).collect()
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        // It is killed, as by a lost power supply; what it said may help.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
    }
}

/// Looks until it is so.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
