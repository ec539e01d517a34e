"""Plays the rounds of a schedule on a cluster, and writes what happens to the history. Never judges."""
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from chaoskit import faults
from chaoskit.cluster import now
from chaoskit.history import STARVED

# How often the store is asked which hosts are alive (s).
POLL = 0.1


class Recorder:
    """The lines of the driver, in the order in which they were written."""

    def __init__(self):
        self.lines, self.lock = [], threading.Lock()

    def note(self, *words, at=None):
        with self.lock:
            self.lines.append(" ".join(map(str, (f"{at or now():.2f}", *words))))


def watch(cluster, recorder, done):
    """Write which hosts the cluster treats as dead, until `done` is set. The truth is between two answers of the store:
    both times are written."""
    alive, asked = cluster.presence() or {}, now()
    while not done.wait(POLL):
        began, seen = now(), cluster.presence()
        if seen is None:
            continue
        for host in sorted(alive):
            if seen.get(host) != alive[host]:
                recorder.note("lost", host, f"{asked:.2f}")
        for host in sorted(seen):
            if alive.get(host) != seen[host]:
                recorder.note("registered", host, f"{asked:.2f}")
        alive, asked = seen, began


def feel(recorder, done):
    """Write how long the machine keeps this process waiting, if that is long."""
    while True:
        began = time.monotonic()
        if done.wait(POLL):
            return
        if (late := time.monotonic() - began - POLL) > STARVED:
            recorder.note("late", f"{late:.2f}")


class Driver:
    def __init__(self, cluster, recorder):
        self.cluster, self.recorder = cluster, recorder
        self.taken, self.played, self.skipped = [], 0, 0

    def run(self, rounds, seconds):
        """Play the rounds, and begin none after `seconds`. Waits for the cluster to settle."""
        done = threading.Event()
        watchers = [threading.Thread(target=watch, args=(self.cluster, self.recorder, done)),
                    threading.Thread(target=feel, args=(self.recorder, done))]
        for thread in watchers:
            thread.start()
        try:
            self.measure()
            end = time.monotonic() + seconds
            for each in rounds:
                if time.monotonic() > end:
                    break
                with ThreadPoolExecutor(len(each.faults)) as pool:
                    for result in [pool.submit(self.play, fault) for fault in each.faults]:
                        result.result()
                time.sleep(each.pause)
            self.cluster.settle(90)
            self.measure()
            self.recorder.note("end")
        finally:
            done.set()
            for thread in watchers:
                thread.join()

    def measure(self):
        for host, used in self.cluster.daemons():
            self.recorder.note("daemon", host, *used)

    def play(self, fault):
        time.sleep(fault.after)
        self.played += 1
        number, began = self.played, now()
        sure = True
        try:
            victim, undo = faults.strike(self.cluster, fault, list(self.taken))
        except faults.Unsure as request:
            victim, undo, sure = fault.victim, request.undo, False
        except faults.Skipped as why:
            self.skipped += 1
            say(f"{number:3} {fault.kind}: skipped, {why}")
            return
        self.taken += victim.split(",")
        self.recorder.note("fault", number, fault.kind, victim, at=began)
        say(f"{number:3} {fault.kind} {victim} {fault.lasts} s")
        if not sure:
            self.recorder.note("unsure", number)
        try:
            time.sleep(max(0.0, fault.lasts - (now() - began)))
        finally:
            undo()
            for each in victim.split(","):
                self.taken.remove(each)
            self.recorder.note("over", number)


def say(text):
    print(text, file=sys.stderr, flush=True)
