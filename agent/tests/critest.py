#!/usr/bin/env python3
"""Runs the CRI validation suite against `keel agent`: see docs/development/cri.md.

    agent/tests/critest.py --keel PROGRAM --critest PROGRAM [--keep] [-- WORDS FOR CRITEST]

Needs root, docker-registry, apt-get with a source of packages (busybox and nginx are fetched and
taken apart, not installed), pgrep, ipcs, and cc. The images that the suite pulls by their public names are made here and served
by a registry on the loopback, which the agent takes for a mirror of all that it is asked for.
Everything lives in one temporary folder, and is gone at the end.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

PASSWD = """root:x:0:0:root:/root:/bin/sh
default-user:x:1000:1000::/home:/bin/sh
www-data:x:33:33:www:/www:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = "root:x:0:\nwww-data:x:33:\ndefault-user:x:1000:\n"
NGINX = """user root;
worker_processes 1;
pid /var/run/nginx.pid;
daemon off;
events { worker_connections 64; }
http { access_log off; server { listen %s; location / { root /www; index index.html; } } }
"""
ESCALATION = r"""
#include <stdio.h>
#include <unistd.h>
int main(void) { printf("Effective uid: %d\n", (int)geteuid()); return 0; }
"""


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files, links):
    """A tar archive of {path: (content, mode)} and hard links {path: target}, with all folders."""
    out = io.BytesIO()
    made = set()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def folder(path, mode=0o755):
            parent = os.path.dirname(path)
            if path and path not in made:
                if parent:
                    folder(parent)
                made.add(path)
                info = tarfile.TarInfo(path)
                info.type, info.mode = tarfile.DIRTYPE, mode
                tar.addfile(info)

        folder("tmp", 0o1777)
        for path in ["bin", "etc", "dev", "proc", "sys", "var/run", "var/log/nginx", "var/lib/nginx", "root", "home", "www"]:
            folder(path)
        for path, (content, mode) in files.items():
            folder(os.path.dirname(path))
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
        for path, target in links.items():
            folder(os.path.dirname(path))
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.LNKTYPE, target
            # Some give it to the file.
            info.mode = files[target][1]
            tar.addfile(info)
    return out.getvalue()


def with_libraries(program, path):
    files = {path: (program.read_bytes(), 0o755)}
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/lib\S+)", listed):
        files[library[1:]] = (pathlib.Path(library).read_bytes(), 0o755)
    return files


def debian(folder, package):
    """Debian's package, taken apart."""
    folder = folder / package
    if not folder.exists():
        folder.mkdir()
        # apt's own user may not write there, and says so.
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        for archive in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", archive.name, "."], cwd=folder, check=True)
    return folder


def busybox(folder):
    # Not the static one: its shell runs ls though there is none.
    program = debian(folder, "busybox") / "bin/busybox"
    files = {
        **with_libraries(program, "bin/busybox"),
        "etc/passwd": (PASSWD.encode(), 0o644),
        "etc/group": (GROUP.encode(), 0o644),
    }
    # What it has no applets for.
    for name in ["pgrep", "ipcs"]:
        files |= with_libraries(pathlib.Path("/usr/bin") / name, f"bin/{name}")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return files, {f"bin/{applet}": "bin/busybox" for applet in applets if f"bin/{applet}" not in files}


def nginx(folder, port):
    """The program and its libraries, with busybox beside it."""
    files, links = busybox(folder)
    files |= with_libraries(debian(folder, "nginx") / "usr/sbin/nginx", "usr/sbin/nginx")
    files["etc/nginx/nginx.conf"] = ((NGINX % port).encode(), 0o644)
    files["www/index.html"] = (b"<html>Welcome to nginx!</html>\n", 0o644)
    return files, links


class Registry:
    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        configuration = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
            "http": {"addr": self.host},
            "log": {"accesslog": {"disabled": True}, "level": "error"},
        }
        path = folder / "registry.json"
        path.write_text(json.dumps(configuration))
        log = open(folder / "registry.log", "w")
        self.process = subprocess.Popen(["docker-registry", "serve", path], stdout=log, stderr=log)
        wait(lambda: self.ask("GET", "/v2/"), "the registry")

    def ask(self, method, path, data=None, kind=None):
        url = path if path.startswith("http") else f"http://{self.host}{path}"
        request = urllib.request.Request(url, data=data, method=method)
        if kind:
            request.add_header("Content-Type", kind)
        return urllib.request.urlopen(request)

    def blob(self, repository, data):
        digest = sha(data)
        place = self.ask("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["Location"]
        separator = "&" if "?" in place else "?"
        self.ask("PUT", f"{place}{separator}digest={digest}", data, "application/octet-stream")
        return {"digest": digest, "size": len(data)}

    def push(self, names, content, config):
        tar = layer(*content)
        configuration = {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [sha(tar)]},
        }
        for name in names:
            repository, _, tag = name.partition(":")
            kind = "application/vnd.oci.image."
            manifest = {
                "schemaVersion": 2,
                "mediaType": kind + "manifest.v1+json",
                "config": {
                    "mediaType": kind + "config.v1+json",
                    **self.blob(repository, json.dumps(configuration).encode()),
                },
                "layers": [
                    {"mediaType": kind + "layer.v1.tar+gzip", **self.blob(repository, gzip.compress(tar, 1, mtime=0))}
                ],
            }
            path = f"/v2/{repository}/manifests/{tag or 'latest'}"
            self.ask("PUT", path, json.dumps(manifest).encode(), manifest["mediaType"])


def wait(look, what):
    deadline = time.monotonic() + 60
    while True:
        try:
            return look()
        except (OSError, subprocess.CalledProcessError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"waited in vain for {what}: {error}")
            time.sleep(0.05)


def push_all(registry, folder):
    plain = busybox(folder)
    staging, e2e = "k8s-staging-cri-tools", "e2e-test-images"
    shell = {"Cmd": ["sh"]}

    def unlike(text):
        return {**plain[0], "etc/which": (text.encode(), 0o644)}, plain[1]

    registry.push([f"{e2e}/busybox:1.29-2", "library/busybox:latest"], plain, shell)
    names = ["test-image-latest", "test-image-tag:test", "test-image-tag:all"] + [f"test-image-{n}:latest" for n in (1, 2, 3)]
    for name in names:
        registry.push([f"{staging}/{name}"], unlike(name), shell)
    registry.push([f"{staging}/test-image-tags:{n}" for n in (1, 2, 3)], unlike("tags"), shell)
    users = {"uid": "1002", "username": "www-data", "uid-group": "1003:users", "username-group": "www-data:100"}
    for name, user in users.items():
        registry.push([f"{staging}/test-image-user-{name}"], unlike(name), {**shell, "User": user})
    groups = GROUP + "group-defined-in-image:x:50000:default-user\n"
    files = {**plain[0], "etc/group": (groups.encode(), 0o644)}
    registry.push([f"{staging}/test-image-predefined-group"], (files, plain[1]), {**shell, "User": "1000"})
    serve = {"Cmd": ["/usr/sbin/nginx"]}
    registry.push([f"{e2e}/nginx:1.14-2"], nginx(folder, 80), serve)
    files = {**plain[0], "www/index.html": (b"<html>It works!</html>\n", 0o644)}
    web = ["sh", "-c", "echo httpd; exec httpd -f -p 80 -h /www"]
    registry.push([f"{e2e}/httpd:2.4.39-4"], (files, plain[1]), {"Cmd": web})
    registry.push([f"{staging}/hostnet-nginx-amd64"], nginx(folder, 12003), serve)
    source, program = folder / "escalation.c", folder / "escalation"
    source.write_text(ESCALATION)
    subprocess.run(["cc", "-static", "-o", program, source], check=True)
    files = {**plain[0], "bin/escalation": (program.read_bytes(), 0o4755)}
    registry.push([f"{e2e}/nonewprivs:1.3"], (files, plain[1]), {"Cmd": ["/bin/escalation"]})
    registry.push(["pause:3.9"], plain, {"Cmd": ["sleep", "1000000"]})


class Agent:
    def __init__(self, keel, folder, registry):
        hosts = ["docker.io", "gcr.io", "k8s.gcr.io", "registry.k8s.io"]
        mirror = {"host": registry.host, "plainHTTP": True}
        self.socket = folder / "cri.sock"
        self.folder = folder
        name = f"keelct{os.getpid() % 100000}"
        self.configuration = {
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "AgentConfiguration",
            "nodeName": "critest",
            "stateDir": str(folder / "state"),
            "runDir": str(folder / "run"),
            "logDir": str(folder / "logs"),
            "cgroupRoot": name,
            "metricsAddress": "",
            "network": {"bridge": name, "podCIDR": "10.97.0.0/16", "serviceCIDR": "", "cni": {"mode": "never"}},
            "images": {"registries": [{"host": host, "mirrors": [mirror]} for host in hosts]},
            "cri": {"socket": str(self.socket)},
            # However full the disk is: images that a test has pulled stay.
            "node": {"evictionHard": {}},
        }
        path = folder / "agent.json"
        path.write_text(json.dumps(self.configuration))
        self.log = open(folder / "agent.log", "w")
        environment = {**os.environ, "RUST_LOG": os.environ.get("RUST_LOG", "info")}
        words = [keel, "agent", "--config", path]
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log, env=environment)
        wait(self.answers, "the agent")

    def answers(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket))

    def clear(self):
        """What a suite that was cut short has left of its pods, and the bridge."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        root = self.configuration["cgroupRoot"]
        groups = [path for path in pathlib.Path("/sys/fs/cgroup").glob(f"*/{root}") if path.is_dir()]
        for group in groups + [pathlib.Path("/sys/fs/cgroup") / root]:
            for procs in group.rglob("cgroup.procs"):
                for pid in procs.read_text().split():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass
        time.sleep(0.5)
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as error:
                    print(f"{folder} stays: {error}", file=sys.stderr)
        subprocess.run(["ip", "link", "delete", self.configuration["network"]["bridge"]], check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keel", required=True, type=pathlib.Path)
    parser.add_argument("--critest", type=pathlib.Path, help="without it, the agent is left to play with")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    parser.add_argument("words", nargs="*", help="for critest, after --")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="keel-critest-"))
    registry = agent = None
    code = 1
    try:
        registry = Registry(folder)
        push_all(registry, folder)
        agent = Agent(options.keel.resolve(), folder, registry)
        endpoint = f"unix://{agent.socket}"
        if options.critest:
            words = [options.critest.resolve(), f"--runtime-endpoint={endpoint}", *options.words]
            code = subprocess.run(words, cwd=folder).returncode
        else:
            print(f"crictl --runtime-endpoint {endpoint}\nfolder {folder}; ends with a line on standard input", flush=True)
            sys.stdin.readline()
            code = 0
    finally:
        if agent:
            agent.clear()
        if registry:
            registry.process.kill()
            registry.process.wait()
        if options.keep:
            print(f"left: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
