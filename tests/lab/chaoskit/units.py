"""The units of a run: what they are, and how they write their history."""
from dataclasses import dataclass

# What every unit runs. It writes to the host's disk, which survives a loss of power, without starting a process: what a
# busy machine delays is then only the line. `stop` is the last line, written before the process ends; a unit that takes
# its time to stop is alive meanwhile.
WITNESS = r"""#!/bin/bash
unit=$1 stopping=$2 beats=0 # $3: a file that is used exclusively
read -r host </etc/hostname
read -r boot </proc/sys/kernel/random/boot_id
note() {
	read -r now _ </proc/uptime
	echo "$now $1 $unit $host $boot $INVOCATION_ID" >>/var/chaos/history
}
# Something that all hosts share and that one process can use at a time: a lock, which the kernel of the machine ends
# with the process that holds it.
if [ -n "$3" ]; then
	exec {resource}<"$3"
	flock --nonblock "$resource" || note busy
fi
exec {never}<> <(:)
ending=''
trap 'ending=yes' TERM
note start
while [ -z "$ending" ] || [ $((beats += 1)) -le "$stopping" ]; do
	read -r -t 0.25 -u "$never"
	note alive
done
note stop
"""


# The file that the `sole` unit locks, in a folder that all hosts have from the machine.
RESOURCE = "/usr/local/lib/flotilla/resource"

# The hosts on which the version before never runs, so that units may use what it doesn't know.
MODERN = ["n1", "n3", "n5"]


@dataclass(frozen=True)
class Unit:
    name: str
    # `one`: on one host at a time. `sole`: the same, and never on two, whatever happens: it stops when its host loses
    # its lease, and uses something exclusive. `pinned`: only on `host`. `global`: on every host. `guest`: on one host
    # at a time, between the requests to start and to destroy it.
    kind: str = "one"
    host: str = ""
    # Quarters of a second that it takes to stop.
    stopping: int = 0
    # Lines of its unit file besides those of every unit; {ID} is the machine id of `host`.
    needs: str = ""
    fleet: str = ""
    # The unit with which it is restarted.
    base: str = ""
    # Units of the same group never run on one host.
    group: str = ""

    def fits(self, on, hosts):
        """Whether these are the hosts that should run it."""
        expected = {"one": len(on) == 1, "sole": len(on) == 1, "guest": not on, "pinned": on == [self.host]}
        return expected.get(self.kind, sorted(on) == sorted(hosts))

    def text(self, machine_id=""):
        fleet = self.fleet.format(ID=machine_id)
        resource = RESOURCE if self.kind == "sole" else ""
        return (f"[Unit]\nDescription={self.name} of the chaos\n{self.needs}"
                f"[Service]\nExecStart=/usr/local/bin/witness %n {self.stopping} {resource}\n[X-Fleet]\n{fleet}")


UNITS = [
    *(Unit(f"plain-{i}.service", stopping=4 * (i > 4)) for i in range(1, 7)),
    Unit("base.service", stopping=2),
    Unit("tied.service", base="base.service", needs="Requires=base.service\nAfter=base.service\n",
         fleet="MachineOf=base.service\n"),
    *(Unit(f"apart-{i}.service", fleet="Conflicts=apart-*.service\n", group="apart") for i in range(1, 4)),
    Unit("pinned-2.service", "pinned", "n2", fleet="MachineID={ID}\n"),
    Unit("pinned-4.service", "pinned", "n4", fleet="MachineID={ID}\n"),
    # It takes longer to stop than it has before its host's lease can expire. The version before refuses its file.
    Unit("sole.service", "sole", stopping=12,
         fleet="OnDisconnect=stop\n" + "".join(f"MachineMetadata=host={host}\n" for host in MODERN)),
    Unit("everywhere.service", "global", fleet="Global=true\n"),
    *(Unit(f"guest-{i}.service", "guest", stopping=i % 3) for i in range(1, 21)),
]
# Those that run from the beginning to the end.
RESIDENTS = [unit for unit in UNITS if unit.kind != "guest"]
GUESTS = [unit for unit in UNITS if unit.kind == "guest"]
