# Pods are in slices and scopes that systemd made over D-Bus, and neither notice that the
# agent goes nor leave anything behind. The journal has the agent's words with their fields.
import json
from pathlib import Path

CONFIG = """
apiVersion: evenkeel.dev/v1alpha1
kind: AgentConfiguration
# However little the machine has left.
node: {evictionHard: {}}
sources:
- name: main
  url: file:///srv/manifests.git
  branch: main
  interval: 5s
"""


def pod(name: str, script: str, limits: dict[str, str], **spec) -> str:
    container = {"name": "main", "image": "host:", "command": ["bash", "-c", script], "resources": {"limits": limits}}
    spec = {"terminationGracePeriodSeconds": 2, "containers": [container], **spec}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def annotated(pod: str, annotations: dict[str, str]) -> str:
    pod = json.loads(pod)
    pod["metadata"]["annotations"] = annotations
    return json.dumps(pod)


def push(files: dict[str, str], message: str):
    for name, text in files.items():
        machine.write_file(f"/root/manifests/{name}", text)
    machine.succeed(f"cd /root/manifests && git add -A && git commit -qm '{message}' && git push -q origin HEAD:main")


def pid(command: str) -> str:
    return machine.wait_until_succeeds(f"pgrep -of '^{command}'").strip()


def cgroup(pid: str) -> str:
    return machine.succeed(f"cut -d: -f3 /proc/{pid}/cgroup").strip()


def scope_of(name: str) -> str:
    uid = json.loads(machine.succeed(f"keel get pod {name} -o json"))["metadata"]["uid"]
    return f"keel-pod{uid}.scope"


def show(unit: str, field: str) -> str:
    return machine.succeed(f"systemctl show --property={field} --value '{unit}'").strip()


STEADY = "trap 'echo asked; exit 0' TERM; echo up; sleep 1000001 & while :; do wait; sleep 1; done"

machine.start()

with subtest("the agent starts as a unit of systemd, and says so"):
    machine.copy_from_host(keel, "/usr/local/bin/keel")
    unit = Path(__file__).resolve().parent.parent / "agent/dist/keel.service"
    machine.copy_from_host(unit, "/etc/systemd/system/keel.service")
    machine.write_file("/etc/keel/config.yaml", CONFIG)
    machine.succeed("git config --global user.name vm; git config --global user.email vm@example.com")
    machine.succeed("git init -q --bare -b main /srv/manifests.git; git clone -q /srv/manifests.git /root/manifests")
    push({"steady.yaml": pod("steady", STEADY, {"memory": "64Mi", "cpu": "500m"})}, "Run a pod")
    machine.succeed("systemctl daemon-reload; systemctl enable --now keel", timeout=300)
    machine.wait_for_unit("keel.service")
    machine.wait_until_succeeds("systemctl show --property=StatusText --value keel | grep -q '^1 pods run'")
    assert show("keel", "WatchdogUSec") == "1min"

with subtest("a pod is a scope in keel's slice, with its limits and a name for people"):
    program, scope = pid("sleep 1000001"), scope_of("steady")
    assert f"/keel.slice/" in cgroup(program) and cgroup(program).endswith(f"{scope}/main"), cgroup(program)
    status = machine.succeed(f"systemctl status --no-pager {scope}")
    print(status)
    assert "Pod default/steady" in status and "active (running)" in status
    assert show(scope, "MemoryMax") == str(64 << 20) and show(scope, "Delegate") == "yes"
    assert show(scope, "CPUQuotaPerSecUSec") == "500ms"
    assert scope in machine.succeed("systemd-cgls --no-pager --unit keel.slice")
    path = machine.succeed("busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 "
                           f"org.freedesktop.systemd1.Manager GetUnitByPID u {program}")
    assert path.replace("_2d", "-").replace("_2e", ".").strip().endswith(f'{scope}"'), path
    machine.succeed("systemctl daemon-reload")
    assert machine.succeed(f"cat /sys/fs/cgroup/{cgroup(program).rsplit('/', 1)[0]}/memory.max").strip() == str(64 << 20)

with subtest("what its processes wait for is shown"):
    shown = machine.succeed("keel status pod/steady")
    print(shown)
    assert "Pressure: cpu " in shown and "of the last 10 s" in shown

with subtest("a program tells a pod's supervisor what it would tell systemd"):
    script = "until test -e /tmp/go; do sleep 0.2; done; systemd-notify --ready --status='Serving nobody'; exec sleep 1000010"
    push({"teller.yaml": annotated(pod("teller", script, {}), {"evenkeel.dev/notify": "true"})}, "Add one that tells")
    machine.wait_until_succeeds("keel get pod teller | grep -q '0/1 *Running'")
    machine.succeed("keel exec teller -- touch /tmp/go")
    machine.wait_until_succeeds("keel get pod teller | grep -q '1/1 *Running'")
    assert 'Status: "Serving nobody"' in machine.succeed("keel status pod/teller")
    follower = annotated(pod("follower", "exec sleep 1000011", {}), {"evenkeel.dev/requires": "Pod/teller"})
    push({"follower.yaml": follower}, "Add one that requires it")
    pid("sleep 1000011")

with subtest("the journal has the agent's words with their fields"):
    lines = machine.succeed("journalctl -u keel -o json --no-pager").splitlines()
    entries = [json.loads(line) for line in lines]
    started = [entry for entry in entries if entry.get("MESSAGE") == "agent started"]
    assert started and started[0]["PRIORITY"] == "5" and "F_SOCKET" in started[0], started or lines[:5]
    assert not [entry for entry in entries if "without it" in str(entry.get("MESSAGE"))]

with subtest("pods do not notice that the agent restarts or stops"):
    supervisor = machine.succeed("pgrep -of keel-supervisor || pgrep -f 'keel supervise'").split()[0]
    machine.succeed("systemctl restart keel", timeout=300)
    machine.wait_for_unit("keel.service")
    machine.wait_until_succeeds("keel get pod steady")
    assert pid("sleep 1000001") == program
    machine.succeed("systemctl stop keel", timeout=300)
    assert pid("sleep 1000001") == program and machine.succeed(f"test -e /proc/{supervisor} && echo there").strip() == "there"
    machine.succeed("systemctl start keel", timeout=300)

with subtest("what takes more than its limit is killed as a whole, and nothing else"):
    hog = "sleep 1000004 & dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 1000005"
    push({"hog.yaml": pod("hog", hog, {"memory": "48Mi"}, restartPolicy="Never")}, "Add a hog")
    machine.wait_until_succeeds("keel get pod hog -o json | grep -q OOMKilled")
    machine.fail("pgrep -f 'sleep 100000[45]'")
    assert pid("sleep 1000001") == program

with subtest("a fork bomb dies in one stroke"):
    # It forks all the time, and does not grow: else memory might end it before anybody has seen it.
    burst = "while :; do sleep 1000006 & p=$!; sleep 1; kill $p; done"
    bomb = f"for n in $(seq 40); do ({burst}) & done; wait"
    push({"bomb.yaml": pod("bomb", bomb, {"cpu": "200m", "memory": "256Mi"}, restartPolicy="Never")}, "Add a bomb")
    machine.wait_until_succeeds("test $(pgrep -fc 'sleep 1000006') -gt 20", timeout=300)
    bomb_scope = scope_of("bomb")
    machine.succeed("rm /root/manifests/{hog,bomb}.yaml")
    push({}, "Take the trouble away")
    machine.wait_until_fails("pgrep -f 'sleep 1000006'", timeout=300)
    machine.wait_until_fails("keel get pod bomb", timeout=300)
    machine.wait_until_succeeds(f"test $(systemctl show --property=LoadState --value {bomb_scope}) = not-found")
    machine.fail(f"find /sys/fs/cgroup/keel.slice -name '*{bomb_scope}' | grep .")

with subtest("a pod whose scope is stopped is asked in order, and comes back"):
    log = machine.succeed("ls -d /var/log/pods/default_steady_*/main").strip()
    machine.succeed(f"systemctl stop {scope}", timeout=120)
    machine.succeed(f"grep -h ' asked' {log}/*.log")
    again = machine.wait_until_succeeds(f"p=$(pgrep -of '^sleep 1000001'); test $p != {program}; echo $p").strip()
    assert cgroup(again).endswith(f"{scope}/main"), cgroup(again)

with subtest("what runs when the machine reboots runs again after it"):
    once = "trap 'exit 7' TERM; sleep 1000007 & while :; do wait; sleep 1; done"
    push({"once.yaml": pod("once", once, {}, restartPolicy="OnFailure")}, "Add one that may not be cut short")
    pid("sleep 1000007")
    machine.succeed("sync")
    machine.reboot()
    machine.wait_for_unit("keel.service")
    for command in ("sleep 1000001", "sleep 1000007"):
        assert "/keel.slice/" in cgroup(pid(command))
    assert scope_of("steady") == scope
    # And in its order: what was ready before is not yet.
    machine.wait_until_succeeds("keel get pod teller | grep -q '0/1 *Running'")
    machine.wait_until_succeeds("keel get pod follower | grep -q WaitingForOthers")
    machine.fail("pgrep -f '^sleep 1000011'")
    machine.succeed("keel exec teller -- touch /tmp/go")
    pid("sleep 1000011")

with subtest("without the bus, pods run beside systemd's tree, and that is said once"):
    machine.succeed("systemctl stop keel", timeout=300)
    machine.succeed("systemctl mask --runtime --now dbus.socket dbus.service", timeout=120)
    machine.succeed("systemctl start keel", timeout=300)
    push({"direct.yaml": pod("direct", "exec sleep 1000008", {})}, "Add one more")
    direct = pid("sleep 1000008")
    assert cgroup(direct).startswith("/keel/besteffort/pod"), cgroup(direct)
    assert machine.succeed("journalctl -b -u keel --no-pager | grep -c 'cannot reach systemd over D-Bus'").strip() == "1"
    machine.succeed("systemctl restart keel", timeout=300)
    machine.wait_until_succeeds("keel get pod direct | grep -q Running")
    assert pid("sleep 1000008") == direct
