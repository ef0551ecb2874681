"""A virtual machine that a test drives, with the words of the NixOS test driver.

The machine has no network. Commands go to a root shell on its first virtio
console, files through a virtio port beside it.
"""

import base64
import io
import os
import shlex
import socket
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

DATA_PORT = "/dev/virtio-ports/org.evenkeel.data"


class Failure(Exception):
    """What a test waited for did not happen."""


class Machine:
    """One machine; its disk is a copy that is kept until `close`."""

    def __init__(self, image: Path, memory_mib: int = 1024, cores: int = 2):
        self.image = image
        self.memory_mib = memory_mib
        self.cores = cores
        self._folder = tempfile.TemporaryDirectory(prefix="keel-vm-")
        self.folder = Path(self._folder.name)
        self._qemu = None
        self._shell = None
        self._data = None
        self._rest = b""
        # What programs there wrote to the data port, outside of the machine: a crash does not take it back.
        self.heard = b""

    # --- power ---

    def start(self):
        """The machine has booted far enough for a shell."""
        if self._qemu:
            return
        disk = self.folder / "disk.img"
        if not disk.exists():
            subprocess.run(["cp", "--sparse=always", self.image / "disk.img", disk], check=True)
        shell, data = self._listen("shell"), self._listen("data")
        command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]
        command += ["-m", str(self.memory_mib), "-smp", str(self.cores)]
        command += ["-nodefaults", "-display", "none", "-nic", "none"]
        command += ["-kernel", str(self.image / "vmlinuz"), "-initrd", str(self.image / "initrd")]
        command += ["-append", "console=ttyS0 root=LABEL=root rw quiet systemd.show_status=yes mitigations=off"]
        command += ["-serial", f"file:{self.folder / 'console.log'}"]
        command += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
        command += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
        command += ["-chardev", f"socket,id=shell,path={self.folder / 'shell'}", "-device", "virtconsole,chardev=shell"]
        command += ["-chardev", f"socket,id=data,path={self.folder / 'data'}"]
        command += ["-device", "virtserialport,chardev=data,name=org.evenkeel.data"]
        self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._shell, _ = shell.accept()
        self._data, _ = data.accept()
        shell.close()
        data.close()
        self._wait_for_shell()

    def _listen(self, name: str) -> socket.socket:
        path = self.folder / name
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(30)
        listener.bind(str(path))
        listener.listen(1)
        return listener

    def _wait_for_shell(self, timeout: float = 300):
        self._rest = b""
        deadline = time.monotonic() + timeout
        # What a shell wrote before a reset may come first.
        while b"shell is ready" not in self._line(deadline):
            pass

    def reboot(self):
        """The machine has shut down in order and booted again."""
        self._shell.sendall(b"systemctl reboot\n")
        self._wait_for_shell()

    def shutdown(self):
        """The machine has shut down in order and is off."""
        if self._qemu:
            self._shell.sendall(b"systemctl poweroff\n")
            self._qemu.wait(timeout=120)
            self._forget()

    def crash(self):
        """The machine is off, as by a pulled plug."""
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()
            self.hear(5)
            self._forget()

    def _forget(self):
        self._qemu = None
        self._shell.close()
        self._data.close()

    def close(self):
        """The machine is off and its disk deleted."""
        self.crash()
        self._folder.cleanup()

    # --- commands ---

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failure("the machine did not answer in time")
            self._shell.settimeout(left)
            try:
                read = self._shell.recv(65536)
            except TimeoutError as error:
                raise Failure("the machine did not answer in time") from error
            if not read:
                raise Failure("the machine went off")
            self._rest += read
        line, self._rest = self._rest.split(b"\n", 1)
        return line.strip()

    def execute(self, command: str, timeout: float = 120) -> tuple[int, str]:
        """Runs a command in bash. Returns its exit code, and stdout and stderr together."""
        self._send(command)
        return self._answer(timeout)

    def _send(self, command: str):
        script = f"( set -euo pipefail; {command}\n) 2>&1 </dev/null | (base64 -w 0; echo)\necho ${{PIPESTATUS[0]}}\n"
        self._shell.sendall(script.encode())

    def _answer(self, timeout: float) -> tuple[int, str]:
        deadline = time.monotonic() + timeout
        output = base64.b64decode(self._line(deadline)).decode(errors="replace")
        return int(self._line(deadline)), output

    def succeed(self, *commands: str, timeout: float = 120) -> str:
        """Each command exits with 0. Returns what they printed."""
        printed = ""
        for command in commands:
            status, output = self.execute(command, timeout)
            if status != 0:
                raise Failure(f"`{command}` exited with {status}:\n{output}")
            printed += output
        return printed

    def fail(self, *commands: str, timeout: float = 120) -> str:
        """Each command exits with something else than 0. Returns what they printed."""
        printed = ""
        for command in commands:
            status, output = self.execute(command, timeout)
            if status == 0:
                raise Failure(f"`{command}` should fail, but printed:\n{output}")
            printed += output
        return printed

    def wait_until_succeeds(self, command: str, timeout: float = 120) -> str:
        """The command has exited with 0 at last. Returns what it printed then."""
        return self._wait_until(command, timeout, lambda status: status == 0)

    def wait_until_fails(self, command: str, timeout: float = 120) -> str:
        """The command has exited with something else than 0 at last. Returns what it printed then."""
        return self._wait_until(command, timeout, lambda status: status != 0)

    def _wait_until(self, command: str, timeout: float, wanted) -> str:
        deadline = time.monotonic() + timeout
        while True:
            status, output = self.execute(command, timeout)
            if wanted(status):
                return output
            if time.monotonic() > deadline:
                raise Failure(f"`{command}` still exits with {status} after {timeout} s:\n{output}")
            time.sleep(0.3)

    # --- systemd and files ---

    def unit_state(self, unit: str) -> str:
        """ActiveState, such as active or failed."""
        return self.succeed(f"systemctl show --property=ActiveState --value {shlex.quote(unit)}").strip()

    def wait_for_unit(self, unit: str, timeout: float = 120):
        """The unit is active."""
        deadline = time.monotonic() + timeout
        while (state := self.unit_state(unit)) != "active":
            if state == "failed" or time.monotonic() > deadline:
                raise Failure(f"{unit} is {state}:\n{self.execute(f'journalctl --no-pager -n 50 -u {unit}')[1]}")
            time.sleep(0.3)

    def copy_from_host(self, source: str | Path, target: str):
        """The file or folder `source` of this machine is `target` there."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(source, arcname=os.path.basename(target), filter=_as_root)
        self._send_tar(packed.getvalue(), os.path.dirname(target))

    def write_file(self, target: str, text: str):
        """The file `target` holds `text`."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            info = tarfile.TarInfo(os.path.basename(target))
            info.size, info.mtime = len(text.encode()), time.time()
            tar.addfile(info, io.BytesIO(text.encode()))
        self._send_tar(packed.getvalue(), os.path.dirname(target))

    def _send_tar(self, packed: bytes, folder: str):
        folder = shlex.quote(folder)
        self._send(f"mkdir -p {folder}; head -c {len(packed)} {DATA_PORT} | tar -x -f - -C {folder} --no-same-owner")
        self._data.settimeout(300)
        self._data.sendall(packed)
        status, output = self._answer(300)
        if status != 0:
            raise Failure(f"cannot unpack in {folder}:\n{output}")

    def hear(self, seconds: float):
        """`heard` is longer by what comes from the data port within `seconds`, or until the machine is off."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._data.settimeout(left)
            try:
                part = self._data.recv(65536)
            except (TimeoutError, ConnectionError):
                return
            if not part:
                return
            self.heard += part

    def console(self) -> str:
        """What the machine printed on its console."""
        return (self.folder / "console.log").read_text(errors="replace")


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info
