# Starts a systemd that isn't PID 1 of a host: `sh -euc "$(cat boot.sh)" DIR GROUP SYSTEMD`, in a new mount namespace
# (`unshare --mount`), as root. DIR gets `run/bus`; everything ends with the shell. The caller removes the cgroup GROUP.
#
# The script moves itself into a cgroup of its own, and then starts systemd under a shell that is the first process of a
# namespace, so that everything ends with that shell. systemd itself must not be the first process, because it would
# then behave as the system's.
dir=$0 group=$1
mount --make-rprivate /
mkdir "$dir/cgroup"
mount -t cgroup2 cgroup2 "$dir/cgroup"
mkdir "$dir/cgroup/$group"
echo 0 > "$dir/cgroup/$group/cgroup.procs"
umount "$dir/cgroup"
exec unshare --cgroup --mount --pid --fork --kill-child --mount-proc sh -euc '
    dir=$0
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir -p /run/systemd
    mount -t tmpfs tmpfs /run/systemd
    mkdir /run/systemd/system
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$dir" XDG_RUNTIME_DIR="$dir/run" \
        "$1" --user --unit=basic.target --log-target=console --log-level=warning &
    wait
' "$dir" "$2"
