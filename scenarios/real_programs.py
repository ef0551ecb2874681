#!/usr/bin/env python3
"""PostgreSQL, nginx and redis from Debian in pods, with images from a local registry.

    sudo scenarios/real_programs.py --keel target/release/keel

Needs root, a Debian mirror at the first run, and the packages mmdebstrap, docker-registry, git and
busybox-static. The root file system is kept in --cache. Everything else is in a network namespace
and below a temporary folder, and removed at the end.
"""

import argparse
import contextlib
import hashlib
import os
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from node import Node, in_own_network, until
from registry import Registry

PACKAGES = "postgresql,postgresql-contrib,nginx-light,redis-server,busybox-static"


def say(text: str) -> None:
    print(text, flush=True)


def layer(cache: Path) -> tuple[Path, str]:
    """The packages as one gzipped layer, and the digest of what is in it."""
    cache.mkdir(parents=True, exist_ok=True)
    tar, packed = cache / "root.tar", cache / "root.tar.gz"
    if not packed.exists():
        say(f"making the root file system in {cache} (once)")
        left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        subprocess.check_call(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", *left_out]
            + [os.environ.get("KEEL_SUITE", "bookworm"), str(tar)]
        )
        with packed.open("wb") as out:
            subprocess.check_call(["gzip", "-1", "-c", str(tar)], stdout=out)
    with tar.open("rb") as file:
        return packed, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def deployment(app: str, spec: dict) -> dict:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app},
        "spec": {
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": app}},
            "template": {"metadata": {"labels": {"app": app}}, "spec": spec},
        },
    }


def folder_volume(name: str, path: Path) -> dict:
    return {"name": name, "hostPath": {"path": str(path), "type": "DirectoryOrCreate"}}


def postgres(image: str, data: Path) -> dict:
    mount = {"name": "data", "mountPath": "/data"}
    serve = (
        "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin); "
        "test -s /data/db/PG_VERSION || initdb -D /data/db -A trust >/dev/null; "
        "exec postgres -D /data/db -k /tmp -c listen_addresses='*' -c hba_file=/tmp/hba"
    )
    hba = "printf 'local all all trust\\nhost all all all trust\\n' > /tmp/hba; "
    stop = "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin); pg_ctl -D /data/db stop -m fast"
    return deployment(
        "postgres",
        {
            "volumes": [
                folder_volume("data", data),
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            ],
            "initContainers": [
                {
                    "name": "own",
                    "image": image,
                    "securityContext": {"runAsUser": 0},
                    "command": ["chown", "postgres:postgres", "/data"],
                    "volumeMounts": [mount],
                }
            ],
            "containers": [
                {
                    "name": "postgres",
                    "image": image,
                    "command": ["sh", "-c", hba + serve],
                    "ports": [{"name": "sql", "containerPort": 5432}],
                    "resources": {"limits": {"memory": "512Mi"}},
                    "startupProbe": {
                        "tcpSocket": {"port": "sql"},
                        "periodSeconds": 1,
                        "failureThreshold": 120,
                    },
                    "readinessProbe": {
                        "exec": {"command": ["pg_isready", "-h", "127.0.0.1"]},
                        "periodSeconds": 1,
                        "timeoutSeconds": 10,
                    },
                    "livenessProbe": {"tcpSocket": {"port": "sql"}, "timeoutSeconds": 10},
                    "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", stop]}}},
                    "volumeMounts": [mount, {"name": "shm", "mountPath": "/dev/shm"}],
                }
            ],
        },
    )


def nginx(image: str) -> dict:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10}
    return deployment(
        "nginx",
        {
            "volumes": [{"name": "site", "configMap": {"name": "site"}}],
            "containers": [
                {
                    "name": "nginx",
                    "image": image,
                    "ports": [{"name": "http", "containerPort": 80}],
                    "startupProbe": {**probe, "failureThreshold": 60},
                    "readinessProbe": probe,
                    "livenessProbe": probe,
                    "volumeMounts": [{"name": "site", "mountPath": "/var/www/html"}],
                }
            ],
        },
    )


def site(text: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "site"},
        "data": {"index.html": text},
    }


def redis(image: str, data: Path, round: int) -> dict:
    mount = {"name": "data", "mountPath": "/data"}
    return deployment(
        "redis",
        {
            "volumes": [folder_volume("data", data)],
            "initContainers": [
                {
                    "name": "own",
                    "image": image,
                    "securityContext": {"runAsUser": 0},
                    "command": ["chown", "redis:redis", "/data"],
                    "volumeMounts": [mount],
                }
            ],
            "containers": [
                {
                    "name": "redis",
                    "image": image,
                    # Saves nothing by itself, also not at its end: that is for the hook.
                    "args": ["redis-server", "--dir", "/data", "--save", "", "--protected-mode", "no"],
                    "env": [{"name": "ROUND", "value": str(round)}],
                    "readinessProbe": {
                        "exec": {"command": ["redis-cli", "ping"]},
                        "periodSeconds": 1,
                        "timeoutSeconds": 10,
                    },
                    "lifecycle": {"preStop": {"exec": {"command": ["redis-cli", "save"]}}},
                    "volumeMounts": [mount],
                }
            ],
        },
    )


def pgbench(image: str, host: str) -> dict:
    script = f"pgbench -h {host} -i -s 2 -q && exec pgbench -h {host} -c 4 -j 2 -t 250"
    container = {"name": "pgbench", "image": image, "command": ["sh", "-c", script]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "pgbench"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }


def history(node: Node) -> str:
    pod = node.ready("postgres")["metadata"]["name"]
    query = ["psql", "-h", "/tmp", "-tAc", "select count(*) from pgbench_history"]
    return node.keel("exec", pod, "--", *query).strip()


def page(node: Node) -> str:
    address = node.ready("nginx")["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        return answer.read().decode()


def restarts(pod: dict) -> int:
    return pod["status"]["containerStatuses"][0]["restartCount"]


def tell_postgres(node: Node, image: str) -> None:
    host = node.ready("postgres")["status"]["podIP"]
    node.push("Measure", pgbench=[pgbench(image, host)])
    conditions = lambda: node.get("job", "pgbench").get("status", {}).get("conditions", [])
    done = until("pgbench", lambda: [c["type"] for c in conditions() if c["status"] == "True"])
    assert "Complete" in done, done
    log = node.keel("logs", "job/pgbench")
    tps = next(line for line in log.splitlines() if line.startswith("tps = "))
    assert history(node) == "1000", history(node)
    say(f"✔ a Job ran pgbench against it: {tps}")

    before = node.ready("postgres")
    subprocess.check_call(["kill", "-9", str(node.pid(before))])
    until("the restart", lambda: restarts(node.pod("postgres")) == 1)
    assert history(node) == "1000"
    say("✔ PostgreSQL lost nothing to kill -9, and was restarted once")

    pid = node.pid(node.ready("postgres"))
    node.kill_agent()
    node.start()
    assert node.pid(node.ready("postgres")) == pid and history(node) == "1000"
    say("✔ PostgreSQL went on through kill -9 of the agent, with the same PID")


def tell_nginx(node: Node) -> None:
    assert page(node) == "first\n", page(node)
    pid = node.pid(node.ready("nginx"))
    node.push("Say more", site=[site("second\n")])
    until("the new page", lambda: page(node) == "second\n")
    assert node.pid(node.ready("nginx")) == pid and restarts(node.ready("nginx")) == 0
    say("✔ nginx serves what the ConfigMap says now, without a restart")


def tell_redis(node: Node, image: str, data: Path) -> None:
    old = node.ready("redis")["metadata"]["name"]
    assert node.keel("exec", old, "--", "redis-cli", "set", "colour", "green").strip() == "OK"
    node.push("Change redis", redis=[redis(image, data, 2)])
    until("another pod", lambda: (node.pod("redis") or {"metadata": {"name": old}})["metadata"]["name"] != old)
    new = node.ready("redis")["metadata"]["name"]
    assert node.keel("exec", new, "--", "redis-cli", "get", "colour").strip() == "green"
    say("✔ redis saved in its preStop hook what the next pod found")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--keel", required=True, type=os.path.abspath)
    arguments.add_argument("--cache", type=Path, default=Path("~/.cache/evenkeel/real-programs").expanduser())
    given = arguments.parse_args()
    in_own_network()
    packed, diff_id = layer(given.cache)
    folder = Path(tempfile.mkdtemp(prefix="keel-real-"))
    with contextlib.ExitStack() as last:
        last.callback(subprocess.check_call, ["rm", "-rf", str(folder)])
        registry = Registry(folder / "registry")
        last.callback(registry.close)
        tell(folder, registry, given.keel, (packed, diff_id), last)
    say("✔ all is removed")


def tell(folder: Path, registry: Registry, keel: str, layer_of_all: tuple[Path, str], last: contextlib.ExitStack) -> None:
    packed, diff_id = layer_of_all
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = {
        "postgres": {"User": "postgres", "Env": [path]},
        "nginx": {"Cmd": ["nginx", "-g", "daemon off;"], "Env": [path]},
        "redis": {"User": "redis", "Env": [path]},
    }
    images = {name: registry.push_image(name, "v1", packed, diff_id, one) for name, one in config.items()}
    node = Node(keel, folder / "node", cgroupRoot=folder.name, metricsAddress="")
    last.callback(node.clear)
    node.push(
        "Serve",
        postgres=[postgres(images["postgres"], folder / "pgdata")],
        nginx=[nginx(images["nginx"])],
        site=[site("first\n")],
        redis=[redis(images["redis"], folder / "redis", 1)],
    )
    began = time.monotonic()
    node.start()
    for app in ("postgres", "nginx", "redis"):
        node.ready(app)
    size = packed.stat().st_size >> 20
    say(f"✔ postgres, nginx and redis pulled ({size} MiB) and ready in {time.monotonic() - began:.1f} s")
    tell_postgres(node, images["postgres"])
    tell_nginx(node)
    tell_redis(node, images["redis"], folder / "redis")


if __name__ == "__main__":
    main()
