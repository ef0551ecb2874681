# critest's specs of AppArmor, on a kernel that has it. KEEL_VM_CRITEST names the program; KEEL_VM_FOCUS
# chooses other specs. The registry with the suite's images is filled here and served there.
import os
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "agent/tests"))

import critest  # noqa: E402

CRITEST = os.environ.get("KEEL_VM_CRITEST")
FOCUS = os.environ.get("KEEL_VM_FOCUS", "AppArmor")
REGISTRY = "127.0.0.1:5000"
MIRRORS = "\n".join(
    f"  - {{host: {host}, mirrors: [{{host: '{REGISTRY}', plainHTTP: true}}]}}"
    for host in ["docker.io", "gcr.io", "k8s.gcr.io", "registry.k8s.io"]
)

CONFIG = f"""
apiVersion: evenkeel.dev/v1alpha1
kind: AgentConfiguration
# However little the machine has left.
node: {{evictionHard: {{}}}}
cri: {{socket: /run/keel/cri.sock}}
images:
  registries:
{MIRRORS}
"""

SERVED = f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: /srv/registry}}}}
http: {{addr: '{REGISTRY}'}}
log: {{accesslog: {{disabled: true}}, level: error}}
"""

if not CRITEST:
    raise Failure("KEEL_VM_CRITEST names no program")

with subtest("a registry has the suite's images"):
    images = machine.folder / "images"
    images.mkdir()
    registry = critest.Registry(images)
    try:
        critest.push_all(registry, images)
    finally:
        registry.process.kill()
        registry.process.wait()

machine.start()

with subtest("everything is there"):
    machine.copy_from_host(images / "registry", "/srv/registry")
    machine.copy_from_host(shutil.which("docker-registry"), "/usr/local/bin/docker-registry")
    machine.copy_from_host(CRITEST, "/usr/local/bin/critest")
    machine.copy_from_host(keel, "/usr/local/bin/keel")
    machine.write_file("/srv/registry.yaml", SERVED)
    # The suite asks for it, though it is root.
    machine.write_file("/usr/local/bin/sudo", '#!/bin/sh\nexec "$@"\n')
    machine.succeed("chmod 755 /usr/local/bin/sudo; mkdir -p /var/cache/apparmor")
    machine.succeed("systemd-run --unit registry docker-registry serve /srv/registry.yaml")

with subtest("the agent runs"):
    machine.copy_from_host(REPOSITORY / "agent/dist/keel.service", "/etc/systemd/system/keel.service")
    machine.write_file("/etc/keel/config.yaml", CONFIG)
    machine.succeed("systemctl daemon-reload; systemctl start keel", timeout=300)
    machine.wait_until_succeeds("test -S /run/keel/cri.sock")

with subtest("critest is content"):
    words = f"critest --runtime-endpoint=unix:///run/keel/cri.sock -ginkgo.focus='{FOCUS}' -ginkgo.no-color"
    status, output = machine.execute(f"cd /root && {words} 2>&1", timeout=3000)
    print(output[-6000:])
    assert status == 0
