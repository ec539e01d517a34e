"""etcd, outside of all hosts, so that faults of a host don't affect the store."""
import os

from labkit import image
from labkit.outside import Failed, daemon, read, say, sh, until, write


class Etcd:
    """Member 1, 2, 3 … of one cluster, on ports 2379, 2389, 2399 … of the bridge's address."""

    def __init__(self, lab):
        self.lab, self.cg, self.dir = lab, lab.cg, f"{lab.state}/etcd"

    def members(self):
        return range(1, int(read(f"{self.dir}/members", "0")) + 1)

    def member(self, i):
        if i not in self.members():
            raise Failed(f"there is no etcd member {i}; `lab etcd status` lists them")
        return i

    def url(self, i, peer=False):
        return f"http://{self.lab.net}.1:{2369 + 10 * i + peer}"

    def endpoints(self):
        return ",".join(map(self.url, self.members() or [1]))

    def up(self, count, quota=None):
        image.deps()
        self.lab.network()
        if (have := len(self.members())) not in (0, count):
            raise Failed(f"there is an etcd of {have} here; end it first with `lab etcd down`")
        # The data are in memory: a disk that is busy with something else would let etcd wait for seconds at each write,
        # and leases would end. A lab can't show what a disk loses anyway.
        if not os.path.ismount(self.dir):
            os.makedirs(self.dir, exist_ok=True)
            sh("mount", "-t", "tmpfs", "tmpfs", self.dir)
        write(f"{self.dir}/members", str(count))
        if quota:
            write(f"{self.dir}/quota", str(quota))
        say(f"starting etcd, {count} member{'s' * (count > 1)}")
        self.start(self.members())

    def start(self, which):
        for i in which:
            if not self.cg.busy(f"etcd-{self.member(i)}"):
                self.cg.make(f"etcd-{i}")
                daemon(lambda: self.run(i))
                until(lambda: self.cg.busy(f"etcd-{i}"), 5)
        alive = [i for i in self.members() if self.cg.busy(f"etcd-{i}")]
        if 2 * len(alive) <= len(self.members()):
            return say(f"etcd: {len(alive)} of {len(self.members())} members run, no quorum yet")
        for i in which:
            if not until(lambda: self.ask(i, "GET", "/health").get("health") == "true", 30):
                raise Failed(f"etcd member {i} does not get healthy; see {self.dir}/{i}.log")

    def run(self, i):
        log = os.open(f"{self.dir}/{i}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        self.cg.join(f"etcd-{i}")
        all_of_them = ",".join(f"m{j}={self.url(j, peer=True)}" for j in self.members())
        # Nothing is inherited from the environment: an ETCD_ variable would change the cluster.
        os.execvpe("etcd", [
            "etcd", "--name", f"m{i}", "--data-dir", f"{self.dir}/{i}",
            "--listen-client-urls", self.url(i), "--advertise-client-urls", self.url(i),
            "--listen-peer-urls", self.url(i, peer=True), "--initial-advertise-peer-urls", self.url(i, peer=True),
            "--initial-cluster", all_of_them, "--initial-cluster-token", f"lab-{self.lab.name}",
            "--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h", "--logger", "zap",
            # It counts only for a member without data.
            "--initial-cluster-state", "existing" if os.path.exists(f"{self.dir}/{i}.replaced") else "new",
            *(["--quota-backend-bytes", quota] if (quota := read(f"{self.dir}/quota")) else []),
        ], {"PATH": os.environ["PATH"], "ETCD_UNSUPPORTED_ARCH": "arm64" if os.uname().machine == "aarch64" else ""})

    def stop(self, which, signal="-TERM"):
        for i in which:
            part = f"etcd-{self.member(i)}"
            if signal == "-TERM" and (pids := self.cg.pids(part)):
                sh("kill", *map(str, pids), check=False)
                until(lambda: not self.cg.busy(part), 10)
            self.cg.kill(part)

    def replace(self, i):
        """Member `i` loses its disk: it is killed, and an empty member with its name and addresses joins instead."""
        other = next((j for j in self.members() if j != self.member(i) and self.cg.busy(f"etcd-{j}")), None)
        if not other:
            raise Failed("to replace a member, others must run")
        self.stop([i], "-KILL")
        listed = self.ask(other, "POST", "/v3/cluster/member/list").get("members", [])
        for old in [m["ID"] for m in listed if self.url(i, peer=True) in m["peerURLs"]]:
            self.change(other, "/v3/cluster/member/remove", {"ID": old})
        sh("rm", "-rf", "--one-file-system", f"{self.dir}/{i}")
        self.change(other, "/v3/cluster/member/add", {"peerURLs": [self.url(i, peer=True)]})
        write(f"{self.dir}/{i}.replaced", "")
        self.start([i])

    def change(self, i, path, body):
        """A request that must succeed; etcd refuses changes of its members while one of them is unhealthy."""
        if not until(lambda: "header" in self.ask(i, "POST", path, body, 5), 30):
            raise Failed(f"etcd member {i} refuses {path}; see {self.dir}/{i}.log")

    def ask(self, i, method, path, body=None, seconds=1):
        import http.client
        import json
        c = http.client.HTTPConnection(self.url(i)[7:], timeout=seconds)
        try:
            c.request(method, path, json.dumps(body or {}) if method == "POST" else None)
            return json.loads(c.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return {}
        finally:
            c.close()

    def status(self):
        for i in self.members():
            state, role = "stopped", "-"
            if self.cg.busy(f"etcd-{i}"):
                state = "healthy" if self.ask(i, "GET", "/health").get("health") == "true" else "unhealthy"
                about = self.ask(i, "POST", "/v3/maintenance/status")
                me = about.get("header", {}).get("member_id", "")
                role = "leader" if me and about.get("leader") == me else "follower"
            print(f"{i}\t{self.url(i)}\t{state}\t{role if state == 'healthy' else '-'}")

    def down(self):
        self.stop(self.members(), "-KILL")
        if os.path.ismount(self.dir):
            sh("umount", self.dir)
        sh("rm", "-rf", "--one-file-system", self.dir)
