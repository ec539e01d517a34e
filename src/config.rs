//! Configuration: `fleet.conf` and `FLEET_*` variables in, checked settings out. The only place that reads the
//! environment.
//!
//! Three steps: text (INI by `ini`, and the environment, which takes precedence), values by key, [`Settings`]. All
//! errors are reported together, each with its key and line; nothing is guessed, and nothing falls back silently.

pub mod arguments;
mod changes;
mod exposure;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ini::{Ini, ParseOption};

use crate::model::listen::Listen;
use crate::model::machine::Metadata;
use crate::model::resources::Resources;

pub use changes::Changes;

/// The file that is read unless the command line names one. It may be missing.
pub const DEFAULT_FILE: &str = "/etc/fleet/fleet.conf";

/// Keys of CoreOS fleet that have no effect any more: why, and what to use instead.
const RETIRED: [(&str, &str); 5] = [
    (
        "engine_reconcile_interval",
        "the engine acts on changes, not in intervals; how soon a dead host's units run elsewhere is `agent_ttl`",
    ),
    ("disable_watches", "watching is how everything works; remove it"),
    ("enable_grpc", "hosts meet in the store only; remove it"),
    ("verify_units", "units aren't signed; everyone who may use the socket (group `fleet`) may submit them"),
    ("authorized_keys_file", "units aren't signed; everyone who may use the socket (group `fleet`) may submit them"),
];

/// The known keys.
const KEYS: [&str; 24] = [
    "verbosity",
    "etcd_servers",
    "etcd_username",
    "etcd_password",
    "etcd_keyfile",
    "etcd_certfile",
    "etcd_cafile",
    "etcd_key_prefix",
    "etcd_request_timeout",
    "standalone",
    "state_directory",
    "public_ip",
    "metadata",
    "reserve_memory",
    "reserve_cpu",
    "agent_ttl",
    "mass_loss_share",
    "mass_loss_grace",
    "units_directory",
    "systemd_user",
    "disable_engine",
    "token_limit",
    "listen",
    "fleetlock",
];

/// The configuration of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// 0 logs changes; more also logs reasons.
    pub verbosity: u8,
    /// The store.
    pub store: StoreSettings,
    /// The address under which other hosts reach this one; detected if not given.
    pub public_ip: Option<String>,
    /// The static metadata of the host.
    pub metadata: Metadata,
    /// What of its memory and CPU no unit can take.
    pub reserved: Resources,
    /// The TTL of the host's lease.
    pub agent_ttl: Duration,
    /// The percentage of hosts beyond which hosts that vanish together keep their units for a while.
    pub mass_loss_share: u8,
    /// How long they keep them.
    pub mass_loss_grace: Duration,
    /// The folder of unit files.
    pub units_directory: PathBuf,
    /// The folder of the boot state. Derived from `systemd_user`.
    pub runtime_directory: PathBuf,
    /// Use the user's own systemd.
    pub systemd_user: bool,
    /// Never become leader.
    pub disable_engine: bool,
    /// Items per page of the v1 API.
    pub token_limit: u16,
    /// The addresses on which the API listens if systemd passes no socket.
    pub listen: Vec<Listen>,
    /// The loopback address on which programs ask before they reboot this host.
    pub fleetlock: Option<SocketAddr>,
    /// Warnings that aren't errors.
    pub warnings: Vec<String>,
}

/// The location of the cluster's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// In an etcd cluster.
    Etcd(EtcdSettings),
    /// On this host, which is the whole cluster.
    Standalone {
        /// The folder of the store's file.
        directory: PathBuf,
    },
}

/// How to reach etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// All members, as URLs.
    pub endpoints: Vec<String>,
    /// User name and password.
    pub user: Option<(String, String)>,
    /// The client's key file.
    pub keyfile: Option<PathBuf>,
    /// The client's certificate file.
    pub certfile: Option<PathBuf>,
    /// The CA that signed etcd's certificates.
    pub cafile: Option<PathBuf>,
    /// The prefix of all keys; ends with a slash.
    pub prefix: String,
    /// The timeout of one request.
    pub request_timeout: Duration,
}

impl StoreSettings {
    /// Whether there are certificates, whose files may change while the settings stay the same.
    #[must_use]
    pub fn has_certificates(&self) -> bool {
        matches!(self, Self::Etcd(etcd) if etcd.cafile.is_some() || etcd.certfile.is_some())
    }
}

/// All errors of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// One sentence for each error.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Configuration given on the command line.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config FILE`: must exist.
    pub file: Option<PathBuf>,
    /// `--standalone`.
    pub standalone: bool,
}

/// Read the file and the environment.
///
/// # Errors
/// All errors in them.
pub fn load(overrides: &Overrides) -> Result<Settings, ConfigError> {
    let (path, required) = match &overrides.file {
        Some(path) => (path.as_path(), true),
        None => (Path::new(DEFAULT_FILE), false),
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => String::new(),
        Err(error) => return Err(single(format!("{}: can't be read: {error}", path.display()))),
    };
    // Variables that aren't UTF-8 can't belong to this configuration.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let file = path.display().to_string();
    let mut settings = settings(&file, &text, &environment.collect(), overrides.standalone)?;
    let mode = std::fs::metadata(path).map_or(0, |about| about.permissions().mode());
    settings.warnings.extend(exposure::of_file(&file, &text, mode));
    settings.warnings.extend(exposure::of_store(&settings.store));
    settings.warnings.extend(exposure::of_sockets(&settings.listen));
    Ok(settings)
}

/// The settings in `text` (named `file` in messages), overridden by the `FLEET_*` variables of `environment`. With
/// `systemd_user`, the locations of files are derived from `XDG_RUNTIME_DIR`, `XDG_STATE_HOME` and `HOME`.
///
/// # Errors
/// All errors in them.
pub fn settings(
    file: &str,
    text: &str,
    environment: &BTreeMap<String, String>,
    standalone: bool,
) -> Result<Settings, ConfigError> {
    let mut values = Values { file, text, values: BTreeMap::new(), problems: Vec::new(), warnings: Vec::new() };
    values.read_file();
    values.read_environment(environment);
    if standalone {
        values.values.insert("standalone".into(), ("true".into(), Source::CommandLine));
    }
    let systemd_user = values.parsed("systemd_user", false, value::boolean);
    let places = Places::of(systemd_user, environment);
    let store = values.store(places.state);
    let settings = Settings {
        verbosity: values.parsed("verbosity", 0, value::number),
        store,
        public_ip: values.optional("public_ip", value::address),
        metadata: values.parsed("metadata", Metadata::new(), value::metadata),
        reserved: Resources {
            memory: values.parsed("reserve_memory", 0, value::memory),
            cpu: values.parsed("reserve_cpu", 0, value::cpu),
        },
        agent_ttl: values.parsed("agent_ttl", Duration::from_secs(10), value::ttl),
        mass_loss_share: values.parsed("mass_loss_share", 33, value::percentage),
        mass_loss_grace: values.parsed("mass_loss_grace", Duration::from_secs(300), value::grace),
        units_directory: values.parsed("units_directory", places.runtime.join("units"), value::path),
        runtime_directory: places.runtime,
        systemd_user,
        disable_engine: values.parsed("disable_engine", false, value::boolean),
        token_limit: values.parsed("token_limit", 100, value::page),
        listen: values.optional("listen", value::listen).unwrap_or(places.sockets),
        fleetlock: values.optional("fleetlock", value::loopback),
        warnings: Vec::new(),
    };
    values.together(&settings);
    let Values { problems, warnings, .. } = values;
    if problems.is_empty() { Ok(Settings { warnings, ..settings }) } else { Err(ConfigError { problems }) }
}

/// The default locations.
struct Places {
    runtime: PathBuf,
    state: PathBuf,
    sockets: Vec<Listen>,
}

impl Places {
    fn of(user: bool, environment: &BTreeMap<String, String>) -> Self {
        let given = |name: &str| environment.get(name).filter(|path| path.starts_with('/')).map(PathBuf::from);
        match given("XDG_RUNTIME_DIR").filter(|_| user) {
            Some(runtime) => {
                let home = given("HOME").map(|home| home.join(".local/state"));
                let state = given("XDG_STATE_HOME").or(home).unwrap_or_else(|| runtime.clone());
                // A user's manager has the user's processes in units that the kernel doesn't vouch for.
                let sockets = vec![Listen::admins(runtime.join("fleet.sock"))];
                Self { state: state.join("fleet"), sockets, runtime: runtime.join("fleet") }
            }
            None => {
                let sockets = vec![
                    Listen::admins("/run/fleet.sock".into()),
                    Listen::announcers("/run/fleet-sidecar.sock".into()),
                ];
                Self { runtime: "/run/fleet".into(), state: "/var/lib/fleet".into(), sockets }
            }
        }
    }
}

fn single(problem: String) -> ConfigError {
    ConfigError { problems: vec![problem] }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    File,
    Environment,
    CommandLine,
}

struct Values<'a> {
    file: &'a str,
    text: &'a str,
    values: BTreeMap<String, (String, Source)>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Values<'_> {
    fn read_file(&mut self) {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(self.text);
        // The library would join a line that isn't `key=value` to the next one, or drop it. The other lines are still
        // read.
        let mut kept = String::new();
        for (index, line) in text.lines().enumerate() {
            let (place, trimmed) = (format!("{}:{}", self.file, index + 1), line.trim());
            if trimmed.starts_with('[') {
                self.problems.push(format!("{place}: {trimmed}: this file has no sections"));
            } else if !(trimmed.is_empty() || trimmed.starts_with(['#', ';']) || trimmed.contains(['=', ':'])) {
                self.problems.push(format!("{place}: `{trimmed}` isn't key=value"));
            } else {
                kept.push_str(line);
            }
            kept.push('\n');
        }
        let raw = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
        match Ini::load_from_str_opt(&kept, raw) {
            Ok(ini) => ini.general_section().iter().for_each(|(key, value)| self.take(key, value)),
            Err(error) => {
                self.problems.push(format!("{}:{}: {}; a line must be key=value", self.file, error.line + 1, error.msg))
            }
        }
    }

    fn read_environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, value) in environment {
            let Some(key) = name.strip_prefix("FLEET_").map(str::to_ascii_lowercase) else { continue };
            if let Some((_, why)) = RETIRED.iter().find(|(retired, _)| *retired == key) {
                self.warnings.push(format!("{name} in the environment has no effect: {why}"));
            } else if KEYS.contains(&key.as_str()) {
                self.values.insert(key, (value.clone(), Source::Environment));
            } else {
                self.warnings.push(format!("{name} in the environment is no key of fleet.conf and has no effect"));
            }
        }
    }

    fn take(&mut self, key: &str, value: &str) {
        let line = self.line_of(key);
        if let Some((_, why)) = RETIRED.iter().find(|(retired, _)| *retired == key) {
            self.warnings.push(format!("{}{line}: `{key}` has no effect: {why}", self.file));
        } else if KEYS.contains(&key) {
            self.values.insert(key.into(), (value.trim().into(), Source::File));
        } else {
            self.problems.push(format!("{}{line}: unknown key `{key}`", self.file));
        }
    }

    /// `:LINE` of the last line that begins with `start`, if there is one.
    fn line_of(&self, start: &str) -> String {
        let is = |line: &str| {
            let rest = line.trim_start().strip_prefix(start).map(str::trim_start);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['=', ':']))
        };
        let line = self.text.lines().enumerate().filter(|(_, line)| is(line)).last();
        line.map_or(String::new(), |(index, _)| format!(":{}", index + 1))
    }

    /// Report an invalid value and where it comes from.
    fn problem(&mut self, key: &str, value: &str, source: Source, what: &str) {
        let place = match source {
            Source::File => format!("{}{}: {key}={value}", self.file, self.line_of(key)),
            Source::Environment => format!("FLEET_{}={value}", key.to_ascii_uppercase()),
            Source::CommandLine => format!("--{key}"),
        };
        self.problems.push(format!("{place}: {what}"));
    }

    fn parsed<T>(&mut self, key: &str, default: T, parse: fn(&str) -> Result<T, String>) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// An empty value counts as missing, as in fleet.
    fn optional<T>(&mut self, key: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let (value, source) = self.values.get(key).cloned().filter(|(value, _)| !value.is_empty())?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(what) => {
                self.problem(key, &value, source, &what);
                None
            }
        }
    }

    /// Check combinations of values that are valid separately.
    fn together(&mut self, settings: &Settings) {
        let StoreSettings::Etcd(etcd) = &settings.store else { return };
        if etcd.request_timeout < settings.agent_ttl {
            return;
        }
        // The default is shorter than any TTL, so the key was set.
        if let Some((value, source)) = self.values.get("etcd_request_timeout").cloned() {
            let ttl = settings.agent_ttl.as_secs_f64();
            let what = format!(
                "must be shorter than agent_ttl ({ttl} s): a host that waits so long for one member of etcd is dead \
                 to the others before it asks the next one"
            );
            self.problem("etcd_request_timeout", &value, source, &what);
        }
    }

    fn store(&mut self, state: PathBuf) -> StoreSettings {
        let directory = self.parsed("state_directory", state, value::path);
        if self.parsed("standalone", false, value::boolean) {
            if let Some((servers, source)) = self.values.get("etcd_servers").cloned() {
                self.problem("etcd_servers", &servers, source, "a standalone host has no etcd; remove one of the two");
            }
            return StoreSettings::Standalone { directory };
        }
        let user = self.optional("etcd_username", value::text);
        let password = self.optional("etcd_password", value::text);
        let user = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => {
                self.problems.push("etcd_username and etcd_password must be set together".into());
                None
            }
        };
        let (keyfile, certfile) =
            (self.optional("etcd_keyfile", value::path), self.optional("etcd_certfile", value::path));
        if keyfile.is_some() != certfile.is_some() {
            self.problems.push("etcd_keyfile and etcd_certfile must be set together".into());
        }
        StoreSettings::Etcd(EtcdSettings {
            endpoints: self.parsed("etcd_servers", vec!["http://127.0.0.1:2379".into()], value::endpoints),
            user,
            keyfile,
            certfile,
            cafile: self.optional("etcd_cafile", value::path),
            prefix: self.parsed("etcd_key_prefix", "/flotilla/".into(), value::prefix),
            request_timeout: self.parsed("etcd_request_timeout", Duration::from_secs(2), value::seconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        settings("fleet.conf", text, &BTreeMap::new(), false).map_err(|error| error.to_string())
    }

    fn etcd(settings: &Settings) -> &EtcdSettings {
        match &settings.store {
            StoreSettings::Etcd(etcd) => etcd,
            StoreSettings::Standalone { .. } => panic!("standalone"),
        }
    }

    #[test]
    fn nothing_said_is_the_default() {
        let settings = read("").unwrap();
        assert_eq!(etcd(&settings).endpoints, ["http://127.0.0.1:2379"]);
        assert_eq!((settings.agent_ttl, settings.token_limit), (Duration::from_secs(10), 100));
        assert_eq!((settings.mass_loss_share, settings.mass_loss_grace), (33, Duration::from_secs(300)));
    }

    #[test]
    fn a_fleet_conf_is_understood() {
        let text = "# fleet\netcd_servers=[\"http://a:2379\", \"http://b:2379\"]\n\
            metadata=\"region=eu, disk=ssd=fast\"\n\
            agent_ttl=30s\nengine_reconcile_interval=2.0\npublic_ip=10.0.0.1\nverbosity=1\n";
        let settings = read(text).unwrap();
        assert_eq!(etcd(&settings).endpoints, ["http://a:2379", "http://b:2379"]);
        assert_eq!(settings.metadata["disk"], "ssd=fast");
        assert_eq!(settings.agent_ttl, Duration::from_secs(30));
        assert_eq!(settings.reserved, Resources::default());
        let reserved = read("reserve_memory=512M\nreserve_cpu=150%").unwrap().reserved;
        assert_eq!(reserved, Resources { memory: 512 << 20, cpu: 150 });
        assert!(settings.warnings[0].starts_with("fleet.conf:5: `engine_reconcile_interval` has no effect"));
    }

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_key_of_fleets_is_accepted_and_the_retired_ones_say_what_to_use() {
        let text = "verbosity=1\netcd_servers=http://a:2379\netcd_username=u\netcd_password=p\netcd_keyfile=/k\n\
                    etcd_certfile=/c\netcd_cafile=/ca\netcd_key_prefix=/_coreos.com/fleet/\netcd_request_timeout=1.0\n\
                    engine_reconcile_interval=2.0\npublic_ip=10.0.0.1\nmetadata=a=b\nagent_ttl=30s\n\
                    units_directory=/run/fleet/units/\nsystemd_user=false\ntoken_limit=100\nenable_grpc=false\n\
                    disable_engine=false\ndisable_watches=false\nverify_units=false\nauthorized_keys_file=/x\n";
        let warnings = read(text).unwrap().warnings;
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains(" has no effect: ")), "{warnings:?}");
        assert!(
            warnings[0].starts_with("fleet.conf:10: `engine_reconcile_interval`") && warnings[0].contains("agent_ttl")
        );
        let environment =
            environment(&[("FLEET_VERIFY_UNITS", "1"), ("FLEET_METADTA", "a=b"), ("FLEETCTL_DEBUG", "1")]);
        let warnings = settings("f", "", &environment, false).unwrap().warnings;
        assert_eq!(warnings[0], "FLEET_METADTA in the environment is no key of fleet.conf and has no effect");
        assert!(warnings[1].starts_with("FLEET_VERIFY_UNITS in the environment has no effect: "), "{warnings:?}");
    }

    #[test]
    fn a_users_files_are_the_users() {
        let environment = environment(&[("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/home/u")]);
        let user = settings("f", "systemd_user=true\nstandalone=true", &environment, false).unwrap();
        assert_eq!(user.units_directory, Path::new("/run/user/7/fleet/units"));
        assert_eq!(user.runtime_directory, Path::new("/run/user/7/fleet"));
        assert_eq!(user.listen[0].to_string(), "/run/user/7/fleet.sock (admin)");
        assert_eq!(user.store, StoreSettings::Standalone { directory: "/home/u/.local/state/fleet".into() });
        let system = settings("f", "", &environment, false).unwrap();
        assert_eq!(
            (system.runtime_directory.to_str(), &*system.listen[0].to_string()),
            (Some("/run/fleet"), "/run/fleet.sock (admin)")
        );
    }

    #[test]
    fn the_environment_wins_even_when_empty() {
        let environment = environment(&[("FLEET_METADATA", ""), ("FLEET_VERBOSITY", "1")]);
        let settings = settings("f", "metadata=a=b\nverbosity=0", &environment, false).unwrap();
        assert_eq!((settings.metadata.len(), settings.verbosity), (0, 1));
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        assert_eq!(
            read("a=1\nagent_ttl=soon").unwrap_err(),
            "fleet.conf:1: unknown key `a`\nfleet.conf:2: agent_ttl=soon: must be a time like 10s or 1m30s"
        );
        assert_eq!(read("[x]\nverbosity=1").unwrap_err(), "fleet.conf:1: [x]: this file has no sections");
        assert_eq!(read("garbage\nverbosity=1").unwrap_err(), "fleet.conf:1: `garbage` isn't key=value");
        assert_eq!(read("verbosity=1\ngarbage").unwrap_err(), "fleet.conf:2: `garbage` isn't key=value");
        assert_eq!(
            read("one\nfoo=1\ntwo").unwrap_err(),
            "fleet.conf:1: `one` isn't key=value\nfleet.conf:3: `two` isn't key=value\nfleet.conf:2: unknown key `foo`"
        );
        for bad in [
            "etcd_servers=ftp://x",
            "public_ip=n1",
            "agent_ttl=1s",
            "metadata=x",
            "metadata=@arch=x",
            "token_limit=0",
            "reserve_memory=much",
            "reserve_cpu=1",
            "reserve_cpu=1.5%",
            "mass_loss_share=101",
            "mass_loss_share=0.4",
            "mass_loss_grace=soon",
            "mass_loss_grace=25h",
            "standalone=perhaps",
            "listen=unix:///x?role=root",
            "listen=unix:///x,127.0.0.1",
        ] {
            assert!(read(bad).unwrap_err().starts_with(&format!("fleet.conf:1: {bad}: ")), "{bad}");
        }
    }

    #[test]
    fn a_request_must_end_before_the_host_is_dead() {
        let refusal = read("agent_ttl=5s\netcd_request_timeout=5").unwrap_err();
        assert!(
            refusal.starts_with("fleet.conf:2: etcd_request_timeout=5: must be shorter than agent_ttl (5 s): "),
            "{refusal}"
        );
        assert!(read("etcd_request_timeout=10").is_err(), "agent_ttl's default counts too");
        // Keep-alives try a second member in time, however long a request may take.
        for fine in ["agent_ttl=3s", "agent_ttl=3s\netcd_request_timeout=2.9", "etcd_request_timeout=9.9"] {
            assert!(read(fine).is_ok(), "{fine}");
        }
        assert!(read("standalone=true\netcd_request_timeout=60").is_ok());
    }

    /// They are read again on each reload: their files change in place.
    #[test]
    fn certificates_are_known() {
        for (text, has) in [
            ("", false),
            ("standalone=true", false),
            ("etcd_cafile=/ca", true),
            ("etcd_certfile=/c\netcd_keyfile=/k", true),
        ] {
            assert_eq!(read(text).unwrap().store.has_certificates(), has, "{text}");
        }
    }

    #[test]
    fn standalone_is_said_never_guessed() {
        assert!(matches!(read("standalone=true").unwrap().store, StoreSettings::Standalone { .. }));
        assert!(matches!(settings("f", "", &BTreeMap::new(), true).unwrap().store, StoreSettings::Standalone { .. }));
        assert!(read("standalone=true\netcd_servers=http://a:1").unwrap_err().contains("has no etcd"));
    }
}
