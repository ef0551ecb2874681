# The kernel's limit of huge pages on cgroup v2: a container that touches one more than it may have is
# ended by SIGBUS, and those that keep to it, or name none, are not troubled.
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

TOUCH = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv) {
    size_t page = 2 << 20, pages = argc > 1 ? atoi(argv[1]) : 0;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
    for (size_t i = 0; i < pages; i++) {
        // Reserved by the host's pool; the cgroup counts what is touched.
        char *at = mmap(NULL, page, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (at == MAP_FAILED) { perror("mmap"); return 9; }
        *at = 1;
        printf("%zu\n", i + 1);
        fflush(stdout);
    }
    if (argc > 2) pause();
    return 0;
}
"""


def pod(name: str, command: list[str], limits: dict[str, str]) -> str:
    container = {"name": "main", "image": "host:", "command": command, "resources": {"limits": limits}}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def ended(name: str) -> tuple[int, str]:
    """The exit code of the pod's container, and what it printed."""
    kept = machine.wait_until_succeeds(f"keel get pod {name} -o json | grep -q '\"exitCode\"' && keel get pod {name} -o json", timeout=300)
    state = json.loads(kept)["status"]["containerStatuses"][0]["state"]["terminated"]
    return state["exitCode"], machine.succeed(f"keel logs {name}")


machine.start()

with subtest("the machine has huge pages, and its kernel the controller"):
    machine.succeed("sysctl -q vm.nr_hugepages=8; grep -x 'HugePages_Free: *8' /proc/meminfo")
    machine.succeed("grep -qw hugetlb /sys/fs/cgroup/cgroup.controllers")
    machine.write_file("/root/touch.c", TOUCH)
    machine.succeed("cc -O1 -o /usr/local/bin/touch-pages /root/touch.c")

with subtest("the agent runs"):
    machine.copy_from_host(keel, "/usr/local/bin/keel")
    machine.copy_from_host(Path(__file__).resolve().parent.parent / "agent/dist/keel.service", "/etc/systemd/system/keel.service")
    machine.write_file("/etc/keel/config.yaml", CONFIG)
    machine.succeed("git config --global user.name vm; git config --global user.email vm@example.com")
    machine.succeed("git init -q --bare -b main /srv/manifests.git; git clone -q /srv/manifests.git /root/manifests")
    limits = {"hugepages-2Mi": "4Mi", "memory": "64Mi"}
    pods = {
        "within": pod("within", ["touch-pages", "2"], limits),
        "over": pod("over", ["touch-pages", "3"], limits),
        "stays": pod("stays", ["touch-pages", "2", "wait"], limits),
    }
    for name, text in pods.items():
        machine.write_file(f"/root/manifests/{name}.yaml", text)
    machine.succeed("cd /root/manifests && git add -A && git commit -qm 'Touch huge pages' && git push -q origin HEAD:main")
    machine.succeed("systemctl daemon-reload; systemctl start keel", timeout=300)

with subtest("two pages are within a limit of 4Mi"):
    assert ended("within") == (0, "1\n2\n"), ended("within")

with subtest("the third is answered with SIGBUS"):
    assert ended("over") == (135, "1\n2\n"), ended("over")

with subtest("the kernel has the limit, and counts what is used"):
    pid = machine.wait_until_succeeds("pgrep -f '^touch-pages 2 wait'").strip()
    group = "/sys/fs/cgroup" + machine.succeed(f"cut -d: -f3 /proc/{pid}/cgroup").strip()
    read = "cat hugetlb.2MB.max hugetlb.2MB.current"
    machine.wait_until_succeeds(f"cd {group} && test \"$({read} | xargs)\" = '4194304 4194304'")
    print(f"  {group}: {machine.succeed(f'cd {group} && {read}').split()}")
    machine.wait_until_succeeds("grep -x 'HugePages_Free: *6' /proc/meminfo")
