"""Wall clocks that jump by an hour, while pods run and must go on to.

The member that jumped has to shake hands anew: its cable is out for a moment, and a follower is
killed and started with the wrong time."""

import contextlib
import json
import time

from fault import Fault, follows, leads
from measure import wait
from members import Members

HOUR = 3600
PODS = "/api/v1/namespaces/default/pods"
REPLICAS = 6


def manifest() -> str:
    """Pods for all members, for as long as nobody ends them."""
    labels = {"app": "steady"}
    container = {"name": "main", "image": "host:", "command": ["sleep", "1000000"]}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}
    spec = {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "steady"}, "spec": spec})


def pods(members: Members) -> list[tuple]:
    """Each pod that there is, and what would change if it had been ended or moved."""
    items = members.ask(0, "GET", PODS)[1]["items"]
    return sorted(map(seen, items))


def seen(pod: dict) -> tuple:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    restarts = sum(status["restartCount"] for status in statuses)
    return pod["metadata"]["uid"], pod["spec"].get("nodeName"), pod["status"].get("phase"), restarts


def run(members: Members) -> bool:
    return [pod[2] for pod in pods(members)] == ["Running"] * REPLICAS


def ready(members: Members) -> bool:
    nodes = members.ask(0, "GET", "/api/v1/nodes")[1]["items"]
    conditions = [each for node in nodes for each in node["status"].get("conditions", [])]
    return [each["status"] for each in conditions if each["type"] == "Ready"] == ["True"] * members.size


def jumping(who, seconds: int, again=None):
    """The wall clock of the member that `who` picks is off by `seconds`; `again`: what makes it shake hands."""

    @contextlib.contextmanager
    def strike(members: Members, leader: int):
        wait(lambda: run(members) and ready(members), "the pods to run")
        before, victim = pods(members), who(members, leader)
        members.controls[victim].set(seconds=seconds)
        try:
            yield [victim]
            if again:
                again(members, victim)
            token = members.keel(victim, "token", "create")
            if token.returncode != 0:
                raise RuntimeError(f"no token by n{victim}, whose clock is wrong: {token.stderr}")
            if not ready(members):
                raise RuntimeError("a node is not Ready")
        finally:
            members.controls[victim].set(seconds=0)
        time.sleep(1)
        if pods(members) != before:
            raise RuntimeError(f"pods were ended or moved: {before}, now {pods(members)}")
        if not ready(members):
            raise RuntimeError("a node is not Ready")

    return strike


def restart(members: Members, victim: int):
    """The agent starts with the wrong time."""
    members.programs[victim].kill()
    members.start(victim)
    wait(lambda: members.members(victim), "the member to answer")


def steady(title: str, strike) -> Fault:
    """A fault that moves neither the leader nor a pod."""
    return Fault(title, strike, hold=5, moves=False, manifest=manifest())


FAULTS = {
    "leader-ahead": steady("the leader's clock an hour ahead", jumping(leads, HOUR)),
    "leader-behind": steady("the leader's clock an hour behind", jumping(leads, -HOUR)),
    "follower-ahead": steady("a follower's clock an hour ahead, started so", jumping(follows, HOUR, restart)),
    "follower-behind": steady("a follower's clock an hour behind, started so", jumping(follows, -HOUR, restart)),
}
