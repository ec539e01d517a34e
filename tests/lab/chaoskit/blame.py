"""What explains that a host was dead to the cluster, and what may take longer than usual. Pure, as the judge that asks.

Owns which faults keep a host from renewing its lease, and for how long they must. Must never excuse anything because of
the time that it took, unless the history shows that a fault lasted, or that the machine was too busy, meanwhile."""
from chaoskit.schedule import HELD, KINDS, TTL

# How long everything else takes: planning, starting, election of a leader (s).
GRACE = 10
POWER = ("host-killed", "leader-host-killed")
# A host that leaves in an orderly way revokes its lease itself.
REBOOT = "host-rebooted"
# It ends leases that another leader of the store has renewed meanwhile.
STALLED = "store-leader-stalled"
REQUEST, GUESTS = "unit-restarted", "guests-come"
# What keeps a host from renewing its lease.
SILENCING = (*POWER, "daemon-stopped", "daemon-frozen", "leader-frozen", "host-cut", "host-cut-silently", "hosts-cut",
             "host-deaf", "host-mute", "leader-cut")
# What else keeps it, or its systemd, from a renewal in time, so that units stop with the lease: the calls fail, the
# version before doesn't make them, or the store has no quorum.
HINDERING = (*SILENCING, "daemon-paused", "bus-frozen", "systemd-frozen", "run-full", "daemon-downgraded")
ABSENT = ("store-without-quorum", "store-stopped")
# How inexactly these times are known (s).
POLLS = 0.5


class Blame:
    def __init__(self, history):
        self.history = history

    def fault(self, absence):
        """The fault because of which the lease of a host expired, or `busy machine`, or nothing. A lease is renewed
        after a third of the TTL at the latest: faults must have silenced the host for the rest."""
        first, last = absence.lost[0] - TTL, absence.lost[1]
        on = [f for f in self.history.faults if f.begin <= last and f.end >= first]
        if any(f.strikes(absence.host) and f.kind == REBOOT for f in on):
            return REBOOT
        if any(f.kind == STALLED for f in on):
            return STALLED
        own = [f for f in on if f.strikes(absence.host) and f.kind in SILENCING]
        store = [f for f in on if KINDS[f.kind].scope in ("member", "store")]
        if own and covered([(f.begin, f.end) for f in own + store], first, last) >= TTL * 2 / 3 - POLLS:
            return max(own, key=lambda f: min(f.end, last) - max(f.begin, first)).kind
        return "busy machine" if self.starved(first, last) else None

    def released(self, host, time):
        """Why systemd had let go of a host's lease shortly before a time, or nothing. It does so two thirds of a TTL
        after the last renewal that was answered, which was sent at most a third before a fault began."""
        first = time - TTL
        on = [f for f in self.history.faults if f.begin <= time and f.end >= first
              and (f.kind in ABSENT or f.kind in HINDERING and f.strikes(host))]
        if covered([(f.begin, f.end) for f in on], first, time) >= TTL / 3 - POLLS:
            return max(on, key=lambda f: min(f.end, time) - max(f.begin, first)).kind
        return "busy machine" if self.starved(first, time) else None

    def held(self, host, time):
        """Whether the units of a host are held at a time: it is one of at least three that were lost within a TTL."""
        away = [a for a in self.history.absences if a.lost[1] <= time <= a.back[0]]
        own = next((a for a in away if a.host == host), None)
        together = [a for a in away if own and abs(a.lost[1] - own.lost[0]) < TTL]
        return len(together) >= 3 and time < min(a.lost[0] for a in together) + HELD - POLLS

    def starved(self, first, last):
        return any(begin <= last and end >= first for begin, end in self.history.starved)

    def absence(self, host, begin, end):
        """The last absence of a host that began after `begin` and before `end`. Units may have stayed there during
        earlier ones."""
        of = [a for a in self.history.absences if a.host == host]
        return next((a for a in reversed(of) if a.lost[1] > begin and a.lost[0] <= end), None)

    def waited(self, begin, end):
        """How long the machine let its processes wait, or faults lasted, between two times."""
        faults = [(f.begin, f.end) for f in self.history.faults if f.kind not in (REQUEST, GUESTS)]
        spans = [*self.history.starved, *faults]
        return covered(spans, begin, end)

    def soon(self, after, time):
        """Whether this is as soon after something as the cluster can be expected to act."""
        return time <= after + TTL + GRACE + self.waited(after, time)


def rests(faults, end):
    """The times between faults: (from, until)."""
    spans = sorted((f.begin, min(f.end, end)) for f in faults)
    found, until = [], None
    for begin, over in spans:
        if until is not None and begin > until:
            found.append((until, begin))
        until = over if until is None else max(until, over)
    return [*found, (until, end)] if until is not None else []


def covered(spans, begin, end):
    """Seconds between `begin` and `end` that are in at least one span."""
    total, at = 0.0, begin
    for first, last in sorted(spans):
        first, last = max(first, at), min(last, end)
        if last > first:
            total, at = total + last - first, last
    return total
