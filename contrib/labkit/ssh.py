"""SSH from outside into the hosts: sshd on them, an authorized key, and their host keys in a known_hosts file."""
import os

from labkit.outside import read, sh, write

# `core` is the user of CoreOS and so of fleetctl there; the groups let it use fleetd's socket and read the journal.
READY = r"""
set -eu
id core >/dev/null 2>&1 || useradd --create-home --shell /bin/bash core
for group in fleet systemd-journal; do ! getent group $group >/dev/null || usermod --append --groups $group core; done
for home in /root /home/core; do
    mkdir -p $home/.ssh && chmod 700 $home/.ssh
    printf '%s\n' "$1" >$home/.ssh/authorized_keys
done
chown -R core: /home/core/.ssh
systemctl --quiet start ssh.service
cat /etc/ssh/ssh_host_ed25519_key.pub
"""


def up(lab, hosts):
    """Start sshd. Prints the folder of `key`, and of `known_hosts`, which is read from the hosts' disks."""
    folder = f"{lab.state}/ssh"
    key = f"{folder}/key"
    if not os.path.exists(key):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{lab.name}", "-f", key)
    keys = lab.everywhere(["sh", "-c", READY, "sh", read(f"{key}.pub").strip()], hosts)
    known = dict(line.split(" ", 1) for line in read(f"{folder}/known_hosts").splitlines())
    known.update({lab.ip(h): " ".join(public.splitlines()[-1].split()[:2]) for h, public in keys.items()})
    write(f"{folder}/known_hosts", "".join(f"{ip} {public}\n" for ip, public in sorted(known.items())))
    print(folder)
