# Limits bite, and pods outlive the agent and come back after a reboot, where cgroups
# are version 2 and PID 1 is systemd.
import json
from pathlib import Path

CONFIG = """
apiVersion: evenkeel.dev/v1alpha1
kind: AgentConfiguration
# However little the machine has left.
node: {evictionHard: {}}
podPidsLimit: 256
sources:
- name: main
  url: file:///srv/manifests.git
  branch: main
  interval: 5s
"""

STEADY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady}
spec:
  replicas: 2
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: "host:", command: [sleep, "1000001"]}
"""


def pod(name: str, command: list[str], limits: dict[str, str]) -> str:
    container = {"name": "main", "image": "host:", "command": command, "resources": {"limits": limits}}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def push(files: dict[str, str], message: str):
    for name, text in files.items():
        machine.write_file(f"/root/manifests/{name}", text)
    machine.succeed(f"cd /root/manifests && git add -A && git commit -qm '{message}' && git push -q origin HEAD:main")


def pids(command: str) -> list[str]:
    return sorted(machine.execute(f"pgrep -f '^{command}'")[1].split())


def cgroup(command: str) -> str:
    pid = machine.wait_until_succeeds(f"pgrep -of '^{command}'").strip()
    return "/sys/fs/cgroup" + machine.succeed(f"cut -d: -f3 /proc/{pid}/cgroup").strip()


def main_pid() -> str:
    return machine.succeed("systemctl show --property=MainPID --value keel").strip()


machine.start()

with subtest("the agent starts as a unit of systemd"):
    machine.copy_from_host(keel, "/usr/local/bin/keel")
    unit = Path(__file__).resolve().parent.parent / "agent/dist/keel.service"
    machine.copy_from_host(unit, "/etc/systemd/system/keel.service")
    machine.write_file("/etc/keel/config.yaml", CONFIG)
    machine.succeed("git config --global user.name vm; git config --global user.email vm@example.com")
    machine.succeed("git init -q --bare -b main /srv/manifests.git; git clone -q /srv/manifests.git /root/manifests")
    push({"steady.yaml": STEADY}, "Run two pods")
    machine.succeed("systemctl daemon-reload; systemctl enable --now keel", timeout=300)
    machine.wait_for_unit("keel.service")

with subtest("pods run"):
    machine.wait_until_succeeds("test $(pgrep -cf '^sleep 1000001') = 2")
    print(machine.succeed("keel get pods -o wide"))

with subtest("a limit of 64 MiB kills what takes 200 MiB, as OOMKilled"):
    push({"hog.yaml": pod("hog", ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"], {"memory": "64Mi"})}, "Add a hog")
    machine.wait_until_succeeds("keel get pod hog -o json | grep -q OOMKilled")
    ended = json.loads(machine.succeed("keel get pod hog -o json"))["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137), ended

with subtest("a limit of 200m holds a spinner within a tenth"):
    push({"spinner.yaml": pod("spinner", ["sh", "-c", "while :; do :; done"], {"cpu": "200m"})}, "Add a spinner")
    stat = cgroup("sh -c while :; do :; done") + "/cpu.stat"
    measure = f"""
        used() {{ awk '/^usage_usec/ {{ print $2 }}' {stat}; }}
        a=$(used); from=$(date +%s%N); sleep 20; b=$(used); to=$(date +%s%N)
        echo $(( (b - a) * 1000 * 1000 / (to - from) ))"""
    millis = int(machine.succeed(measure))
    print(f"  the spinner used {millis}m")
    assert 180 <= millis <= 220, millis

with subtest("a limit of processes stops a fork bomb"):
    bomb = "while :; do sleep 1000002 & done"
    push({"bomb.yaml": pod("bomb", ["bash", "-c", bomb], {"cpu": "500m", "memory": "256Mi"})}, "Add a fork bomb")
    folder = cgroup("bash -c while")
    # Without any limit the controller is not even switched on, and its files are missing.
    unlimited = "{ ! test -e $d/pids.max || test $(cat $d/pids.max) = max; }"
    find = f"d={folder}; while test $d != /sys/fs/cgroup && {unlimited}; do d=${{d%/*}}; done; echo $d"
    limited = machine.succeed(find).strip()
    assert limited != "/sys/fs/cgroup", "no process limit"
    machine.wait_until_succeeds(f"awk '/^max/ {{ exit $2 == 0 }}' {limited}/pids.events", timeout=600)
    most, now = machine.succeed(f"cat {limited}/pids.max {limited}/pids.current").split()
    print(f"  {now} of {most} processes")
    assert int(now) <= int(most)
    machine.succeed("rm /root/manifests/{hog,spinner,bomb}.yaml")
    push({}, "Take the trouble away")
    machine.wait_until_fails("pgrep -f 'sleep 1000002|while :; do'", timeout=300)
    machine.wait_until_fails(f"test -e {limited}")

with subtest("pods do not notice that the agent restarts"):
    before, agent = pids("sleep 1000001"), main_pid()
    machine.succeed("systemctl restart keel", timeout=300)
    machine.wait_for_unit("keel.service")
    machine.wait_until_succeeds("keel get pods")
    assert main_pid() != agent and pids("sleep 1000001") == before

with subtest("pods do not notice that the agent is killed"):
    agent = main_pid()
    machine.succeed(f"kill -9 {agent}")
    machine.wait_until_succeeds(f"p=$(systemctl show --property=MainPID --value keel); test $p != 0 && test $p != {agent}")
    machine.wait_for_unit("keel.service")
    machine.wait_until_succeeds("keel get pods")
    assert pids("sleep 1000001") == before

with subtest("a container that dies while the agent is down is started again"):
    machine.succeed("systemctl stop keel", timeout=300)
    assert pids("sleep 1000001") == before
    machine.succeed(f"kill -9 {before[0]}")
    machine.wait_until_succeeds(f"test $(pgrep -cf '^sleep 1000001') = 2 && ! test -e /proc/{before[0]}")
    machine.succeed("systemctl start keel", timeout=300)

with subtest("pods come back after a reboot"):
    machine.succeed("sync")
    machine.reboot()
    machine.wait_for_unit("keel.service")
    machine.wait_until_succeeds("test $(pgrep -cf '^sleep 1000001') = 2")

with subtest("nothing is left when nothing is wanted"):
    # An empty revision needs consent, so one pod of another kind stays.
    machine.succeed("git -C /root/manifests rm -q steady.yaml")
    push({"last.yaml": pod("last", ["sleep", "1000003"], {})}, "Keep one")
    machine.wait_until_fails("pgrep -f '^sleep 1000001'", timeout=300)
    machine.wait_until_succeeds("test $(ip -o link show master keel0 | wc -l) = 1", timeout=300)
