"""Says what a run showed, as lines for a terminal."""
from statistics import median


def report(history, verdict):
    """The figures, and then each violation."""
    yield f"{len(history.faults)} faults of {len({f.kind for f in history.faults})} kinds"
    yield f"{len(history.runs)} runs of units; busy machine: {verdict.starved} times"
    yield from counted("hosts that were dead to the cluster, by cause", verdict.deaths)
    yield from counted("starts again, by cause", verdict.restarts)
    yield from doubles(verdict.doubles)
    yield from gaps(verdict.gaps)
    yield from daemons(history.daemons)
    if verdict.converged:
        times = sorted(verdict.converged)
        yield f"converged after a round: median {median(times):.1f} s, longest {times[-1]:.1f} s"
        yield f"converged after the last fault: {verdict.converged[-1]:.1f} s"
    yield f"violations: {len(verdict.violations)}"
    for time, text in verdict.violations:
        yield f"  {time:.2f} {text}"


def counted(what, counter):
    yield f"{what}: {sum(counter.values())}"
    for name, number in counter.most_common():
        yield f"  {number:4} {name}"


def daemons(measured):
    for host, values in sorted(measured.items()):
        (_, memory, files), (_, last_memory, last_files) = values[0], values[-1]
        yield (f"fleetd on {host}: {memory / 1024:.1f} to {last_memory / 1024:.1f} MiB, "
               f"{files} to {last_files} open files")


def doubles(found):
    yield f"two runs of a unit at once: {len(found)}"
    for kind in sorted({double.kind for double in found}):
        seconds = sorted(double.seconds for double in found if double.kind == kind)
        yield f"  {len(seconds):4} {kind}: {seconds[0]:.1f} to {seconds[-1]:.1f} s"


def gaps(found):
    yield f"times in which nobody ran a unit: {len(found)}"
    for kinds in sorted({kinds for _, _, kinds in found}):
        seconds = sorted(length for length, _, of in found if of == kinds)
        yield f"  {len(seconds):4} {kinds or 'no fault'}: {seconds[0]:.1f} to {seconds[-1]:.1f} s"
