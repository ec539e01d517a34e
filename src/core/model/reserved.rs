//! Names that no new unit may have: they are valid, but would harm a host. Owns the list and the reasons. Names that
//! exist on a particular host are known only to that host.

use super::exec_probe;
use super::name::UnitName;

/// Units that systemd itself relies on (`systemd.special(7)`, up to systemd 257), of the types that have a file.
const SPECIAL: [&str; 91] = [
    "-.mount",
    "-.slice",
    "basic.target",
    "blockdev@.target",
    "bluetooth.target",
    "boot-complete.target",
    "capsule.slice",
    "cryptsetup-pre.target",
    "cryptsetup.target",
    "ctrl-alt-del.target",
    "dbus.service",
    "dbus.socket",
    "default.target",
    "display-manager.service",
    "emergency.target",
    "exit.target",
    "factory-reset.target",
    "final.target",
    "first-boot-complete.target",
    "getty-pre.target",
    "getty.target",
    "graphical.target",
    "halt.target",
    "hibernate.target",
    "hybrid-sleep.target",
    "initrd-fs.target",
    "initrd-root-device.target",
    "initrd-root-fs.target",
    "initrd-switch-root.target",
    "initrd-usr-fs.target",
    "initrd.target",
    "integritysetup-pre.target",
    "integritysetup.target",
    "kbrequest.target",
    "kexec.target",
    "local-fs-pre.target",
    "local-fs.target",
    "machine.slice",
    "machines.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "nss-lookup.target",
    "nss-user-lookup.target",
    "paths.target",
    "poweroff.target",
    "printer.target",
    "reboot.target",
    "remote-cryptsetup.target",
    "remote-fs-pre.target",
    "remote-fs.target",
    "remote-veritysetup.target",
    "rescue.target",
    "rpcbind.target",
    "runlevel0.target",
    "runlevel1.target",
    "runlevel2.target",
    "runlevel3.target",
    "runlevel4.target",
    "runlevel5.target",
    "runlevel6.target",
    "shutdown.target",
    "sigpwr.target",
    "sleep.target",
    "slices.target",
    "smartcard.target",
    "sockets.target",
    "soft-reboot.target",
    "sound.target",
    "ssh-access.target",
    "storage-target-mode.target",
    "suspend-then-hibernate.target",
    "suspend.target",
    "swap.target",
    "sysinit.target",
    "syslog.socket",
    "system-update-cleanup.service",
    "system-update-pre.target",
    "system-update.target",
    "system.slice",
    "time-set.target",
    "time-sync.target",
    "timers.target",
    "tpm2.target",
    "umount.target",
    "usb-gadget.target",
    "user.slice",
    "user@.service",
    "veritysetup-pre.target",
    "veritysetup.target",
];

/// The cluster's own daemon: a unit of this name would replace it, and destroying the unit would stop it.
const OWN: [&str; 2] = ["fleetd.service", "fleetd.socket"];

/// Why no new unit may be named `name`; `None` if one may.
#[must_use]
pub fn why(name: &UnitName) -> Option<&'static str> {
    let is_among = |list: &[&str]| {
        let named = |name: &UnitName| list.contains(&name.as_str());
        named(name) || name.template().as_ref().is_some_and(named)
    };
    if name.as_str().starts_with('.') {
        return Some(
            "a unit's name cannot begin with a dot: tools that list a host's files skip it, systemd's among them",
        );
    }
    if is_among(&OWN) {
        return Some("the name belongs to the cluster's own daemon on every host: choose another");
    }
    if name.as_str().starts_with(exec_probe::PREFIX) {
        return Some("names that begin with `fleet-probe-` belong to the probes of `[X-Health]`: choose another");
    }
    is_among(&SPECIAL)
        .then_some("the name belongs to one of systemd's own units (see systemd.special(7)): choose another")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_harm_a_host_are_reserved() {
        let cases = [
            (".x.service", Some("begin with a dot")),
            (".x@1.service", Some("begin with a dot")),
            ("..service", Some("begin with a dot")),
            ("x..service", None),
            ("fleetd.service", Some("own daemon")),
            ("fleetd.socket", Some("own daemon")),
            ("fleetd.timer", None),
            ("fleet.service", None),
            ("fleet-probe-web-1.service", Some("probes")),
            ("fleet-probe-@1.service", Some("probes")),
            ("fleet-probe.service", None),
            ("multi-user.target", Some("systemd.special(7)")),
            ("-.slice", Some("systemd.special(7)")),
            ("blockdev@dev-sda.target", Some("systemd.special(7)")),
            ("multi-user.service", None),
            ("systemd-exporter.service", None),
        ];
        for (name, expected) in cases {
            let found = why(&name.parse().unwrap());
            assert_eq!(found.is_some(), expected.is_some(), "{name}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{name}: {found:?}");
        }
    }

    #[test]
    fn every_entry_is_a_name_that_a_unit_could_have() {
        for name in SPECIAL.iter().chain(&OWN) {
            assert!(why(&name.parse().unwrap()).is_some(), "{name}");
        }
        assert!(SPECIAL.is_sorted());
    }
}
