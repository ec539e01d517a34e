"""Containers: a registry beside the hosts, since a lab can't reach any other, and an image to pull from it."""
import os

from labkit import image
from labkit.outside import Failed, daemon, say, sh, until, write

# Everything in the image comes from the host that makes it: a shell, Python and `answer`, with the libraries that `ldd`
# lists for them.
MAKE = r"""
set -eu; dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; root=$dir/root
mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/tmp" "$root/etc"
for link in bin lib lib64; do ln -s "usr/$link" "$root/$link"; done
programs="/usr/bin/dash /usr/bin/sleep /usr/bin/cat /usr/bin/python3.11"
ldd $programs | grep -o '/[^ :]*' | sort -u | while read -r file; do
    mkdir -p "$root/$(dirname "$file")"; cp -L "$file" "$root/$file"
done
cp -r --parents /usr/lib/python3.11 $programs /usr/local/bin/answer "$root"
ln -s dash "$root/usr/bin/sh"; ln -s python3.11 "$root/usr/bin/python3"
tar -C "$root" -cf "$dir/root.tar" .
podman import --quiet "$dir/root.tar" "$1" >/dev/null
podman push --quiet "$1"
podman rmi --force "$1" >/dev/null
"""


class Registry:
    """Docker's registry on port 5000 of the bridge's address, which the hosts call `outside`."""

    PART, PORT = "registry", 5000

    def __init__(self, lab):
        self.lab, self.cg, self.dir = lab, lab.cg, f"{lab.state}/registry"

    def up(self, maker):
        """Start it if necessary, and let the host `maker` push `outside:5000/small:1` to it."""
        self.lab.running(maker)
        name = f"outside:{self.PORT}/small:1"
        if not self.cg.busy(self.PART):
            say("starting a registry of container images")
            write(f"{self.dir}/config.yml", "version: 0.1\nlog: {level: warn}\nstorage:\n"
                  f"  filesystem: {{rootdirectory: {self.dir}/images}}\n"
                  f"http: {{addr: '{self.lab.net}.1:{self.PORT}'}}\n")
            self.cg.make(self.PART)
            daemon(self.run)
            if not until(self.answers, 10):
                raise Failed(f"the registry does not answer; see {self.dir}/log")
        say(f"making {name}")
        sh(*self.lab.inside(maker, ["sh", "-c", MAKE, "sh", name]))
        print(name)

    def run(self):
        log = os.open(f"{self.dir}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        self.cg.join(self.PART)
        # The program comes from the hosts' root file system, so this machine doesn't need it.
        program = f"{image.base()}/usr/bin/docker-registry"
        os.execve(program, [program, "serve", f"{self.dir}/config.yml"], {"PATH": os.environ["PATH"]})

    def answers(self):
        import socket
        try:
            socket.create_connection((f"{self.lab.net}.1", self.PORT), timeout=1).close()
            return True
        except OSError:
            return False
