"""The history of a run: one event a line, as the units and the driver of the run wrote it.

Owns the form of the lines. Times are seconds since the machine booted (/proc/uptime), which all hosts share.

    TIME start|alive|stop UNIT HOST BOOT INVOCATION    a unit about itself: its start, each BEAT, its end
    TIME busy UNIT HOST BOOT INVOCATION                what a unit uses exclusively is used by another process
    TIME fault NUMBER KIND VICTIM                      a fault begins; VICTIM is a host, several (n1,n2,n3), a member, a
                                                       unit or `store`
    TIME over NUMBER                                   it is undone
    TIME unsure NUMBER                                 a request failed, and may have been carried out or not
    TIME lost HOST SINCE                               the host's key is gone; SINCE is when it was last seen
    TIME registered HOST SINCE                         the host's key is there; SINCE is when it was last missed
    TIME late SECONDS                                  the machine let the driver wait for so long
    TIME log HOST TEXT                                 an error that the host's fleetd logged
    TIME daemon HOST KIB FILES                         what the host's fleetd uses: resident memory, open files
    TIME end                                           all faults are over and the cluster had time to settle
"""
from dataclasses import dataclass, field

# A unit writes a line so often (s). One that is late by more than STARVED shows that the machine was too busy.
BEAT, STARVED = 0.25, 1.0


@dataclass
class Run:
    """One invocation of a unit. It ran at least from `start` to `last`."""
    unit: str
    host: str
    boot: str
    invocation: str
    start: float
    last: float
    stopped: bool = False


@dataclass
class Fault:
    number: str
    kind: str
    victim: str
    begin: float
    end: float = float("inf")
    sure: bool = True

    def strikes(self, victim):
        return victim in self.victim.split(",")


@dataclass
class Absence:
    """A host was dead to the cluster. It was lost between `lost[0]` and `lost[1]`, and registered again between
    `back[0]` and `back[1]`."""
    host: str
    lost: tuple
    back: tuple = (float("inf"), float("inf"))


@dataclass
class History:
    runs: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    absences: list = field(default_factory=list)
    # (from, until): the machine was too busy.
    starved: list = field(default_factory=list)
    # (time, unit, host)
    busy: list = field(default_factory=list)
    # (time, host, text)
    logs: list = field(default_factory=list)
    # host: [(time, KiB, files)]
    daemons: dict = field(default_factory=dict)
    end: float = 0.0


def read(lines):
    """The history of these lines, in any order."""
    events = sorted(((float(time), rest) for time, *rest in map(str.split, lines)), key=lambda event: event[0])
    history, runs, faults, away = History(), {}, {}, {}
    for time, (what, *rest) in events:
        if what == "busy":
            history.busy.append((time, rest[0], rest[1]))
        elif what in ("start", "alive", "stop"):
            unit_line(history, runs, time, what, rest)
        elif what == "fault":
            faults[rest[0]] = Fault(*rest, begin=time)
        elif what == "over":
            faults[rest[0]].end = time
        elif what == "unsure":
            faults[rest[0]].sure = False
        elif what == "lost":
            away[rest[0]] = Absence(rest[0], (float(rest[1]), time))
            history.absences.append(away[rest[0]])
        elif what == "registered" and rest[0] in away:
            away.pop(rest[0]).back = (float(rest[1]), time)
        elif what == "late":
            history.starved.append((time - float(rest[0]), time))
        elif what == "log":
            history.logs.append((time, rest[0], " ".join(rest[1:])))
        elif what == "daemon":
            history.daemons.setdefault(rest[0], []).append((time, *map(int, rest[1:])))
        elif what == "end":
            history.end = time
    history.runs = sorted(runs.values(), key=lambda run: run.start)
    history.faults = list(faults.values())
    history.end = history.end or (events[-1][0] if events else 0.0)
    return history


def unit_line(history, runs, time, what, rest):
    unit, host, boot, invocation = rest
    run = runs.setdefault((unit, invocation), Run(unit, host, boot, invocation, time, time))
    if time - run.last > BEAT + STARVED:
        history.starved.append((run.last, time))
    run.last = time
    run.stopped = run.stopped or what == "stop"
