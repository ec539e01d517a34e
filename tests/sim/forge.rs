//! Records that somebody writes past the daemons, as with `etcdctl`: each is well-formed JSON under a key of its own,
//! and wrong. Owns which kinds there are, and what they contain. Those that are about units use a name that no user
//! has, so that every other unit must be as well off as without them.

use std::collections::BTreeMap;

use flotilla::model::cluster::Cluster;
use flotilla::model::file::UnitFile;
use flotilla::model::name::{MachineId, UnitName};
use flotilla::registry::keys::Key;
use serde_json::{Value, json};

/// The unit that forged records are about.
pub(crate) const UNIT: &str = "forged.service";

/// A host that doesn't exist.
pub(crate) const GHOST: &str = "ffffffffffffffffffffffffffffffff";

/// The hash of no file in the store.
const NO_FILE: &str = "0000000000000000000000000000000000000000";

/// The file of that unit.
const TEXT: &str = "[Service]\nExecStart=/bin/forged\n";

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The text of one file under the hash of another, which a unit has.
    File,
    /// An assignment of a unit that doesn't exist.
    Assignment,
    /// The same, and the file isn't stored.
    Fileless,
    /// The same, to a host that doesn't exist.
    Elsewhere,
    /// A placement of a unit that doesn't exist, on a host that doesn't exist.
    Placement,
    /// A unit that should run, and whose file isn't stored.
    Unit,
    /// A unit whose numbers are the largest that there are.
    Huge,
    /// A host that doesn't exist, with the id of another one in its record, of a later version.
    Machine,
    /// A host that is remembered, and went at the end of time.
    Roster,
    /// An instance of a service with an address that isn't one.
    Service,
    /// A key as a later format may spell it.
    Later,
}

pub(crate) const KINDS: [(&str, Kind); 11] = [
    ("file", Kind::File),
    ("assignment", Kind::Assignment),
    ("fileless", Kind::Fileless),
    ("elsewhere", Kind::Elsewhere),
    ("placement", Kind::Placement),
    ("unit", Kind::Unit),
    ("huge", Kind::Huge),
    ("machine", Kind::Machine),
    ("roster", Kind::Roster),
    ("service", Kind::Service),
    ("later", Kind::Later),
];

impl Kind {
    /// The records, by key. `host` is a host of the cluster, and `unit` the name of a unit that may be there. None if
    /// there is nothing to forge.
    pub(crate) fn records(self, cluster: &Cluster, host: &MachineId, unit: &UnitName) -> BTreeMap<String, Value> {
        let (ghost, name): (MachineId, UnitName) = (GHOST.parse().unwrap(), UNIT.parse().unwrap());
        let own = UnitFile::parse(TEXT.as_bytes()).unwrap().hash();
        let (file, text) = (Key::File(own.clone()), json!({ "text": TEXT }));
        let assigned =
            |hash: &str| json!({ "hash": hash, "target": "launched", "generation": 1, "later": { "field": [1] } });
        match self {
            Self::File => {
                let hash = cluster.units.get(unit).map(|unit| &unit.hash);
                let stored = hash.filter(|hash| cluster.files.contains_key(*hash));
                stored.map(|hash| (Key::File(hash.clone()).to_string(), text)).into_iter().collect()
            }
            Self::Assignment => {
                let entry = (Key::Schedule(host.clone(), name), assigned(own.as_str()));
                named([(file, text), entry])
            }
            Self::Fileless => named([(Key::Schedule(host.clone(), name), assigned(NO_FILE))]),
            Self::Elsewhere => named([(Key::Schedule(ghost, name), assigned(NO_FILE))]),
            Self::Placement => named([(Key::Placement(name), json!({ "on": { "host": GHOST, "since": u64::MAX } }))]),
            Self::Unit => {
                let record = json!({ "desired": "launched", "hash": NO_FILE, "generation": 1, "submitted": 0 });
                named([(Key::Unit(name), record)])
            }
            Self::Huge => {
                let record = json!({
                    "desired": "launched", "hash": own, "generation": u64::MAX, "restart": u64::MAX,
                    "submitted": u64::MAX,
                });
                named([(file, text), (Key::Unit(name), record)])
            }
            Self::Machine => {
                let record = json!({
                    "id": host, "ip": "10.9.9.9", "hostname": "ghost", "version": "99", "boot_id": "", "format": 99,
                    "since": u64::MAX, "later": { "field": [1] },
                });
                named([(Key::Machine(ghost), record)])
            }
            Self::Roster => {
                let gone = json!({ "since": u64::MAX, "moved": u32::MAX, "waiting": 0, "ended": 0 });
                named([(
                    Key::Roster(ghost),
                    json!({ "hostname": "ghost", "ip": "", "version": "", "gone": gone, "later": 1 }),
                )])
            }
            Self::Service => {
                let record = json!({ "address": "10.0.0.1\nevil", "port": 0, "weight": 999, "ttl": 10, "since": 5 });
                let key = Key::Service("web".parse().unwrap(), "forged".parse().unwrap());
                named([(key, record)])
            }
            Self::Later => {
                let key = format!("{}/3", Key::Schedule(host.clone(), name));
                BTreeMap::from([(key, json!("as a later version writes it"))])
            }
        }
    }
}

fn named(records: impl IntoIterator<Item = (Key, Value)>) -> BTreeMap<String, Value> {
    records.into_iter().map(|(key, record)| (key.to_string(), record)).collect()
}
