"""One lab: its hosts, its network, and how it is started and ended."""
import os
import time

from labkit import image
from labkit.fleet import BINDIR, configure
from labkit.outside import Cgroups, Failed, daemon, digest, locked, read, say, sh, until, write

ROOT = "/run/flotilla-lab"
REBOOT = 133  # the exit status of systemd-nspawn --keep-unit when the host requested a reboot


class Lab:
    def __init__(self, name):
        if not (set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and 0 < len(name) <= 32):
            raise Failed(f"`{name}` can't name a lab; use up to 32 lower case letters, digits and dashes")
        self.name, self.state, self.cg = name, f"{ROOT}/{name}", Cgroups(name)
        short = f"fl-{name}"
        self.bridge = short if len(short) <= 15 else f"fl-{digest(name)[:8]}"

    @property
    def net(self):
        if not (net := read(f"{self.state}/net")):
            raise Failed(f"lab `{self.name}` is down; start it with `lab up 3`")
        return net

    def ip(self, h):
        return f"{self.net}.{10 + int(h[1:])}"

    def machine_id(self, h):
        return digest(f"{self.name}-{h}")

    def veth(self, h):
        return f"fl{digest(self.name)[:6]}{h}"

    def netns(self, h):
        return f"fl-{self.name}-{h}"

    def mac(self, last):
        # Fixed: a real host keeps its address across a power cut, and peers cache it.
        return "02:%02x:%02x:%02x:00:%02x" % (*map(int, self.net.split(".")), last)

    def hosts(self):
        found = os.listdir(f"{self.state}/hosts") if os.path.isdir(f"{self.state}/hosts") else []
        return sorted(found, key=lambda h: int(h[1:]))

    def known(self, h):
        if h not in self.hosts():
            there = ", ".join(self.hosts())
            raise Failed(f"lab `{self.name}` has no host `{h}`; " +
                         (f"it has {there}" if there else "it is down, start it with `lab up 3`"))
        return h

    def init(self, h):
        """The pid of the host's init in this machine's namespace; None while it is down or starting."""
        for p in self.cg.pids(f"{h}/box/payload/init.scope"):
            if "\t1\nNSpgid:" in read(f"/proc/{p}/status"):  # the last number of NSpid is its pid in the host
                return p

    def running(self, h):
        if not (p := self.init(self.known(h))):
            raise Failed(f"{h} is down; start it with `lab boot {h}`")
        return p

    def inside(self, h, cmd):
        """The command line that runs `cmd` in a host. The command gets an environment of its own,
        and SIGTERM if this process is killed, so that nothing is left running in the host. Like the
        host's own processes it can't set the clock, which is this machine's.

        The shell is the parent of the command, so that nsenter doesn't fork: a host that shuts down stops its
        processes (SIGSTOP) before it ends them, nsenter stops with its child and then never reaps it, and the
        host's namespace, hence the shutdown, waits for that for ever. A shell without job control isn't stopped."""
        env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
               "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}"]
        return ["nsenter", "-t", str(self.running(h)), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--no-fork",
                "--", "/bin/sh", "-c", '"$@"; exit "$?"', "sh",
                "setpriv", "--pdeathsig", "TERM", "--bounding-set=-sys_time", "--", "env", "-i", *env, *cmd]

    def everywhere(self, cmd, hosts=None):
        """Run `cmd` in all hosts that are up, in parallel. Returns the output of each."""
        import subprocess
        jobs = {h: subprocess.Popen(self.inside(h, cmd), text=True, stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                for h in (hosts or self.hosts()) if hosts or self.init(h)}
        out = {h: job.communicate()[0].strip() for h, job in jobs.items()}
        if bad := [h for h, job in jobs.items() if job.returncode]:
            raise Failed(f"`{' '.join(cmd)}` failed on {', '.join(bad)}: {out[bad[0]]}")
        return out

    # ---- network ----

    def network(self):
        """Create subnet and bridge once. Labs that start together must not choose the same subnet."""
        with locked(f"{ROOT}/.lock"):
            if sh("stat", "-f", "-c", "%T", ROOT).strip() == "overlayfs":
                sh("mount", "-t", "tmpfs", "tmpfs", ROOT)  # an overlay can't hold an overlay's upper half
            if not read(f"{self.state}/net"):
                write(f"{self.state}/net", self.free_net())
            if os.path.exists(f"/sys/class/net/{self.bridge}"):
                return
            # A fixed address: otherwise a bridge takes one of its ports', and changes it as hosts come and go.
            sh("ip", "link", "add", self.bridge, "address", self.mac(1), "type", "bridge", "forward_delay", "0")
            sh("ip", "addr", "add", f"{self.net}.1/24", "dev", self.bridge)
            sh("ip", "link", "set", self.bridge, "up")

    def free_net(self):
        import ipaddress
        import re
        routes = re.findall(r"^(?:\S+ )??(\d+\.\d+\.\d+\.\d+(?:/\d+)?) .*?dev (\S+)",
                            sh("ip", "-4", "route", "show", "table", "all"), re.M)
        taken = [(ipaddress.ip_network(n, strict=False), dev) for n, dev in routes if dev != "lo"]
        first = 1 + int(digest(self.name)[:6], 16) % 255
        wish = os.environ.get("FLOTILLA_LAB_NET") or ("10.88.0" if self.name == "lab" else None)
        if wish and not re.fullmatch(r"\d+\.\d+\.\d+", wish):
            raise Failed(f"FLOTILLA_LAB_NET is `{wish}`; give the first three numbers of a /24, as in 10.99.0")
        for net in [wish] if wish else [f"10.88.{1 + (first + i) % 255}" for i in range(255)]:
            users = [dev for n, dev in taken if n.overlaps(ipaddress.ip_network(f"{net}.0/24"))]
            if not users:
                return net
        raise Failed(f"the subnet {net}.0/24 is in use by {users[0]}; choose another, as in FLOTILLA_LAB_NET=10.99.0")

    def plug(self, h):
        ns, veth = self.netns(h), self.veth(h)
        if os.path.exists(f"/run/netns/{ns}") and os.path.exists(f"/sys/class/net/{veth}"):
            return
        self.unplug(h)
        sh("ip", "netns", "add", ns)
        sh("ip", "link", "add", veth, "type", "veth", "peer", "name", "host0",
           "address", self.mac(10 + int(h[1:])), "netns", ns)
        sh("ip", "link", "set", veth, "master", self.bridge, "up")
        for cmd in ("link set lo up", f"addr add {self.ip(h)}/24 dev host0", "link set host0 up",
                    f"route add default via {self.net}.1"):
            sh("ip", "-n", ns, *cmd.split())

    def unplug(self, h):
        sh("ip", "link", "del", self.veth(h), check=False)
        sh("ip", "netns", "del", self.netns(h), check=False)

    def cut(self, h, silent=False):
        self.running(h)
        if silent:
            sh("bridge", "link", "set", "dev", self.veth(h), "state", "0")
        else:
            sh("ip", "link", "set", self.veth(h), "down")

    def join(self, h):
        self.running(h)
        sh("ip", "link", "set", self.veth(h), "up")
        sh("bridge", "link", "set", "dev", self.veth(h), "state", "3", check=False)

    # ---- hosts ----

    def boot(self, h, root):
        import shutil
        d = f"{self.state}/hosts/{h}"
        if self.cg.busy(h):
            return
        new = not os.path.isdir(f"{d}/upper")
        for s in ("upper", "work", "root"):
            os.makedirs(f"{d}/{s}", exist_ok=True)
        if not os.path.ismount(f"{d}/root"):
            sh("mount", "-t", "overlay", "overlay", "-o",
               f"lowerdir={root},upperdir={d}/upper,workdir={d}/work", f"{d}/root")
        if new:  # only once: what a test changes on the disk must stay
            names = "".join(f"{self.net}.{10 + i}\tn{i}\n" for i in range(1, 65))
            write(f"{d}/root/etc/machine-id", self.machine_id(h) + "\n")
            write(f"{d}/root/etc/hostname", h + "\n")
            write(f"{d}/root/etc/hosts", f"127.0.0.1\tlocalhost\n{self.net}.1\toutside\n{names}")
            shutil.copy(f"{os.path.dirname(__file__)}/answer", f"{d}/root/usr/local/bin/answer")
            configure(self, h)
        os.makedirs(f"{self.state}/bin", exist_ok=True)
        self.plug(h)
        for leaf in ("keeper", "box"):
            self.cg.make(f"{h}/{leaf}")
        daemon(lambda: self.keep(h))
        until(lambda: self.cg.busy(h), 5)

    def keep(self, h):
        """Start the host, and start it again after a reboot: systemd-nspawn does that itself only if
        systemd runs on this machine as well."""
        import resource
        import subprocess
        d = f"{self.state}/hosts/{h}"
        log = os.open(f"{d}/console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        self.cg.join(f"{h}/keeper")
        ns = f"/run/netns/{self.netns(h)}"
        # nsenter, so that the host's /sys shows its own network instead of this machine's.
        cmd = ["nsenter", f"--net={ns}", "systemd-nspawn", "--quiet", "--keep-unit", "--register=no",
               "--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe",
               "-D", f"{d}/root", "-M", f"{self.name}-{h}", f"--hostname={h}", f"--bind-ro={self.state}/bin:{BINDIR}",
               f"--network-namespace-path={ns}", "--kill-signal=SIGRTMIN+3", "--capability=CAP_NET_ADMIN"]
        try:  # what units may request on a real host; root in a sandbox may not have it
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 524288))
            cmd.append("--capability=CAP_SYS_RESOURCE")
        except ValueError:
            pass
        # Without its own cgroup, each host would share one with all others, and their systemds would
        # compete for the processes of a service. Hosts use cgroup version 2, whatever this machine uses.
        # /proc/sys/net is writable, because containers in the host have networks, too.
        env = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1", SYSTEMD_NSPAWN_API_VFS_WRITABLE="network")
        status = REBOOT
        while status == REBOOT:
            self.cg.prune(f"{h}/box")
            self.cg.make(f"{h}/box")
            status = subprocess.run([*cmd, "--boot"], env=env,
                                    preexec_fn=lambda: self.cg.join(f"{h}/box")).returncode

    def settle(self, h, before=None):
        """Wait until the host has booted, with an init other than `before`."""
        state, end = "", time.monotonic() + 90
        while time.monotonic() < end and self.cg.busy(h):
            if (p := self.init(h)) and p != before:
                try:
                    ask = self.inside(h, ["timeout", "30", "systemctl", "is-system-running", "--wait"])
                    state = sh(*ask, check=False).strip()
                except Failed:
                    continue
                if state in ("running", "degraded"):
                    return
            time.sleep(0.03)
        raise Failed(f"{h} did not boot ({state or 'its init ended'}); see {self.state}/hosts/{h}/console.log")

    def up(self, count, wait, fresh, owner):
        root = image.base()
        lock = locked(f"{ROOT}/{self.name}.lock")
        if fresh:
            self.end()
        if owner:
            self.guard(owner)
        self.network()
        hosts = [f"n{i}" for i in range(1, count + 1)]
        say(f"booting {', '.join(hosts)}")
        began = time.monotonic()
        for h in hosts:
            self.boot(h, root)
        for h in hosts if wait else []:
            self.settle(h)
        lock.close()
        if wait:
            say(f"{count} host{'s' * (count > 1)} up on {self.net}.0/24 after {time.monotonic() - began:.1f} s")

    def guard(self, owner):
        """End the lab when process `owner` has ended, for whatever reason."""
        try:
            fd = os.pidfd_open(owner)
        except OSError:
            raise Failed(f"there is no process {owner}; --owner requires the pid of a running process") from None

        def watch():
            import select
            self.cg.join("owner")
            gone = select.poll()
            gone.register(3, select.POLLIN)
            gone.poll()
            # Two steps, in this order. While the lock is held no `up` can run, which would kill this
            # process while it is in the lab. And ending the lab kills everything in it, so leave it first.
            lock = locked(f"{ROOT}/{self.name}.lock")
            write(f"{self.cg.top}/cgroup.procs", str(os.getpid()))
            self.end()
            os.unlink(lock.name)

        self.cg.kill("owner")
        self.cg.make("owner")
        daemon(watch, fd)

    def kill(self, h):
        # Cut the network first: a host without power closes no connection, but this kernel would
        # close those of the killed processes properly.
        sh("ip", "link", "set", self.veth(self.known(h)), "down", check=False)
        self.cg.kill(h)
        self.unplug(h)

    def restart(self, h, how):
        import subprocess
        before = self.init(self.known(h))
        null = subprocess.DEVNULL
        asking = subprocess.Popen(self.inside(h, ["systemctl", how]), stdin=null, stdout=null, stderr=null)
        if not until(lambda: asking.poll() is not None, 100):
            asking.kill()
        if how == "reboot":
            return self.settle(h, before)
        if not until(lambda: not self.cg.busy(h), 100):
            raise Failed(f"{h} did not power off; see {self.state}/hosts/{h}/console.log")
        self.unplug(h)

    def down(self):
        lock = locked(f"{ROOT}/{self.name}.lock")
        self.end()
        os.unlink(lock.name)
        lock.close()

    def end(self):
        import re
        self.cg.kill()
        at = [line.split()[4] for line in read("/proc/self/mountinfo").splitlines()]
        for m in reversed([m for m in at if m.startswith(self.state + "/")]):
            sh("umount", m, check=False)
            if os.path.ismount(m):
                sh("umount", "-l", m)
        for link in os.listdir("/sys/class/net"):
            if re.fullmatch(re.escape(f"fl{digest(self.name)[:6]}") + r"n\d+", link):
                sh("ip", "link", "del", link, check=False)
        for ns in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
            if re.fullmatch(re.escape(f"fl-{self.name}-") + r"n\d+", ns):
                sh("ip", "netns", "del", ns, check=False)
        sh("ip", "link", "del", self.bridge, check=False)
        left = "/run/systemd/nspawn/propagate"  # left by systemd-nspawn, which fails if they exist
        for h in os.listdir(left) if os.path.isdir(left) else []:
            if re.fullmatch(re.escape(f"{self.name}-") + r"n\d+", h):
                sh("rmdir", f"{left}/{h}", check=False)
        sh("rm", "-rf", "--one-file-system", self.state)
