"""Flotilla's files on the hosts, and its daemon there."""
import os

from labkit.outside import Failed, read, write

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
BINARIES = ("fleetd", "fleetctl", "fleet-sidecar")
# Where the hosts see the lab's single copy of the binaries. It is a directory, bound read-only: a
# new binary that is renamed into it appears on all hosts, and a running daemon keeps its old file.
BINDIR = "/usr/local/lib/flotilla"
FILES = {"units/fleetd.service": "systemd/system", "units/fleetd.socket": "systemd/system",
         "units/fleetd-sidecar.socket": "systemd/system",
         "contrib/sysusers.d/flotilla.conf": "sysusers.d", "contrib/tmpfiles.d/flotilla.conf": "tmpfiles.d",
         "units/balancer/haproxy.cfg.j2": "../share/flotilla"}
VERBS = {"start": ["enable", "--now"], "stop": ["disable", "--now"], "restart": ["restart"],
         "status": ["show", "-p", "ActiveState,SubState,MainPID"]}


def install(lab, bindir, lines, etcd):
    """Copy the binaries and configure all hosts, including those that are down. `etcd` is the list
    of servers, or None for standalone hosts."""
    import json
    import shutil
    found = [b for b in BINARIES if os.access(f"{bindir}/{b}", os.X_OK)]
    if "fleetd" not in found:
        raise Failed(f"there is no fleetd in {bindir}; build it first, or name the directory that has it")
    if not lab.hosts():
        raise Failed(f"lab `{lab.name}` has no hosts; start it with `lab up 3`")
    for b in found:  # renamed into place: a binary that is running can't be written
        shutil.copy2(f"{bindir}/{b}", f"{lab.state}/bin/.{b}")
        os.rename(f"{lab.state}/bin/.{b}", f"{lab.state}/bin/{b}")
    write(f"{lab.state}/install", json.dumps([lines, etcd]))
    for h in lab.hosts():
        configure(lab, h)
    lab.everywhere(["sh", "-c", "systemd-sysusers && systemctl daemon-reload"])


def configure(lab, h):
    """What `lab install` puts on a host. Also called at boot, for hosts that are added later."""
    import json
    import shutil
    if not (kept := read(f"{lab.state}/install")):
        return
    lines, etcd = json.loads(kept)
    conf = {"public_ip": lab.ip(h), "metadata": f"host={h},zone={'ab'[int(h[1:]) % 3 == 0]}"}
    conf.update({"etcd_servers": etcd} if etcd else {"standalone": "true"})
    for key, value in (line.split("=", 1) for line in lines):
        host, _, key = key.rpartition(":")
        if host in ("", h):
            conf[key] = value
    root = f"{lab.state}/hosts/{h}/root"
    write(f"{root}/etc/fleet/fleet.conf", "".join(f"{k}={v}\n" for k, v in conf.items()))
    for src, dst in FILES.items():
        if os.path.exists(f"{REPO}/{src}"):
            os.makedirs(f"{root}/usr/lib/{dst}", exist_ok=True)
            shutil.copy(f"{REPO}/{src}", f"{root}/usr/lib/{dst}/")


def control(lab, what, hosts):
    if not read(f"{lab.state}/install"):
        raise Failed("Flotilla is not installed on the hosts; do that first with `lab install BINDIR`")
    out = lab.everywhere(["systemctl", "--quiet", *VERBS[what], "fleetd.service"], hosts)
    for h, text in out.items() if what == "status" else ():
        of = dict(line.split("=", 1) for line in text.splitlines())
        print(h, of["ActiveState"], of["SubState"], of["MainPID"], sep="\t")
