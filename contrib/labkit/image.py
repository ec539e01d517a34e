"""The base root file system of the hosts, built once and kept."""
import os
import sys

from labkit.outside import Failed, digest, locked, read, say, sh

CACHE = os.environ.get("FLOTILLA_LAB_CACHE", "/var/cache/flotilla-lab")
NEEDS = ("mmdebstrap", "gpg", "systemd-nspawn", "ip", "nsenter", "etcd", "etcdctl",
         "usr/share/keyrings/debian-archive-keyring.gpg")
SUITE = "bookworm"
PACKAGES = ("systemd systemd-sysv dbus dbus-user-session faketime iproute2 procps curl netcat-openbsd openssh-server "
            "python3-minimal libssl3 ca-certificates polkitd haproxy "
            "podman crun netavark iptables docker-registry").split()
# Run once with the new root as $1. Idle hosts must be quiet, or measurements of an idle cluster would
# include Debian's timers. ssh, haproxy, podman and the registry are installed, but start only on request.
FINISH = r"""
set -eu; cd "$1"
for u in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer console-getty.service; do
    ln -sf /dev/null "etc/systemd/system/$u"
done
find etc/systemd/system -path '*.wants/*' \( -name 'ssh*' -o -name 'podman*' -o -name haproxy.service \
    -o -name docker-registry.service -o -name 'nftables*' \) -delete
rm -f etc/ssh/ssh_host_* etc/hostname etc/resolv.conf
# every host its own key, made when its sshd first starts: all of them at boot would cost a second
mkdir -p etc/systemd/system/ssh.service.d etc/systemd/journald.conf.d etc/fleet usr/local/lib/flotilla
cat >etc/systemd/system/ssh.service.d/key.conf <<'X'
[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'f=/etc/ssh/ssh_host_ed25519_key; test -e $f || ssh-keygen -q -t ed25519 -N "" -f $f'
ExecStartPre=/usr/sbin/sshd -t
X
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nRateLimitBurst=0\n' >etc/systemd/journald.conf.d/lab.conf
# Podman, in a host whose disk is an overlay already, and that may have neither keyrings nor other limits.
cat >etc/containers/storage.conf <<'X'
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
X
printf '[containers]\nkeyring = false\n[engine]\nevents_logger = "file"\n[network]\nnetwork_backend = "netavark"\n' \
    >etc/containers/containers.conf
printf '[[registry]]\nlocation = "outside:5000"\ninsecure = true\n' >etc/containers/registries.conf.d/lab.conf
for b in fleetd fleetctl fleet-sidecar; do ln -sf "/usr/local/lib/flotilla/$b" "usr/bin/$b"; done
for f in lib/systemd/systemd bin/dbus-daemon sbin/sshd sbin/haproxy bin/podman bin/docker-registry bin/python3 \
    bin/setpriv; do
    f=usr/$f
    test -x "$f" || { echo "the new root has no $f" >&2; exit 1; }
done
test -z "$(chroot . dpkg --audit)"
"""


def deps():
    # Not shutil.which: this must work on a machine that has only python3-minimal.
    places = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").split(":")
    if all(any(os.path.exists(f"{p}/{need}") for p in ["", *places]) for need in NEEDS):
        return
    import subprocess
    script = os.path.realpath(f"{os.path.dirname(os.path.realpath(__file__))}/../deps")
    if subprocess.run([script, "lab"], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
        raise Failed("the packages that the lab needs can't be installed, see above")


def base():
    """The directory of the base root. Its name is a hash of what it is made of, and it gets that name
    only when it is complete, so a directory that exists can be used."""
    deps()
    want = f"{CACHE}/base-{digest(' '.join([SUITE, *PACKAGES, FINISH]))[:12]}"
    if os.path.isdir(want):
        return want
    with locked(f"{CACHE}/.lock"):
        if os.path.isdir(want):
            return want
        used = read("/proc/mounts")
        for old in os.listdir(CACHE):
            if old.startswith(("base-", "new-")) and f"{CACHE}/{old}" not in used:
                sh("rm", "-rf", "--one-file-system", f"{CACHE}/{old}")
        import subprocess
        say(f"making the base root file system, {len(PACKAGES)} packages and what they need (about 30 s)")
        new = f"{CACHE}/new-{os.getpid()}"
        cmd = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=" + ",".join(PACKAGES),
               '--aptopt=Acquire::Languages "none"', "--dpkgopt=path-exclude=/usr/share/man/*",
               "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*", SUITE, new]
        if mirror := os.environ.get("FLOTILLA_LAB_MIRROR"):
            cmd.append(mirror)
        if subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
            raise Failed("mmdebstrap failed, see above; FLOTILLA_LAB_MIRROR names another Debian mirror")
        sh("sh", "-c", FINISH, "sh", new)
        os.rename(new, want)
    return want
