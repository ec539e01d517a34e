"""The cluster of a run: five hosts, an etcd of three members, and the units. Owns how both are asked and prepared."""
import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import time

from chaoskit.history import BEAT
from chaoskit.schedule import HELD, HOSTS, MEMBERS
from chaoskit.units import RESIDENTS, RESOURCE, UNITS, WITNESS
from labkit.etcd import Etcd
from labkit.fleet import REPO
from labkit.hosts import Lab
from labkit.outside import Failed, read, until, write

PREFIX = "/flotilla/"
# Errors of its daemons are read at the end, also those from before a loss of power.
JOURNAL = "[Journal]\nStorage=persistent\n"
LINE = re.compile(r"\d+\.\d+ (start|alive|stop|busy) \S+ \S+ \S+ \S+")


def now():
    """Seconds since the machine booted, as the units write them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Cluster:
    def __init__(self, name):
        self.name, self.lab = name, Lab(name)
        self.etcd = Etcd(self.lab)
        self.hosts_by_id = {self.lab.machine_id(h): h for h in HOSTS}

    def do(self, *cmd):
        """`contrib/lab CMD…`"""
        done = subprocess.run([f"{REPO}/contrib/lab", "--name", self.name, *cmd], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"`lab {' '.join(cmd)}` failed: {done.stderr.strip()}")
        return done.stdout

    def sh(self, host, script):
        """Run a shell script inside a host."""
        done = subprocess.run(self.lab.inside(host, ["timeout", "60", "bash", "-ec", script]),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"on {host}, `{script}` failed: {done.stderr.strip() or done.returncode}")
        return done.stdout

    # ---- beginning and end ----

    def up(self, programs, older):
        """Boot everything and start the units. `older` is the folder of the version before, or None."""
        self.do("up", str(len(HOSTS)), "--fresh", "--owner", str(os.getpid()))
        self.do("etcd", "up", str(len(MEMBERS)))
        self.do("install", "--conf", f"mass_loss_grace={HELD}s", programs)
        write(f"{self.lab.state}/bin/{os.path.basename(RESOURCE)}", "")
        if older:
            os.makedirs(f"{self.lab.state}/bin/older", exist_ok=True)
            shutil.copy2(f"{older}/fleetd", f"{self.lab.state}/bin/older/fleetd")
        for host in HOSTS:
            root = self.root(host)
            write(f"{root}/usr/local/bin/witness", WITNESS)
            os.chmod(f"{root}/usr/local/bin/witness", 0o755)
            os.makedirs(f"{root}/var/chaos", exist_ok=True)
            write(f"{root}/etc/systemd/journald.conf.d/zz-chaos.conf", JOURNAL)
            self.sh(host, "systemctl restart systemd-journald && journalctl --flush")
        self.do("fleet", "start")
        self.wait(lambda: len(self.presence() or {}) == len(HOSTS), 30, "all hosts to register")
        for host, unit in itertools.product(HOSTS, UNITS):
            machine_id = self.lab.machine_id(unit.host) if unit.host else ""
            write(f"{self.root(host)}/root/{unit.name}", unit.text(machine_id))
        self.sh("n1", f"cd /root && fleetctl start {' '.join(unit.name for unit in RESIDENTS)}")
        self.wait(lambda: not self.misplaced(), 60, "all units to run")

    def wait(self, test, seconds, what):
        if not until(test, seconds):
            raise Failed(f"waited {seconds} s for {what}")

    def root(self, host):
        return f"{self.lab.state}/hosts/{host}/root"

    def settle(self, seconds):
        """Wait until every unit has run where it should for three seconds. Whether it did is for the judge to say."""
        end, since = time.monotonic() + seconds, None
        while time.monotonic() < end:
            since = None if self.misplaced() else since or time.monotonic()
            if since and time.monotonic() > since + 3:
                break
            time.sleep(BEAT)

    def misplaced(self):
        """The units that don't have the processes that they should have, by the hosts' cgroups."""
        on = {unit.name: [] for unit in UNITS}
        for host, unit in itertools.product(HOSTS, UNITS):
            if self.lab.cg.busy(f"{host}/box/payload/system.slice/{unit.name}"):
                on[unit.name].append(host)
        return {unit.name: on[unit.name] for unit in UNITS if not unit.fits(on[unit.name], HOSTS)}

    # ---- what the store says ----

    def ask(self, path, body, seconds=1):
        """The answer of the first member that gives one, or nothing."""
        for member in MEMBERS:
            answer = self.etcd.ask(int(member), "POST", path, body, seconds)
            if answer and "error" not in answer:
                return answer
        return {}

    def range(self, key, prefix):
        """The records under a key: [(key, the revision that created it, value)], or None while the store is away."""
        body = {"key": encoded(PREFIX + key)}
        if prefix:
            body["range_end"] = encoded(PREFIX + key[:-1] + chr(ord(key[-1]) + 1))
        answer = self.ask("/v3/kv/range", body)
        if not answer:
            return None
        return [(decoded(kv["key"]), kv["create_revision"], decoded(kv.get("value", "")))
                for kv in answer.get("kvs", [])]

    def presence(self):
        """The hosts that are alive to the cluster: {host: revision}, or None while the store is away."""
        found = self.range("machine/", prefix=True)
        if found is None:
            return None
        return {self.hosts_by_id[key.rpartition("/")[2]]: revision for key, revision, _ in found}

    def leader(self):
        """The host that leads, or None."""
        found = self.range("leader", prefix=False)
        return self.hosts_by_id.get(json.loads(found[0][2])["machine"]) if found else None

    def store_leader(self):
        """The member that leads the store, or None."""
        for member in MEMBERS:
            about = self.etcd.ask(int(member), "POST", "/v3/maintenance/status")
            if about and about.get("leader") == about["header"]["member_id"]:
                return member
        return None

    # ---- what the hosts wrote ----

    def daemons(self):
        """What the fleetd of each host uses: KiB of resident memory, and open files."""
        for host in HOSTS:
            pid = self.lab.cg.pids(f"{host}/box/payload/system.slice/fleetd.service")[0]
            memory = re.search(r"VmRSS:\s*(\d+)", read(f"/proc/{pid}/status"))
            yield host, (memory[1], len(os.listdir(f"/proc/{pid}/fd")))

    def histories(self):
        """The lines of all units. One that a loss of power tore is left out."""
        for host in HOSTS:
            with open(f"{self.root(host)}/var/chaos/history", errors="replace") as lines:
                yield from (line.strip() for line in lines if LINE.fullmatch(line.strip()))

    def errors(self):
        """The errors that the daemons logged, as lines of the history."""
        offset = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
        for host in HOSTS:
            for line in self.sh(host, "journalctl -u fleetd -p err -o json --no-pager").splitlines():
                entry = json.loads(line)
                text = str(entry["MESSAGE"]).replace("\n", " ")
                yield f"{int(entry['__MONOTONIC_TIMESTAMP']) / 1e6 + offset:.2f} log {host} error: {text}"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def decoded(text):
    return base64.b64decode(text).decode(errors="replace")
