"""Judges a history: a pure function of what the units wrote, what was done to the cluster, and which hosts it missed.

Owns the rules. Each follows from docs/architecture.md:

  * A unit runs on one host at a time. It may run twice only while the cluster treats the first host as dead: the first
    run began before the host was lost, the second one after, and the first ends within STOPS of the host's return.
  * A unit that stops with its host's lease never runs twice, and what it uses exclusively is free when it starts.
  * A unit is started again only if its host lost its power, or, unless it can run nowhere else, if its host was dead to
    the cluster since it was started, or if it stopped with its host's lease.
  * The units of three or more hosts that vanish within a TTL stay where they are for the grace period.
  * A host is dead to the cluster only after a fault that can have silenced it for a TTL, or while the machine was
    demonstrably too busy for it (then all that follows is counted, but marked).
  * Whatever happens, a unit runs again within a TTL and GRACE after the faults that overlap its absence.
  * The daemons log no error.

Must never make allowances for a slow machine, except where the history shows that it was slow."""
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from chaoskit.blame import GRACE, GUESTS, POWER, REBOOT, REQUEST, Blame, rests
from chaoskit.history import BEAT, STARVED
from chaoskit.schedule import TTL

# How long the units of a host may run after its return: the agent registers, reads, and stops them (s).
STOPS = 6
# The clock of the units has this resolution (s): a shorter overlap can't be seen.
TICK = 0.02
# More than a daemon uses, also in a build for debugging: KiB of memory, and open files.
MEMORY, FILES = 100 * 1024, 100

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
        self.history, self.hosts, self.blame = history, hosts, Blame(history)
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
                if unit.kind == "guest":
                    self.visits(unit, here)
                else:
                    self.presence(unit, here, where)
                self.obeyed(unit, here, where)
        for time, unit, host in self.history.busy:
            self.violation(time, f"{unit} was started on {host} while another process used what it uses exclusively")
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

    def death(self, absence):
        kind = self.blame.fault(absence)
        self.verdict.deaths[kind or "without a cause"] += 1
        if not kind:
            self.violation(absence.lost[1], f"{absence.host} was dead to the cluster without a cause")

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
                kind, documented = self.explain(unit, first, second, second.start + seconds)
                double = Double(unit.name, (first.host, second.host), second.start, round(seconds, 2), kind)
                self.verdict.doubles.append(double)
                if not documented:
                    self.violation(second.start, f"{unit.name} ran on {first.host} and on {second.host} for "
                                   f"{seconds:.2f} s: {kind}")

    def explain(self, unit, first, second, end):
        """Why two runs overlap until `end`, and whether that is documented."""
        absence = self.blame.absence(first.host, first.start, second.start)
        if first.host == second.host:
            return "two processes on one host", False
        if not absence:
            return f"{first.host} was alive to the cluster when {second.host} started it", False
        if unit.kind == "sole":
            return f"it has to stop before {first.host} is dead to the cluster", False
        allowed = absence.back[1] + STOPS + self.blame.waited(absence.back[0], end)
        if end > allowed:
            return f"{first.host} had been back for {end - absence.back[1]:.1f} s", False
        return self.blame.fault(absence) or "without a cause", True

    def starts(self, unit, runs):
        for before, run in pairwise(runs):
            cause = self.cause(unit, before, run)
            self.verdict.restarts[cause or "without a cause"] += 1
            if not cause:
                self.violation(run.start, f"{unit.name} was started on {run.host} without a cause; it ran on "
                               f"{before.host} until {before.last:.2f}")
            if run.host != before.host and self.blame.held(before.host, run.start):
                self.violation(run.start, f"{unit.name} was started on {run.host} although {before.host} was one of "
                               "many hosts that vanished together")

    def cause(self, unit, before, run):
        """Why a unit that ran, or still runs, is started again. What happened long before the end of the last run, and
        longer than the cluster needs to act, is no cause."""
        changed = min(before.last, run.start)
        between = [f for f in self.history.faults if before.start <= f.begin <= run.start
                   and self.blame.soon(f.end, changed)]
        down = [f.kind for f in between if f.kind in (*POWER, REBOOT) and f.strikes(before.host)]
        if down or (before.host == run.host and before.boot != run.boot):
            return down[0] if down else "loss of power"
        for request in [f for f in between if self.asks(f, unit)]:
            if (request.number, unit.name, run.host) not in self.requests:
                self.requests.add((request.number, unit.name, run.host))
                return request.kind
        absence = self.blame.absence(before.host, before.start, run.start)
        if unit.kind == "sole" and (released := self.blame.released(before.host, before.last)):
            return f"stopped with the lease: {released}"
        if not absence or not self.blame.soon(absence.back[1], changed):
            return None
        if unit.kind in ("one", "guest"):
            return f"dead to the cluster: {self.blame.fault(absence) or 'without a cause'}"
        # The version before restarts what only a returning host can run.
        older = [f for f in self.history.faults if f.kind == "daemon-downgraded"
                 and f.begin <= absence.back[1] + STOPS and f.end >= absence.lost[0]]
        return "return of a host with the version before" if older else None

    def asks(self, fault, unit):
        """Whether this is a request that starts the unit."""
        if unit.kind == "guest":
            return fault.kind == GUESTS
        return fault.kind == REQUEST and fault.victim in (unit.name, unit.base)

    def visits(self, unit, runs):
        """That a guest runs within a TTL and GRACE after it came, and not for longer than that after it left, or after
        its host returned."""
        visits = [f for f in self.history.faults if f.kind == GUESTS]
        for visit in visits:
            first = next((run.start for run in runs if run.start >= visit.begin), self.history.end)
            if visit.sure and not self.blame.soon(visit.begin, min(first, visit.end)):
                waited = min(first, visit.end) - visit.begin
                self.violation(visit.begin, f"{unit.name} didn't run within {waited:.1f} s")
        for run in runs:
            over = max([v.end for v in visits if v.begin <= run.start], default=run.start)
            absences = [a.back[1] for a in self.history.absences if a.host == run.host and a.lost[0] <= run.last]
            if not self.blame.soon(max([over, *absences]), run.last):
                self.violation(run.last, f"{unit.name} still ran on {run.host} {run.last - over:.1f} s after it left")

    def presence(self, unit, runs, where):
        """That somebody runs it, from its first start to the end."""
        if not runs:
            return self.violation(self.history.end, f"{unit.name} never ran{where}")
        until = runs[0].last
        for run in runs[1:]:
            self.gap(unit, until, run.start, where)
            until = max(until, run.last)
        self.gap(unit, until, self.history.end, where)
        if until < self.history.end - BEAT - STARVED - self.blame.waited(until, self.history.end):
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
        allowed = TTL + GRACE + self.blame.waited(begin, end)
        if end - begin > allowed:
            self.violation(begin, f"{unit.name} ran nowhere for {end - begin:.1f} s{where}; allowed: {allowed:.1f} s")

    def neighbours(self):
        """Units of a group never run on one host."""
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
