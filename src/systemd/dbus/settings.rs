//! What a process of a service may do and where it runs, as systemd reports it, for another process that is to run
//! like it. Owns which properties these are. It must never read a unit's file: drop-ins count.

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant};

use super::details::{OF_SERVICES, all};
use crate::systemd::Error;

/// The properties that are copied: those of the user, the environment, the file system, the slice, the sandbox, and the
/// limits of memory and tasks. Not the directories that systemd makes for a unit (`RuntimeDirectory=` and its like):
/// it removes them with the unit that ends first. Not credentials either, which systemd doesn't tell.
const COPIED: [&str; 65] = [
    "User",
    "Group",
    "DynamicUser",
    "SupplementaryGroups",
    "UMask",
    "Slice",
    "WorkingDirectory",
    "RootDirectory",
    "RootImage",
    "MountAPIVFS",
    "Environment",
    "EnvironmentFiles",
    "PassEnvironment",
    "UnsetEnvironment",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "SecureBits",
    "NoNewPrivileges",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateNetwork",
    "PrivateUsers",
    "PrivateMounts",
    "PrivateIPC",
    "NetworkNamespacePath",
    "IPCNamespacePath",
    "ProtectSystem",
    "ProtectHome",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProcSubset",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "KeyringMode",
    "SELinuxContext",
    "AppArmorProfile",
    "SmackProcessLabel",
    "DevicePolicy",
    "DeviceAllow",
    "IPAddressAllow",
    "IPAddressDeny",
    "RestrictNetworkInterfaces",
    "MemoryMax",
    "MemorySwapMax",
    "TasksMax",
];

/// The namespaces that another unit can share (`JoinsNamespaceOf=`).
const SHARED: [&str; 3] = ["PrivateTmp", "PrivateNetwork", "PrivateIPC"];

/// The settings of a service that differ from systemd's defaults.
#[derive(Debug, Default)]
pub(super) struct Settings(Vec<(&'static str, Variant<'static>)>);

impl Settings {
    /// Of all properties of a service those that are copied.
    fn of(mut all: HashMap<String, OwnedVariant>) -> Self {
        let copied = COPIED.into_iter().filter_map(|name| Some((name, Variant::from(all.remove(name)?))));
        let set = copied.filter(|(_, value)| !is_unset(value));
        Self(
            set.map(|(name, value)| (name, if name == "WorkingDirectory" { as_written(value) } else { value }))
                .collect(),
        )
    }

    /// As properties of a transient unit.
    ///
    /// # Errors
    /// `Refused` if a value can't be copied.
    pub(super) fn properties(&self) -> Result<Vec<(&'static str, Variant<'_>)>, Error> {
        let copy = |(name, value): &(&'static str, Variant<'static>)| {
            let value = value.try_clone().map_err(|error| Error::Refused(format!("{name}: {error}")))?;
            Ok((*name, value))
        };
        self.0.iter().map(copy).collect()
    }

    /// Whether the service has namespaces of its own that another unit can share.
    pub(super) fn has_own_namespaces(&self) -> bool {
        self.0.iter().any(|(name, _)| SHARED.contains(name))
    }
}

/// The settings of the service at this object path.
///
/// # Errors
/// `Unavailable`, `Refused`.
pub(super) async fn read(bus: &zbus::Connection, path: &str) -> Result<Settings, Error> {
    all(bus, path, OF_SERVICES).await.map(Settings::of)
}

/// Whether a value is the one that systemd reports of an option that isn't set. A zero may have been set: a mask of
/// capabilities without any of them.
fn is_unset(value: &Variant<'_>) -> bool {
    match value {
        Variant::Bool(on) => !on,
        Variant::Str(text) => text.is_empty(),
        Variant::U64(number) => *number == u64::MAX,
        Variant::Array(array) => array.is_empty(),
        // An option and whether it is inverted, or whether its failure is ignored.
        Variant::Structure(fields) => fields.fields().iter().all(is_unset),
        _ => false,
    }
}

/// A path as in a unit file. systemd reports one that may be missing as `!/path`.
fn as_written(value: Variant<'static>) -> Variant<'static> {
    match &value {
        Variant::Str(path) if path.starts_with('!') => format!("-{}", &path[1..]).into(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: Vec<(&str, Variant<'static>)>) -> Settings {
        let owned = |(name, value): (&str, Variant<'static>)| (name.to_owned(), OwnedVariant::try_from(value).unwrap());
        Settings::of(all.into_iter().map(owned).collect())
    }

    fn names(settings: &Settings) -> Vec<&'static str> {
        settings.0.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn what_is_set_is_copied_and_nothing_else() {
        let none: Vec<&str> = Vec::new();
        let set = settings(vec![
            ("User", "www".into()),
            ("Group", "".into()),
            ("UMask", 0_u32.into()),
            ("CapabilityBoundingSet", 0_u64.into()),
            ("RestrictNamespaces", u64::MAX.into()),
            ("NoNewPrivileges", true.into()),
            ("PrivateDevices", false.into()),
            ("Environment", vec!["A=1"].into()),
            ("PassEnvironment", none.clone().into()),
            ("EnvironmentFiles", vec![("/etc/web.env", true)].into()),
            ("SystemCallFilter", (true, none.clone()).into()),
            ("RestrictAddressFamilies", (false, none).into()),
            ("MainPID", 7_u32.into()),
            ("RuntimeDirectory", vec!["web"].into()),
        ]);
        let copied = [
            "User",
            "UMask",
            "Environment",
            "EnvironmentFiles",
            "CapabilityBoundingSet",
            "NoNewPrivileges",
            "SystemCallFilter",
        ];
        assert_eq!(names(&set), copied);
        assert_eq!(set.properties().unwrap()[0], ("User", "www".into()));
        assert!(names(&settings(vec![("User", "".into())])).is_empty());
    }

    #[test]
    fn a_directory_that_may_be_missing_is_written_as_in_a_file() {
        for (reported, written) in [("/srv", "/srv"), ("!/srv", "-/srv"), ("~", "~"), ("!~", "-~")] {
            let set = settings(vec![("WorkingDirectory", reported.into())]);
            assert_eq!(set.0, [("WorkingDirectory", written.into())], "{reported}");
        }
    }

    #[test]
    fn namespaces_are_shared_if_there_are_any() {
        for (name, shares) in [("PrivateTmp", true), ("PrivateNetwork", true), ("PrivateDevices", false)] {
            assert_eq!(settings(vec![(name, true.into())]).has_own_namespaces(), shares, "{name}");
            assert!(!settings(vec![(name, false.into())]).has_own_namespaces(), "{name}");
        }
    }
}
