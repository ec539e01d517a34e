"""Plays faults on the lab, and undoes them. Owns how; `schedule` owns which, and when."""
import os
import signal
import time
from contextlib import suppress

from chaoskit.schedule import HOSTS, KINDS, MEMBERS
from chaoskit.units import GUESTS
from labkit.outside import Failed, sh

OLDER = "/etc/systemd/system/fleetd.service.d/older.conf"


class Skipped(Exception):
    """There is nothing to strike now, for example no leader."""


def strike(cluster, fault, taken):
    """Begin a fault. Returns the victim's name, and what undoes it. `taken` are the hosts, members and units that other
    faults strike."""
    victim = fault.victim
    if KINDS[fault.kind].scope == "leader":
        victim = cluster.leader()
        if not victim:
            raise Skipped("no host leads")
    if set(victim.split(",")) & set(taken):
        raise Skipped(f"another fault is on {victim}")
    if KINDS[fault.kind].scope in REQUESTS:
        return victim, FAULTS[fault.kind](cluster, victim, next(h for h in HOSTS if h not in taken))
    return victim, FAULTS[fault.kind](cluster, victim)


def nothing():
    """Nothing is left to undo."""


# ---- requests, made on a host without a fault ----

REQUESTS = ("unit", "guests")


class Unsure(Exception):
    """The request failed: the store is away, or didn't answer. Nobody knows whether it was carried out."""

    def __init__(self, undo):
        self.undo = undo


def request(cluster, host, line, undo):
    try:
        cluster.sh(host, f"cd /root && timeout 20 fleetctl {line}")
    except Failed:
        raise Unsure(undo) from None
    return undo


def restarted(cluster, unit, host):
    return request(cluster, host, f"restart --no-block {unit}", nothing)


def guests(cluster, _, host):
    names = " ".join(unit.name for unit in GUESTS)

    def leave():
        """Whoever asks for it tries until it is accepted."""
        for _ in range(60):
            for host in HOSTS:
                with suppress(Failed):
                    return cluster.sh(host, f"timeout 20 fleetctl destroy --no-block {names}")
            time.sleep(1)
        raise Failed("the guests can't be destroyed")
    return request(cluster, host, f"start --no-block {names}", leave)


# ---- processes of a host ----

def pids(cluster, host, service):
    if service == "init":
        return [cluster.lab.running(host)]
    return cluster.lab.cg.pids(f"{host}/box/payload/system.slice/{service}.service")


def send(cluster, host, service, number):
    for pid in pids(cluster, host, service):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def killed(cluster, host):
    send(cluster, host, "fleetd", signal.SIGKILL)
    return nothing


def frozen(service):
    def begin(cluster, host):
        send(cluster, host, service, signal.SIGSTOP)
        return lambda: send(cluster, host, service, signal.SIGCONT)
    return begin


def command(line, undo="true"):
    def begin(cluster, host):
        cluster.sh(host, line)
        return lambda: cluster.sh(host, undo)
    return begin


def downgraded(cluster, host):
    """The version before runs on the host, until the program of all hosts takes over again. It refuses settings that it
    doesn't know."""
    restart = "systemctl daemon-reload && systemctl restart fleetd"
    config, kept = "/etc/fleet/fleet.conf", "/etc/fleet/kept.conf"
    lines = "[Service]\\nExecStart=\\nExecStart=/usr/local/lib/flotilla/older/fleetd\\n"
    cluster.sh(host, f"cp {config} {kept} && sed -i /^mass_loss_grace=/d {config} && "
               f"mkdir -p {os.path.dirname(OLDER)} && printf '{lines}' >{OLDER} && {restart}")
    return lambda: cluster.sh(host, f"mv {kept} {config} && rm {OLDER} && {restart}")


# ---- hosts and their links ----

def power(cluster, host):
    cluster.do("kill", host)
    return lambda: cluster.do("boot", host)


def rebooted(cluster, host):
    cluster.do("reboot", host)
    return nothing


def cut(*options):
    def begin(cluster, host):
        cluster.do("cut", host, *options)
        return lambda: cluster.do("join", host)
    return begin


def together(cluster, hosts):
    joins = [cut()(cluster, host) for host in hosts.split(",")]
    return lambda: [join() for join in joins]


# No packet fits into this bucket, so all are dropped.
NOTHING_PASSES = "tbf rate 8kbit burst 10 limit 10"
SLOW = "tbf rate 64kbit burst 4kb limit 16kb"


def queue(what, inward, outward):
    """Give the ends of a host's link another queue: the one through which packets reach the host, or leave it."""
    def begin(cluster, host):
        lab = cluster.lab
        ends = [([], lab.veth(host))] * inward + [(["-n", lab.netns(host)], "host0")] * outward
        for namespace, device in ends:
            sh("tc", *namespace, "qdisc", "replace", "dev", device, "root", *what.split())

        def undo():
            for namespace, device in ends:
                sh("tc", *namespace, "qdisc", "del", "dev", device, "root")
        return undo
    return begin


def full(cluster, host):
    """The file system takes no more than is in it, so that no memory of this machine is used up."""
    size = cluster.sh(host, "df -k --output=size /run | tail -1").strip()
    cluster.sh(host, "mount -o remount,size=$(df -k --output=used /run | tail -1 | tr -d ' ')k /run")
    return lambda: cluster.sh(host, f"mount -o remount,size={size}k /run")


# ---- the store ----

def members_killed(choose):
    def begin(cluster, victim):
        chosen = choose(cluster, victim)
        for member in chosen:
            cluster.do("etcd", "kill", member)
        return lambda: cluster.do("etcd", "start")
    return begin


def members_frozen(choose):
    def begin(cluster, victim):
        found = [pid for member in choose(cluster, victim) for pid in cluster.lab.cg.pids(f"etcd-{member}")]
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        return lambda: [os.kill(pid, signal.SIGCONT) for pid in found]
    return begin


def itself(_, member):
    return [member]


def its_leader(cluster, _):
    if not (member := cluster.store_leader()):
        raise Skipped("the store has no leader")
    return [member]


def two(cluster, _):
    """The leader and another one."""
    leader, = its_leader(cluster, _)
    return [leader, next(m for m in MEMBERS if m != leader)]


def stopped(cluster, _):
    cluster.do("etcd", "stop")
    return lambda: cluster.do("etcd", "start")


def replaced(cluster, member):
    cluster.do("etcd", "replace", member)
    return nothing


def alarm(cluster, _):
    """etcd's own alarm, without the need to fill its disk: it refuses writes until somebody disarms it."""
    member = cluster.ask("/v3/maintenance/status", {}).get("header", {}).get("member_id")

    def turn(action):
        if not cluster.ask("/v3/maintenance/alarm", {"action": action, "memberID": member, "alarm": "NOSPACE"}, 5):
            raise Failed(f"the store's alarm can't be changed: {action}")

    turn("ACTIVATE")
    return lambda: turn("DEACTIVATE")


def compacted(cluster, _):
    revision = cluster.ask("/v3/maintenance/status", {}).get("header", {}).get("revision")
    cluster.ask("/v3/kv/compaction", {"revision": revision, "physical": True}, 10)
    for member in MEMBERS:
        cluster.etcd.ask(int(member), "POST", "/v3/maintenance/defragment", {}, 10)
    return nothing


FAULTS = {
    "daemon-killed": killed,
    "daemon-restarted": command("systemctl restart fleetd"),
    "daemon-stopped": command("systemctl stop fleetd", "systemctl start fleetd"),
    "daemon-paused": frozen("fleetd"),
    "daemon-frozen": frozen("fleetd"),
    "daemon-downgraded": downgraded,
    "host-killed": power,
    "host-rebooted": rebooted,
    "host-cut": cut(),
    "host-cut-silently": cut("--silent"),
    "hosts-cut": together,
    "host-deaf": queue(NOTHING_PASSES, inward=True, outward=False),
    "host-mute": queue(NOTHING_PASSES, inward=False, outward=True),
    "host-slow": queue(SLOW, inward=True, outward=True),
    "run-full": full,
    "bus-restarted": command("systemctl restart dbus"),
    "bus-frozen": frozen("dbus"),
    "systemd-reexecuted": command("systemctl daemon-reexec"),
    "systemd-frozen": frozen("init"),
    "leader-killed": killed,
    "leader-frozen": frozen("fleetd"),
    "leader-cut": cut(),
    "leader-host-killed": power,
    "member-killed": members_killed(itself),
    "member-frozen": members_frozen(itself),
    "member-replaced": replaced,
    "store-leader-killed": members_killed(its_leader),
    "store-leader-frozen": members_frozen(its_leader),
    "store-leader-stalled": members_frozen(its_leader),
    "store-without-quorum": members_killed(two),
    "store-stopped": stopped,
    "store-full": alarm,
    "store-compacted": compacted,
    "unit-restarted": restarted,
    "guests-come": guests,
}
