#!/usr/bin/env python3
"""Compares how fast names are answered, with dnsmasq and unbound. Prints a Markdown table.

    benches/dns.py [--dns target/release/examples/dns] [--runs 5] [--seconds 3] [--names 1000]

Needs root, ip, and Debian's dnsmasq-base, unbound and dnsperf; the server is `cargo build --release -p
netstack --example dns`. With `--resolvers` it prints instead what dig (dnsutils), glibc (getent) and musl
(a program that musl-tools' musl-gcc makes) are told by keel. Everything is on the loopback of a network
namespace of its own, which is removed at the end.

- `own`: names of services, which each server knows by itself (dnsmasq: `addn-hosts`; unbound: `local-data`).
- `others`: names of another server, which each passes on, and keeps for five seconds.
- `flat out`: what dnsperf gets answered in a second, with the server's CPU time for each answer.
- `one at a time`: how long a client waits that asks when it has been answered. `echo` does nothing but send
  the packet back.

A run of each follows a run of each other, so that a noisy machine disturbs all alike: ratios count.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from table import Table, rounds  # noqa: E402

ADDRESS = "127.0.0.10"
UPSTREAM = "127.0.0.20"
DOMAIN = "cluster.local"
FOREIGN = "example.org"
TICK = os.sysconf("SC_CLK_TCK")


def service(number: int, domain: str = DOMAIN) -> str:
    return f"s{number}.default.svc.{domain}"


def address(number: int) -> str:
    return f"10.96.{1 + number // 256}.{number % 256}"


class Server:
    """A server in the namespace, from the start of its process to its end."""

    def __init__(self, name: str, words: list[str], says_ready: bool):
        self.name, self.words, self.says_ready = name, words, says_ready
        self.process = None

    def __enter__(self):
        out = subprocess.PIPE if self.says_ready else subprocess.DEVNULL
        self.process = subprocess.Popen(self.words, stdout=out, stderr=subprocess.DEVNULL, text=True)
        if self.says_ready:
            self.process.stdout.readline()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK


class Bench:
    def __init__(self, options):
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="keelbench-dns-"))
        count = options.names
        names = {"own": [service(n) for n in range(count)]}
        names["others"] = [service(n, FOREIGN) for n in range(count)]
        for kind, all_names in names.items():
            (self.folder / kind).write_text("".join(f"{name} A\n" for name in all_names))
        hosts = "".join(f"{address(n)} {service(n)}\n" for n in range(count))
        (self.folder / "hosts").write_text(hosts)
        data = "".join(f'local-data: "{service(n)} 5 IN A {address(n)}"\n' for n in range(count))
        (self.folder / "unbound.conf").write_text(
            f"""server:
    interface: {ADDRESS}
    do-daemonize: no
    use-syslog: no
    chroot: ""
    username: ""
    pidfile: ""
    directory: "{self.folder}"
    do-not-query-localhost: no
    module-config: "iterator"
    num-threads: 1
    local-zone: "{DOMAIN}." static
{data}
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {UPSTREAM}
"""
        )

    def servers(self) -> list[Server]:
        dns, count, at = self.options.dns, str(self.options.names), f"{ADDRESS}:53"
        dnsmasq = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
        dnsmasq += ["--bind-interfaces", f"--listen-address={ADDRESS}", f"--server={UPSTREAM}", "--user=root"]
        dnsmasq += [f"--addn-hosts={self.folder}/hosts", "--cache-size=10000", "--pid-file="]
        return [
            Server("keel", [dns, "serve", at, DOMAIN, count, f"{UPSTREAM}:53"], True),
            Server("dnsmasq", dnsmasq, False),
            Server("unbound", ["unbound", "-d", "-c", f"{self.folder}/unbound.conf"], False),
            Server("echo", [dns, "echo", at], True),
        ]

    def measure(self, server: Server) -> dict[str, float]:
        values = {}
        with server:
            self.wait()
            for kind, name in [("own", service(7)), ("others", service(7, FOREIGN))]:
                if server.name == "echo" and kind == "others":
                    continue
                said = dict(line.split() for line in run(*self.ask(name)).splitlines())
                values[f"{kind}: one at a time, p50, µs"] = float(said["p50"])
                before = server.cpu_seconds()
                rate, answered = self.flat_out(kind)
                values[f"{kind}: flat out, answers/s"] = rate
                values[f"{kind}: CPU of an answer, µs"] = (server.cpu_seconds() - before) / answered * 1e6
        return values

    def ask(self, name: str) -> list[str]:
        return [self.options.dns, "ask", f"{ADDRESS}:53", name, str(self.options.seconds / 2)]

    def wait(self):
        """Until somebody answers."""
        deadline = time.monotonic() + 20
        words = [self.options.dns, "ask", f"{ADDRESS}:53", service(7), "0.01"]
        while subprocess.run(words, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise SystemExit("the server does not answer")

    def flat_out(self, kind: str) -> tuple[float, int]:
        words = ["dnsperf", "-s", ADDRESS, "-d", str(self.folder / kind), "-l", str(self.options.seconds)]
        said = run(*words, "-c", "4", "-T", "1", "-q", "200")
        rate = float(re.search(r"Queries per second:\s+([\d.]+)", said)[1])
        return rate, int(re.search(r"Queries completed:\s+(\d+)", said)[1])

    def resolvers(self):
        """What three resolvers are told, each as it shows it."""
        source = self.folder / "look.c"
        source.write_text(
            """#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
int main(int n, char **v) {
    struct addrinfo h = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *r;
    int e = getaddrinfo(v[1], 0, &h, &r);
    if (e) { puts(gai_strerror(e)); return 0; }
    for (; r; r = r->ai_next)
        puts(inet_ntoa(((struct sockaddr_in *)r->ai_addr)->sin_addr));
}
"""
        )
        run("musl-gcc", "-static", "-o", str(self.folder / "look"), str(source))
        conf = f"nameserver {ADDRESS}\nsearch default.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n"
        (self.folder / "resolv.conf").write_text(conf)
        names = ["s7", "s7.default", service(7), service(7, FOREIGN), "none", f"none.{FOREIGN}"]
        here = f"mount --bind {self.folder}/resolv.conf /etc/resolv.conf &&"
        inside = ["unshare", "-m", "sh", "-c"]
        server, upstream = self.servers()[0], self.upstream()
        with upstream, server:
            self.wait()
            print("| name | dig +search | glibc | musl |\n|---|---|---|---|")
            for name in names:
                dig = run(*inside, f"{here} dig +search +short {name} A").split()
                glibc = run(*inside, f"{here} getent ahostsv4 {name} || true").split()
                musl = run(*inside, f"{here} {self.folder}/look {name}").split("\n")
                print(f"| {name} | {' '.join(dig)} | {' '.join(glibc[:1])} | {musl[0]} |", flush=True)
            for words in [service(7), f"_http._tcp.{service(7)} SRV", "-x " + address(7), f"nobody.{DOMAIN}"]:
                print(run(*inside, f"{here} dig +noall +comments +answer +authority +additional {words}"))

    def upstream(self) -> Server:
        words = [self.options.dns, "serve", f"{UPSTREAM}:53", FOREIGN, str(self.options.names)]
        return Server("upstream", words, True)

    def run(self) -> Table:
        table = Table()
        with self.upstream():
            rounds(table, self.servers(), self.options.runs, self.measure)
        return table


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:200]}: {done.stdout[:1000]}{done.stderr[:1000]}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dns", default="target/release/examples/dns")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--names", type=int, default=1000)
    parser.add_argument("--resolvers", action="store_true")
    options = parser.parse_args()
    options.dns = str(Path(options.dns).resolve())
    if "KEELBENCH_INSIDE" not in os.environ:
        words = ["unshare", "-n", sys.executable, __file__, *sys.argv[1:]]
        os.execvpe("unshare", words, os.environ | {"KEELBENCH_INSIDE": "1"})
    run("ip", "link", "set", "lo", "up")
    # Who has no address but loopback's is given none by the C library.
    run("ip", "link", "add", "own0", "type", "bridge")
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "own0")
    run("ip", "link", "set", "own0", "up")
    bench = Bench(options)
    try:
        if options.resolvers:
            bench.resolvers()
        else:
            bench.run().print()
    finally:
        for file in bench.folder.iterdir():
            file.unlink()
        bench.folder.rmdir()


if __name__ == "__main__":
    main()
