"""A registry on loopback (Debian's docker-registry), and images pushed to it."""

import hashlib
import http.client
import json
import subprocess
import time
from pathlib import Path


class Registry:
    """Runs until it is closed. `host` is what references begin with."""

    def __init__(self, folder: Path, port: int = 5000) -> None:
        self.host = f"127.0.0.1:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "registry.yml"
        configuration.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/blobs}}}}\n"
            f"http: {{addr: {self.host}}}\n"
        )
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(configuration)], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("docker-registry does not answer")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self._ask("GET", "/v2/")[0] == 200
        except OSError:
            return False

    def _ask(self, method: str, path: str, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host, timeout=300)
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers

    def push_blob(self, name: str, content) -> str:
        """`content` is bytes, or the path of a file. Returns the digest."""
        path = content if isinstance(content, Path) else None
        digest = f"sha256:{hashlib.file_digest(path.open('rb'), 'sha256').hexdigest()}" if path else (
            f"sha256:{hashlib.sha256(content).hexdigest()}"
        )
        if self._ask("HEAD", f"/v2/{name}/blobs/{digest}")[0] == 200:
            return digest
        status, headers = self._ask("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202, status
        location = headers["Location"].split(self.host, 1)[-1]
        size = path.stat().st_size if path else len(content)
        body = path.open("rb") if path else content
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        status, _ = self._ask("PUT", f"{location}&digest={digest}", body, headers)
        assert status == 201, status
        return digest

    def push_image(self, name: str, tag: str, layer: Path, diff_id: str, config: dict) -> str:
        """An image of one gzipped layer. Returns its reference."""
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[
            subprocess.check_output(["uname", "-m"], text=True).strip()
        ]
        configuration = json.dumps(
            {
                "architecture": machine,
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
        ).encode()
        oci = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{oci}.manifest.v1+json",
            "config": {
                "mediaType": f"{oci}.config.v1+json",
                "digest": self.push_blob(name, configuration),
                "size": len(configuration),
            },
            "layers": [
                {
                    "mediaType": f"{oci}.layer.v1.tar+gzip",
                    "digest": self.push_blob(name, layer),
                    "size": layer.stat().st_size,
                }
            ],
        }
        headers = {"Content-Type": manifest["mediaType"]}
        status, _ = self._ask("PUT", f"/v2/{name}/manifests/{tag}", json.dumps(manifest), headers)
        assert status == 201, status
        return f"{self.host}/{name}:{tag}"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
