"""Which faults are played, and when: a pure function of a seed.

Owns the table of faults and the rules about what may be played together. Must never play one: `faults` does that."""
import random
from dataclasses import dataclass

from chaoskit.units import MODERN, RESIDENTS

HOSTS = ["n1", "n2", "n3", "n4", "n5"]
MEMBERS = ["1", "2", "3"]
# The default of `agent_ttl` (s): a host that is silent for longer is dead to the cluster.
TTL = 10
# The `mass_loss_grace` of the cluster (s).
HELD = 30


@dataclass(frozen=True)
class Kind:
    """A kind of fault. `scope` is what it strikes: a `host`, three `hosts`, the `leader`'s host, a `member` of the
    store, the `store`;
    or a `unit` or the `guests`, which aren't faults, but requests that faults may disturb. It lasts between `shortest`
    and `longest` seconds; an event without duration has 0 for both."""
    scope: str
    shortest: float
    longest: float
    about: str


KINDS = {
    "daemon-killed": Kind("host", 0, 0, "fleetd gets SIGKILL"),
    "daemon-restarted": Kind("host", 0, 0, "systemctl restart fleetd"),
    "daemon-paused": Kind("host", 2, 6, "fleetd gets SIGSTOP for less than the TTL"),
    "daemon-stopped": Kind("host", 4, 18, "systemctl stop fleetd, and start"),
    "daemon-frozen": Kind("host", 15, 18, "fleetd gets SIGSTOP for longer than the TTL"),
    "daemon-downgraded": Kind("host", 10, 16, "the version before takes over, and then this one again"),
    "host-killed": Kind("host", 1, 14, "a host loses its power"),
    "host-rebooted": Kind("host", 0, 0, "systemctl reboot"),
    "host-cut": Kind("host", 3, 18, "a host's link is down"),
    "host-cut-silently": Kind("host", 3, 18, "a host's packets vanish both ways; its link is up"),
    "hosts-cut": Kind("hosts", 14, 22, "the links of three of the five hosts are down: their units are held"),
    "host-deaf": Kind("host", 4, 18, "packets to a host vanish"),
    "host-mute": Kind("host", 4, 18, "packets from a host vanish"),
    "host-slow": Kind("host", 8, 16, "a host's link passes 64 kbit/s each way, and drops what doesn't fit its queue"),
    "run-full": Kind("host", 6, 16, "/run of a host is full"),
    "bus-restarted": Kind("host", 0, 0, "systemctl restart dbus"),
    "bus-frozen": Kind("host", 3, 8, "the D-Bus daemon gets SIGSTOP"),
    "systemd-reexecuted": Kind("host", 0, 0, "systemctl daemon-reexec"),
    "systemd-frozen": Kind("host", 3, 8, "PID 1 of a host gets SIGSTOP"),
    "leader-killed": Kind("leader", 0, 0, "the leader's fleetd gets SIGKILL"),
    "leader-frozen": Kind("leader", 4, 18, "the leader's fleetd gets SIGSTOP"),
    "leader-cut": Kind("leader", 12, 18, "the leader's link is down"),
    "leader-host-killed": Kind("leader", 1, 14, "the leader's host loses its power"),
    "member-killed": Kind("member", 2, 8, "a member of the store gets SIGKILL"),
    "member-frozen": Kind("member", 3, 6, "a member of the store gets SIGSTOP"),
    "member-replaced": Kind("member", 0, 0, "a member of the store loses its disk and is replaced by an empty one"),
    "store-leader-killed": Kind("store", 2, 8, "the store's leader gets SIGKILL"),
    "store-leader-frozen": Kind("store", 3, 6, "the store's leader gets SIGSTOP"),
    "store-leader-stalled": Kind("store", 9, 12, "the same for so long that it takes leases for expired"),
    "store-without-quorum": Kind("store", 8, 14, "two of three members get SIGKILL"),
    "store-stopped": Kind("store", 8, 15, "all members are stopped"),
    "store-full": Kind("store", 8, 16, "the alarm NOSPACE: the store takes no writes"),
    "store-compacted": Kind("store", 0, 0, "the history is compacted, and each member defragmented"),
    "unit-restarted": Kind("unit", 0, 0, "fleetctl restart UNIT"),
    "guests-come": Kind("guests", 3, 20, "twenty units are submitted and started, and then destroyed"),
}
# Played only on request: etcd before 3.4.31 and 3.5.13 then ends leases that were renewed.
ON_REQUEST = {"store-leader-stalled"}


@dataclass(frozen=True)
class Fault:
    """One fault. `victim` is the name of a host, of several (n1,n2,n3), of a member or a unit, or `store`, `guests`, or
    `leader`: the host that leads when the fault is played."""
    kind: str
    victim: str
    # Seconds after the beginning of its round, and seconds until it is undone.
    after: float
    lasts: float

    @property
    def on_store(self):
        return KINDS[self.kind].scope in ("member", "store")


@dataclass(frozen=True)
class Round:
    """One fault, or two that overlap; then `pause` seconds of rest."""
    faults: tuple
    pause: float

    @property
    def seconds(self):
        return max(f.after + f.lasts for f in self.faults) + self.pause


def schedule(seed, seconds, without=ON_REQUEST):
    """The rounds of a run of at least `seconds`. Each kind is played once before any is played again. The same
    arguments give the same rounds."""
    dice, rounds, deck, length = random.Random(seed), [], [], 0.0
    kinds = sorted(set(KINDS) - set(without))
    while length < seconds:
        if not deck:
            deck = dice.sample(kinds, len(kinds))
        faults = [fault(dice, deck.pop(), 0.0)]
        if deck and dice.random() < 0.5:
            second = fault(dice, deck[-1], round(dice.uniform(0, max(1.0, faults[0].lasts)), 1))
            if compatible(faults[0], second):
                deck.pop()
                faults.append(second)
        # After every third round or so, there is time for a lease to expire undisturbed.
        pause = dice.uniform(TTL, TTL + 4) if dice.random() < 0.3 else dice.uniform(2, 6)
        rounds.append(Round(tuple(faults), round(pause, 1)))
        length += rounds[-1].seconds
    return rounds


def fault(dice, name, after):
    kind = KINDS[name]
    lasts = round(dice.uniform(kind.shortest, kind.longest), 1)
    victims = {"host": HOSTS, "member": MEMBERS, "unit": [unit.name for unit in RESIDENTS]}
    if kind.scope == "hosts":
        victim = ",".join(sorted(dice.sample(HOSTS, 3)))
    else:
        victim = dice.choice(victims.get(kind.scope, [kind.scope]))
    if name == "daemon-downgraded" and victim in MODERN:
        victim = next(host for host in HOSTS if host not in MODERN)
    return Fault(name, victim, after, lasts)


def compatible(one, other):
    """Whether two faults may overlap: at most one strikes the store, and they don't strike the same host."""
    return not (one.on_store and other.on_store) and not set(one.victim.split(",")) & set(other.victim.split(","))
