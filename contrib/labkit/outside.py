"""This machine: small tools, and the cgroups that identify the processes of a lab."""
import os
import sys
import time


class Failed(Exception):
    """What went wrong and what to do about it, in one sentence."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def sh(*cmd, check=True, **kw):
    """Run a tool; its stderr is shown only if it fails."""
    import subprocess  # imported here, because `lab run` must start fast and doesn't need it
    done = subprocess.run(cmd, capture_output=True, text=True, stdin=subprocess.DEVNULL, **kw)
    if check and done.returncode:
        raise Failed(f"`{' '.join(cmd)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def read(path, default=""):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return default


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def digest(text):
    import hashlib
    return hashlib.md5(text.encode()).hexdigest()


def locked(path):
    """A lock that is held until the file is closed or the process ends, also by a crash."""
    import fcntl
    os.makedirs(os.path.dirname(path), exist_ok=True)
    f = open(path, "w")
    try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for another lab command ({path})")
        fcntl.flock(f, fcntl.LOCK_EX)
    # `down` removes the file while it holds the lock: a process that waited for it must try again.
    there = os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(f.fileno()))
    return f if there else locked(path)


def until(test, seconds):
    end = time.monotonic() + seconds
    while not (found := test()):
        if time.monotonic() > end:
            return None
        time.sleep(0.03)
    return found


def daemon(work, fd=0):
    """Run `work` in a new process that has none of our files open except `fd`, as number 3: a caller
    that reads our output to its end must not wait until the hosts end."""
    if os.fork():
        return
    status = 1
    try:
        os.setsid()
        os.dup2(fd, 3)
        null = os.open("/dev/null", os.O_RDWR)
        for std in range(3):
            os.dup2(null, std)
        os.closerange(4, 1024)
        work()
        status = 0
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


class Cgroups:
    """The cgroup2 tree, which identifies the processes of a lab; and, on a machine with version 1
    hierarchies, that of systemd, which systemd-nspawn uses as well."""

    def __init__(self, name):
        mounts = [line.split() for line in read("/proc/self/mountinfo").splitlines()]
        v2 = [m[4] for m in mounts if m[m.index("-") + 1] == "cgroup2"]
        v1 = [m[4] for m in mounts if m[m.index("-") + 1] == "cgroup" and "name=systemd" in m[-1]]
        if not v2:
            raise Failed("no cgroup2 file system is mounted; mount one on /sys/fs/cgroup/unified")
        self.top = v2[0]
        self.trees = [f"{d}/flotilla-lab/{name}" for d in v2[:1] + v1[:1]]

    def path(self, part=""):
        return os.path.join(self.trees[0], part).rstrip("/")

    def make(self, part):
        for tree in self.trees:
            os.makedirs(f"{tree}/{part}", exist_ok=True)
        # Delegate all available controllers, so that MemoryMax= and the like work in the hosts.
        at = os.path.dirname(self.trees[0])
        for step in ["", *self.path(os.path.dirname(part))[len(at) + 1:].split("/")]:
            at = os.path.join(at, step)
            for c in read(f"{at}/cgroup.controllers").split():
                try:
                    write(f"{at}/cgroup.subtree_control", f"+{c}")
                except OSError:
                    pass

    def join(self, part):
        for tree in self.trees:
            write(f"{tree}/{part}/cgroup.procs", str(os.getpid()))

    def busy(self, part=""):
        return "populated 1" in read(self.path(part) + "/cgroup.events")

    def pids(self, part):
        return [int(p) for p in read(self.path(part) + "/cgroup.procs").split()]

    def prune(self, part=""):
        for tree in self.trees:
            for d, _, _ in os.walk(os.path.join(tree, part), topdown=False):
                try:
                    os.rmdir(d)
                except OSError:
                    pass

    def kill(self, part=""):
        """Kill all processes in it together, so that none sees the others end first."""
        for _ in range(100):
            if not self.busy(part):
                break
            try:
                with open(self.path(part) + "/cgroup.kill", "w") as f:
                    f.write("1")
            except FileNotFoundError:  # before Linux 5.14
                for d, _, _ in os.walk(self.path(part)):
                    for p in read(f"{d}/cgroup.procs").split():
                        sh("kill", "-9", p, check=False)
            until(lambda: not self.busy(part), 0.2)
        self.prune(part)
