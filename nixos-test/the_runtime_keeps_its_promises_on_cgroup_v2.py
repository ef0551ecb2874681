# The runtime's own tests, as they run on the machine that builds, where cgroups are version 2
# alone and PID 1 is systemd. Needs cargo: it builds them. KEEL_VM_TESTS chooses by parts of their names.
import json
import os
import shlex
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def built() -> tuple[Path, Path]:
    """The test program, and the supervisor that it starts by its path."""
    # All of them: one alone may have its dependencies made anew, with other features.
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout.splitlines()
    made = [message for message in map(json.loads, lines) if message.get("executable")]

    def program(name: str) -> Path:
        return next(Path(one["executable"]) for one in made if one["target"]["name"] == name)

    return program("pods"), program("keel-supervisor")


machine.start()

with subtest("the tests are there with what they need"):
    tests, supervisor = built()
    for program in (tests, supervisor):
        small = machine.folder / program.name
        subprocess.run(["strip", "-o", small, program], check=True)
        machine.succeed(f"mkdir -p {program.parent}")
        machine.copy_from_host(small, str(program))
    machine.succeed(f"mkdir -p {supervisor.parent.parent}/tmp")

with subtest("they pass"):
    chosen = shlex.join(os.environ.get("KEEL_VM_TESTS", "").split())
    status, output = machine.execute(f"cd / && RUST_BACKTRACE=0 {tests} {chosen} 2>&1", timeout=3000)
    print(output)
    assert status == 0
