"""Judges a history: a pure function of what the units wrote, what was done to the cluster, and which hosts it missed.

Owns the rules. Each follows from docs/architecture.md:

  * A unit runs on one host at a time. It may run twice only while the cluster treats the first host as dead: the first
    run began before the host was lost, the second one after, and the first ends within STOPS of the host's return.
  * A unit is started again only if its host lost its power, or, unless it can run nowhere else, if its host was dead to
    the cluster since it was started.
  * A host is dead to the cluster only after a fault that can have silenced it for a TTL, or while the machine was
    demonstrably too busy for it (then all that follows is counted, but marked).
  * Whatever happens, a unit runs again within a TTL and GRACE after the faults that overlap its absence.
  * The daemons log no error.

Must never make allowances for a slow machine, except where the history shows that it was slow."""
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from chaoskit.history import BEAT, STARVED
from chaoskit.schedule import KINDS, TTL

# How long the units of a host may run after its return: the agent registers, reads, and stops them (s).
STOPS = 6
# How long everything else takes: planning, starting, election of a leader (s).
GRACE = 10
# The clock of the units has this resolution (s): a shorter overlap can't be seen.
TICK = 0.02
POWER = ("host-killed", "leader-host-killed")
# A host that leaves in an orderly way revokes its lease itself.
REBOOT = "host-rebooted"
REQUEST = "unit-restarted"
# More than a daemon uses, also in a build for debugging: KiB of memory, and open files.
MEMORY, FILES = 100 * 1024, 100
# What keeps a host from renewing its lease.
SILENCING = (*POWER, "daemon-stopped", "daemon-frozen", "leader-frozen", "host-cut", "host-cut-silently", "host-deaf",
             "host-mute", "leader-cut")
# How inexactly these times are known (s).
POLLS = 0.5


@dataclass
class Double:
    """Two runs of a unit at once. `kind` is the fault that explains it, or why it isn't explained."""
    unit: str
    hosts: tuple
    begin: float
    seconds: float
    kind: str


@dataclass
class Verdict:
    violations: list = field(default_factory=list)
    doubles: list = field(default_factory=list)
    # Starts after the first, by cause.
    restarts: Counter = field(default_factory=Counter)
    # Expired leases, by the kind of fault, and those for which only a busy machine is to blame.
    deaths: Counter = field(default_factory=Counter)
    # Seconds in which nobody ran a unit, by the kinds of the faults that overlap.
    gaps: list = field(default_factory=list)
    # Seconds from the end of each round until nothing changed any more.
    converged: list = field(default_factory=list)
    starved: int = 0


class Judge:
    def __init__(self, history, units, hosts):
        self.history, self.hosts = history, hosts
        self.units = {unit.name: unit for unit in units}
        self.verdict = Verdict(starved=len(history.starved))
        # The restarts that were requested and done: (number of the request, unit, host). Each justifies one start.
        self.requests = set()

    def judge(self):
        for absence in self.history.absences:
            self.death(absence)
        for name, unit in sorted(self.units.items()):
            runs = [run for run in self.history.runs if run.unit == name]
            self.places(unit, runs)
            if unit.kind != "global":
                self.overlaps(unit, runs)
            for place in self.hosts if unit.kind == "global" else [unit.host]:
                here = [run for run in runs if unit.kind != "global" or run.host == place]
                where = f" on {place}" if place else ""
                self.starts(unit, here)
                self.presence(unit, here, where)
                self.obeyed(unit, here, where)
        self.neighbours()
        self.convergence()
        self.daemons()
        self.verdict.violations.sort()
        return self.verdict

    def daemons(self):
        for time, host, text in self.history.logs:
            self.violation(time, f"{host} logged an {text}")
        for host, measured in self.history.daemons.items():
            for time, memory, files in measured:
                if memory > MEMORY or files > FILES:
                    self.violation(time, f"fleetd on {host} uses {memory} KiB and {files} files")

    def violation(self, time, text):
        self.verdict.violations.append((round(time, 2), text))

    # ---- which hosts were dead to the cluster, and why ----

    def death(self, absence):
        kind = self.blame(absence)
        self.verdict.deaths[kind or "without a cause"] += 1
        if not kind:
            self.violation(absence.lost[1], f"{absence.host} was dead to the cluster without a cause")

    def blame(self, absence):
        """The fault because of which the lease of a host expired, or `busy machine`, or nothing. A lease is renewed
        after a third of the TTL at the latest: faults must have silenced the host for the rest."""
        first, last = absence.lost[0] - TTL, absence.lost[1]
        on = [f for f in self.history.faults if f.begin <= last and f.end >= first]
        if any(f.victim == absence.host and f.kind == REBOOT for f in on):
            return REBOOT
        own = [f for f in on if f.victim == absence.host and f.kind in SILENCING]
        store = [f for f in on if KINDS[f.kind].scope in ("member", "store")]
        if own and covered([(f.begin, f.end) for f in own + store], first, last) >= TTL * 2 / 3 - POLLS:
            return max(own, key=lambda f: min(f.end, last) - max(f.begin, first)).kind
        return "busy machine" if self.starved(first, last) else None

    def starved(self, first, last):
        return any(begin <= last and end >= first for begin, end in self.history.starved)

    def absence(self, host, begin, end):
        """An absence of a host that began after `begin` and before `end`."""
        of = [a for a in self.history.absences if a.host == host]
        return next((a for a in of if a.lost[1] > begin and a.lost[0] <= end), None)

    # ---- runs ----

    def places(self, unit, runs):
        for run in runs:
            if unit.kind == "pinned" and run.host != unit.host:
                self.violation(run.start, f"{unit.name} was started on {run.host}, and belongs to {unit.host}")

    def overlaps(self, unit, runs):
        for at, first in enumerate(runs):
            for second in runs[at + 1:]:
                seconds = min(first.last, second.last) - second.start
                if seconds <= TICK:
                    continue
                kind, documented = self.explain(first, second, second.start + seconds)
                double = Double(unit.name, (first.host, second.host), second.start, round(seconds, 2), kind)
                self.verdict.doubles.append(double)
                if not documented:
                    self.violation(second.start, f"{unit.name} ran on {first.host} and on {second.host} for "
                                   f"{seconds:.2f} s: {kind}")

    def explain(self, first, second, end):
        """Why two runs overlap until `end`, and whether that is documented."""
        absence = self.absence(first.host, first.start, second.start)
        if first.host == second.host:
            return "two processes on one host", False
        if not absence:
            return f"{first.host} was alive to the cluster when {second.host} started it", False
        allowed = absence.back[1] + STOPS + self.waited(absence.back[0], end)
        if end > allowed:
            return f"{first.host} had been back for {end - absence.back[1]:.1f} s", False
        return self.blame(absence) or "without a cause", True

    def waited(self, begin, end):
        """How long the machine let its processes wait, and faults that slow a stop down lasted, between two times."""
        spans = [*self.history.starved, *((f.begin, f.end) for f in self.history.faults)]
        return covered(spans, begin, end)

    def starts(self, unit, runs):
        for before, run in pairwise(runs):
            cause = self.cause(unit, before, run)
            self.verdict.restarts[cause or "without a cause"] += 1
            if not cause:
                self.violation(run.start, f"{unit.name} was started on {run.host} without a cause; it ran on "
                               f"{before.host} until {before.last:.2f}")

    def cause(self, unit, before, run):
        between = [f for f in self.history.faults if before.start <= f.begin <= run.start]
        down = [f.kind for f in between if f.kind in (*POWER, REBOOT) and f.victim == before.host]
        if down or (before.host == run.host and before.boot != run.boot):
            return down[0] if down else "loss of power"
        for request in [f for f in between if f.kind == REQUEST and f.victim in (unit.name, unit.base)]:
            if (request.number, unit.name, run.host) not in self.requests:
                self.requests.add((request.number, unit.name, run.host))
                return REQUEST
        absence = self.absence(before.host, before.start, run.start)
        if not absence:
            return None
        if unit.kind == "one":
            return f"dead to the cluster: {self.blame(absence) or 'without a cause'}"
        # The version before restarts what only a returning host can run.
        older = [f for f in self.history.faults if f.kind == "daemon-downgraded"
                 and f.begin <= absence.back[1] + STOPS and f.end >= absence.lost[0]]
        return "return of a host with the version before" if older else None

    def presence(self, unit, runs, where):
        """That somebody runs it, from its first start to the end."""
        if not runs:
            return self.violation(self.history.end, f"{unit.name} never ran{where}")
        until = runs[0].last
        for run in runs[1:]:
            self.gap(unit, until, run.start, where)
            until = max(until, run.last)
        self.gap(unit, until, self.history.end, where)
        if until < self.history.end - BEAT - STARVED - self.waited(until, self.history.end):
            self.violation(self.history.end, f"{unit.name} doesn't run{where} at the end")
        last = [run for run in runs if not run.stopped and run.last > self.history.end - BEAT - STARVED]
        if len(last) > 1:
            self.violation(self.history.end, f"{unit.name} runs on {[run.host for run in last]} at the end")
        return None

    def obeyed(self, unit, runs, where):
        """That a restart that was requested, and not refused, is done."""
        for request in self.history.faults:
            asked = request.kind == REQUEST and request.victim == unit.name and request.sure
            if asked and not any(run.start >= request.begin for run in runs):
                self.violation(request.begin, f"the restart of {unit.name}{where} was never done")

    def gap(self, unit, begin, end, where):
        if end - begin <= BEAT + STARVED:
            return
        faults = [f for f in self.history.faults if f.begin <= end and f.end >= begin - TTL]
        self.verdict.gaps.append((round(end - begin, 1), unit.name, "+".join(sorted({f.kind for f in faults}))))
        allowed = TTL + GRACE + self.waited(begin, end)
        if end - begin > allowed:
            self.violation(begin, f"{unit.name} ran nowhere for {end - begin:.1f} s{where}; allowed: {allowed:.1f} s")

    def neighbours(self):
        """Units of a group never run on one host, unless it was dead to the cluster when the second one started."""
        grouped = [run for run in self.history.runs if self.units[run.unit].group]
        for at, first in enumerate(grouped):
            for second in grouped[at + 1:]:
                same = (first.host, self.units[first.unit].group) == (second.host, self.units[second.unit].group)
                seconds = min(first.last, second.last) - second.start
                if same and first.unit != second.unit and seconds > TICK:
                    self.violation(second.start, f"{first.unit} and {second.unit} ran on {first.host} together for "
                                   f"{seconds:.2f} s")

    def convergence(self):
        """How long units went on to start and stop after the faults of a round, before the next round."""
        changes = sorted([run.start for run in self.history.runs] +
                         [run.last for run in self.history.runs if run.last < self.history.end - BEAT - STARVED])
        for begin, end in rests(self.history.faults, self.history.end):
            inside = [time for time in changes if begin < time <= end]
            self.verdict.converged.append(round(inside[-1] - begin, 1) if inside else 0.0)


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
