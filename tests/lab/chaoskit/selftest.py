"""Tests of the schedule and of the judge, over histories written by hand: each rule has one that breaks it."""
from chaoskit import history
from chaoskit.blame import covered, rests
from chaoskit.judge import Judge
from chaoskit.schedule import KINDS, ON_REQUEST, schedule
from chaoskit.units import Unit

PLAIN = Unit("a.service")
GLOBAL = Unit("g.service", "global")
PINNED = Unit("p.service", "pinned", "n1")
SOLE = Unit("s.service", "sole")
GUEST = Unit("v.service", "guest")
COMES = ["10 fault 1 guests-come guests", "20 over 1"]
APART = [Unit("x.service", group="x"), Unit("y.service", group="x")]
CUT = ["10 fault 1 host-cut n1", "30 over 1", "20 lost n1 19.9", "31 registered n1 30.9"]

MANY = ["10 fault 1 hosts-cut n1,n2,n3", "20 lost n1 19.9", "18 lost n2 17.9", "19 lost n3 18.9"]


def beats(unit, host, invocation, begin, end, boot="b1", stopped=True):
    """The lines of a run."""
    lines, at = [f"{begin} start {unit} {host} {boot} {invocation}"], begin
    while at + 0.25 <= end:
        at += 0.25
        lines.append(f"{at} alive {unit} {host} {boot} {invocation}")
    return [*lines, f"{end} stop {unit} {host} {boot} {invocation}"] if stopped else lines


def flat(lines):
    return [lines] if isinstance(lines, str) else [line for each in lines for line in flat(each)]


def verdict(units, lines):
    return Judge(history.read(flat(lines)), units, ("n1", "n2")).judge()


MOVED = [beats("a.service", "n1", "i1", 0, 32), beats("a.service", "n2", "i2", 21, 60, stopped=False), "60 end"]
STAYED = [beats("a.service", "n1", "i1", 0, 60, stopped=False), "60 end"]

# (what is shown, the units, the history, the words of each violation, separated by |)
JUDGED = [
    ("an undisturbed run", [PLAIN], STAYED, ""),
    ("a host that is cut off has its unit moved, and both run meanwhile", [PLAIN], [CUT, MOVED], ""),
    ("the same without a word of the store", [PLAIN], [CUT[:2], MOVED],
     "was alive to the cluster|without a cause"),
    ("a second process on the same host", [PLAIN],
     [STAYED, beats("a.service", "n1", "i2", 21, 22)],
     "two processes on one host|without a cause"),
    ("the unit moves before its host was lost", [PLAIN],
     [CUT, beats("a.service", "n1", "i1", 0, 32), beats("a.service", "n2", "i2", 19, 60, stopped=False), "60 end"],
     "was alive to the cluster|without a cause"),
    ("the returning host doesn't stop its unit", [PLAIN],
     [CUT, beats("a.service", "n1", "i1", 0, 50), beats("a.service", "n2", "i2", 21, 60, stopped=False), "60 end"],
     "had been back for"),
    ("a lease expires without a fault", [PLAIN], ["20 lost n1 19.9", "21 registered n1 20.9", STAYED],
     "dead to the cluster without a cause"),
    ("a lease expires on a busy machine", [PLAIN],
     ["19 late 8", "20 lost n1 19.9", "21 registered n1 20.9", STAYED], ""),
    ("a fault too short for a lease to expire", [PLAIN],
     ["17 fault 1 host-cut n1", "19 over 1", "20 lost n1 19.9", "21 registered n1 20.9", STAYED],
     "dead to the cluster without a cause"),
    ("the death of a member of the store isn't a cause", [PLAIN],
     ["10 fault 1 member-killed 1", "19 over 1", "20 lost n1 19.9", "21 registered n1 20.9", STAYED],
     "dead to the cluster without a cause"),
    ("a restart without a cause", [PLAIN],
     [beats("a.service", "n1", "i1", 0, 20), beats("a.service", "n1", "i2", 20.2, 60, stopped=False), "60 end"],
     "started on n1 without a cause"),
    ("a loss of power", [PLAIN],
     ["20 fault 1 host-killed n1", beats("a.service", "n1", "i1", 0, 20, stopped=False), "26 over 1",
      beats("a.service", "n1", "i2", 25, 60, boot="b2", stopped=False), "60 end"], ""),
    ("a restart long after its host was cut off", [PLAIN],
     [CUT, beats("a.service", "n1", "i1", 0, 90), beats("a.service", "n1", "i2", 90.2, 99, stopped=False), "99 end"],
     "started on n1 without a cause"),
    ("a global unit stays while its host is cut off", [GLOBAL],
     [CUT, beats("g.service", "n1", "i1", 0, 60, stopped=False), beats("g.service", "n2", "i2", 0, 60, stopped=False),
      "60 end"], ""),
    ("a global unit is restarted when its host returns", [GLOBAL],
     [CUT, beats("g.service", "n1", "i1", 0, 31.2), beats("g.service", "n1", "i3", 31.4, 60, stopped=False),
      beats("g.service", "n2", "i2", 0, 60, stopped=False), "60 end"], "started on n1 without a cause"),
    ("a global unit is missing on one host", [GLOBAL],
     [beats("g.service", "n1", "i1", 0, 60, stopped=False), "60 end"], "never ran on n2"),
    ("a pinned unit elsewhere", [PINNED], [beats("p.service", "n2", "i1", 0, 60, stopped=False), "60 end"],
     "belongs to n1"),
    ("a unit is lost", [PLAIN], [beats("a.service", "n1", "i1", 0, 55), "60 end"], "doesn't run at the end"),
    ("nobody runs it for a long time", [PLAIN],
     ["20 fault 1 host-killed n1", "22 over 1", beats("a.service", "n1", "i1", 0, 20, stopped=False),
      beats("a.service", "n2", "i2", 45, 60, stopped=False), "60 end"], "ran nowhere for"),
    ("a unit that never ran", [PLAIN], ["60 end"], "never ran"),
    ("neighbours that must be apart", APART,
     [beats("x.service", "n1", "i1", 0, 60, stopped=False), beats("y.service", "n1", "i2", 5, 60, stopped=False),
      "60 end"], "ran on n1 together"),
    ("a restart that was requested", [PLAIN],
     ["20 fault 1 unit-restarted a.service", "20.1 over 1", beats("a.service", "n1", "i1", 0, 20.2),
      beats("a.service", "n1", "i2", 20.3, 60, stopped=False), "60 end"], ""),
    ("a second start for one request", [PLAIN],
     ["20 fault 1 unit-restarted a.service", "20.1 over 1", beats("a.service", "n1", "i1", 0, 20.2),
      beats("a.service", "n1", "i2", 20.3, 30), beats("a.service", "n1", "i3", 30.1, 60, stopped=False), "60 end"],
     "started on n1 without a cause"),
    ("a request that is forgotten", [PLAIN], ["20 fault 1 unit-restarted a.service", "20.1 over 1", STAYED],
     "was never done"),
    ("a request that was refused", [PLAIN],
     ["20 fault 1 unit-restarted a.service", "20.1 unsure 1", "20.1 over 1", STAYED], ""),
    ("a guest comes and leaves, twice", [GUEST],
     [COMES, beats("v.service", "n1", "i1", 10.3, 20.4), "40 fault 2 guests-come guests", "50 over 2",
      beats("v.service", "n2", "i2", 40.3, 50.4), "60 end"], ""),
    ("a guest that isn't let in", [GUEST], ["10 fault 1 guests-come guests", "50 over 1", "60 end"],
     "didn't run within 40.0 s"),
    ("a guest whose request failed", [GUEST],
     ["10 fault 1 guests-come guests", "11 unsure 1", "50 over 1", "60 end"], ""),
    ("a guest that stays", [GUEST], [COMES, beats("v.service", "n1", "i1", 10.3, 60, stopped=False), "60 end"],
     "still ran on n1"),
    ("a guest that is started again", [GUEST],
     [COMES, beats("v.service", "n1", "i1", 10.3, 13), beats("v.service", "n1", "i2", 13.2, 20.4), "60 end"],
     "started on n1 without a cause"),
    ("a clean reboot", [PLAIN],
     ["20 fault 1 host-rebooted n1", "26 over 1", "21 lost n1 20.9", "26 registered n1 25.9",
      beats("a.service", "n1", "i1", 0, 20.5), beats("a.service", "n2", "i2", 21, 60, stopped=False), "60 end"], ""),
    ("a unit that stops with its host's lease, and moves", [SOLE],
     [CUT, beats("s.service", "n1", "i1", 0, 18.3, stopped=False), beats("s.service", "n2", "i2", 20.5, 60,
                                                                         stopped=False), "60 end"], ""),
    ("such a unit when the store is away", [SOLE],
     ["10 fault 1 store-stopped store", "22 over 1", beats("s.service", "n1", "i1", 0, 18),
      beats("s.service", "n1", "i2", 23, 60, stopped=False), "60 end"], ""),
    ("such a unit when nothing has happened to the lease", [SOLE],
     [beats("s.service", "n1", "i1", 0, 20), beats("s.service", "n1", "i2", 20.2, 60, stopped=False), "60 end"],
     "started on n1 without a cause"),
    ("such a unit that runs on for a moment", [SOLE],
     [CUT, beats("s.service", "n1", "i1", 0, 21), beats("s.service", "n2", "i2", 20.5, 60, stopped=False), "60 end"],
     "it has to stop before n1 is dead"),
    ("such a unit, whose resource isn't free", [SOLE],
     [CUT, beats("s.service", "n1", "i1", 0, 18.3), "20.5 busy s.service n2 b1 i2",
      beats("s.service", "n2", "i2", 20.5, 60, stopped=False), "60 end"], "used what it uses exclusively"),
    ("hosts that vanish together, and return", [PLAIN],
     [MANY, "30 over 1", *(f"31 registered n{at} 30.9" for at in (1, 2, 3)), STAYED], ""),
    ("hosts that vanish together, and whose units are moved", [PLAIN],
     [MANY, "30 over 1", *(f"31 registered n{at} 30.9" for at in (1, 2, 3)), beats("a.service", "n1", "i1", 0, 32),
      beats("a.service", "n4", "i2", 24, 60, stopped=False), "60 end"], "was one of many hosts"),
    ("hosts that vanish together, and whose units are moved after the grace period", [PLAIN],
     [MANY, "60 over 1", *(f"61 registered n{at} 60.9" for at in (1, 2, 3)), beats("a.service", "n1", "i1", 0, 62),
      beats("a.service", "n4", "i2", 49, 70, stopped=False), "70 end"], ""),
    ("a unit that stays while its host is gone for a moment, and moves later", [PLAIN],
     ["10 fault 1 host-cut n1", "20.5 over 1", "20 lost n1 19.9", "21 registered n1 20.9", "50 fault 2 host-cut n1",
      "65 over 2", "60 lost n1 59.9", "66 registered n1 65.9", beats("a.service", "n1", "i1", 0, 67),
      beats("a.service", "n2", "i2", 64, 90, stopped=False), "90 end"], ""),
    ("a daemon that loses files", [PLAIN], [STAYED, "1 daemon n1 30000 15", "59 daemon n1 30000 1015"], "1015 files"),
    ("an error of a daemon", [PLAIN], [STAYED, "30 log n1 error: please report this"], "logged an error"),
]


def judged():
    for what, units, lines, expected in JUDGED:
        found = verdict(units, lines).violations
        expected = [words for words in expected.split("|") if words]
        assert all(any(words in text for _, text in found) for words in expected), f"{what}: {found}"
        assert all(any(words in text for words in expected) for _, text in found), f"{what}: {found}"


def figures():
    seen = verdict([PLAIN], [CUT, MOVED])
    assert [(d.hosts, d.seconds, d.kind) for d in seen.doubles] == [(("n1", "n2"), 11, "host-cut")], seen.doubles
    assert seen.restarts == {"dead to the cluster: host-cut": 1} and seen.deaths == {"host-cut": 1}, seen
    assert seen.converged == [2.0], seen.converged
    assert rests(history.read(["1 fault 1 run-full n1", "3 over 1", "2 fault 2 host-cut n2", "5 over 2",
                               "9 fault 3 run-full n1", "10 over 3"]).faults, 20) == [(5, 9), (10, 20)]
    assert covered([(0, 5), (3, 8), (20, 30)], 2, 25) == 11


def scheduled():
    for seed in range(200):
        rounds = schedule(seed, 1200)
        assert rounds == schedule(seed, 1200), "the same seed gives the same rounds"
        faults = [fault for each in rounds for fault in each.faults]
        assert {fault.kind for fault in faults} == set(KINDS) - ON_REQUEST, "twenty minutes play every kind"
        assert any(len(each.faults) == 2 for each in rounds), "two at once"
        assert sum(each.seconds for each in rounds) < 1200 + 60
        for each in rounds:
            struck = [victim for fault in each.faults for victim in fault.victim.split(",")]
            assert len(set(struck)) == len(struck), each
            assert sum(fault.on_store for fault in each.faults) <= 1, each
    assert schedule(1, 300) != schedule(2, 300)
    assert all(fault.kind != "store-full" for each in schedule(1, 1200, {"store-full"}) for fault in each.faults)


def every_kind_can_be_played():
    from chaoskit.faults import FAULTS
    assert set(FAULTS) == set(KINDS)


def run():
    for test in (judged, figures, scheduled, every_kind_can_be_played):
        test()
    return f"{len(JUDGED)} histories judged, 200 schedules checked"
