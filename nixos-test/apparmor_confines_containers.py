# A container runs under the profile of AppArmor that it names: the kernel says which, and denies
# what the profile denies. Those that name none have the runtime's own.
import json
import shlex
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

PROFILE = """
profile no-secrets flags=(attach_disconnected) {
  file,
  signal (receive) peer=unconfined,
  deny /tmp/secret w,
}
"""

ANNOTATION = "container.apparmor.security.beta.kubernetes.io/main"
# What the kernel says, and what it lets happen.
LOOK = "exec 2>/dev/null; cat /proc/self/attr/current; touch /tmp/free && echo free; touch /tmp/secret && echo secret; "
MOUNT = "mkdir -p /tmp/m && mount -t tmpfs none /tmp/m && echo mounted; "
WAIT = "echo looked; exec sleep 1000001"
LOCAL = {"type": "Localhost", "localhostProfile": "no-secrets"}


def pod(name: str, profile: dict | None = None, annotation: str | None = None, **more) -> str:
    """A pod that looks around, with the right to mount."""
    context = {"capabilities": {"add": ["SYS_ADMIN"]}, "seccompProfile": {"type": "Unconfined"}, **more}
    if profile:
        context["appArmorProfile"] = profile
    container = {"name": "main", "image": "host:", "command": ["sh", "-c", LOOK + MOUNT + WAIT], "securityContext": context}
    metadata = {"name": name, "annotations": {ANNOTATION: annotation} if annotation else {}}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def push(files: dict[str, str], message: str):
    for name, text in files.items():
        machine.write_file(f"/root/manifests/{name}.yaml", text)
    machine.succeed(f"cd /root/manifests && git add -A && git commit -qm '{message}' && git push -q origin HEAD:main")


def seen(name: str) -> list[str]:
    """What the pod printed to its standard output, once it has looked around."""
    return machine.wait_until_succeeds(f"keel logs {name} | grep -q looked && keel logs {name}", timeout=300).splitlines()


def waits(name: str) -> dict:
    """What the pod's only container waits for."""
    kept = machine.wait_until_succeeds(f"keel get pod {name} -o json | grep -A9 '\"waiting\"' | grep -q Error && keel get pod {name} -o json", timeout=300)
    return json.loads(kept)["status"]["containerStatuses"][0]["state"]["waiting"]


machine.start()

with subtest("the kernel enforces AppArmor, and nothing has loaded a profile of keel's"):
    machine.succeed("grep -q Y /sys/module/apparmor/parameters/enabled")
    machine.fail("grep -q ^keel /sys/kernel/security/apparmor/profiles")
    machine.write_file("/etc/apparmor.d/no-secrets", PROFILE)
    machine.succeed("apparmor_parser --replace --skip-cache /etc/apparmor.d/no-secrets")

with subtest("the agent runs"):
    machine.copy_from_host(keel, "/usr/local/bin/keel")
    machine.copy_from_host(Path(__file__).resolve().parent.parent / "agent/dist/keel.service", "/etc/systemd/system/keel.service")
    machine.write_file("/etc/keel/config.yaml", CONFIG)
    machine.succeed("git config --global user.name vm; git config --global user.email vm@example.com")
    machine.succeed("git init -q --bare -b main /srv/manifests.git; git clone -q /srv/manifests.git /root/manifests")
    pods = {
        "local": pod("local", LOCAL),
        "noted": pod("noted", annotation="localhost/no-secrets"),
        "free": pod("free", {"type": "Unconfined"}),
        "usual": pod("usual", {"type": "RuntimeDefault"}),
        "silent": pod("silent"),
        "mighty": pod("mighty", privileged=True, capabilities={}),
        "lost": pod("lost", {"type": "Localhost", "localhostProfile": "nowhere"}),
    }
    push(pods, "Run a pod under each kind of profile")
    machine.succeed("systemctl daemon-reload; systemctl start keel", timeout=300)

with subtest("a profile of the node's denies what it says, and only that"):
    assert seen("local") == ["no-secrets (enforce)", "free", "looked"], seen("local")

with subtest("an annotation names it as well"):
    assert seen("noted") == ["no-secrets (enforce)", "free", "looked"], seen("noted")

with subtest("a command in the container is under its profile"):
    assert machine.succeed("keel exec local -- cat /proc/self/attr/current").strip() == "no-secrets (enforce)"
    machine.fail("keel exec local -- touch /tmp/secret")
    machine.succeed("keel exec local -- touch /tmp/other")

with subtest("unconfined is without a profile"):
    assert seen("free") == ["unconfined", "free", "secret", "mounted", "looked"], seen("free")

with subtest("the runtime's own is loaded when it is needed, and lets nobody mount"):
    for name in ["usual", "silent"]:
        assert seen(name) == ["keel-default (enforce)", "free", "secret", "looked"], seen(name)
    machine.succeed("grep -qx 'keel-default (enforce)' /sys/kernel/security/apparmor/profiles")

with subtest("what is privileged has none"):
    assert seen("mighty") == ["unconfined", "free", "secret", "mounted", "looked"], seen("mighty")

with subtest("a signal of the host's reaches a confined container, which is started again"):
    pid = machine.succeed("grep -lx 'keel-default (enforce)' /proc/[0-9]*/attr/current | head -1 | cut -d/ -f3").strip()
    machine.succeed(f"kill -KILL {pid}")
    machine.wait_until_succeeds("keel get pods | grep -E '^(usual|silent) .* 1 '", timeout=300)

with subtest("a pod whose profile is not loaded waits, and says so"):
    waiting = waits("lost")
    assert waiting == {"reason": "CreateContainerError", "message": "apparmor profile not found nowhere"}, waiting
    print(machine.succeed("keel events | grep -i apparmor"))

with subtest("it runs once the profile is there"):
    machine.write_file("/etc/apparmor.d/nowhere", PROFILE.replace("no-secrets", "nowhere"))
    machine.succeed("apparmor_parser --replace --skip-cache /etc/apparmor.d/nowhere")
    assert seen("lost") == ["nowhere (enforce)", "free", "looked"], seen("lost")

with subtest("pods end in their grace"):
    push({"last": json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "last"}})}, "Keep something")
    machine.succeed(f"cd /root/manifests && git rm -q {' '.join(shlex.quote(f'{name}.yaml') for name in pods)}")
    push({}, "Take the pods away")
    machine.wait_until_fails("pgrep -f '^sleep 1000001'", timeout=300)

with subtest("without a parser, who asks for the runtime's own waits; who asks for nothing runs"):
    machine.succeed("systemctl stop keel; mv $(command -v apparmor_parser) /root/away")
    machine.succeed("printf keel-default > /sys/kernel/security/apparmor/.remove")
    push({"asks": pod("asks", {"type": "RuntimeDefault"}), "quiet": pod("quiet")}, "Run two more")
    machine.succeed("systemctl start keel", timeout=300)
    assert seen("quiet")[0] == "unconfined", seen("quiet")
    waiting = waits("asks")
    assert waiting["reason"] == "CreateContainerError" and "apparmor_parser" in waiting["message"], waiting
    print(machine.succeed("journalctl --no-pager -o cat -u keel | grep 'run without one'"))
    machine.succeed("mv /root/away /usr/sbin/apparmor_parser")
    assert seen("asks")[0] == "keel-default (enforce)", seen("asks")
