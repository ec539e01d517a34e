//! Unit files as fleet's users have them, without a key or a section that came later: their hashes, their options as
//! the v1 API has them, and the hosts that they get. The expected output was written by a version of before sets,
//! health and rollouts; no version may change it.
//!
//! `FLOTILLA_BLESS=1` writes it anew, for a file that is added to the corpus.

#![expect(clippy::unwrap_used, reason = "a test that fails says where, and what it saw")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use flotilla::model::cluster::{Change, Cluster, Versioned};
use flotilla::model::file::UnitFile;
use flotilla::model::machine::Machine;
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::placement::Constraints;
use flotilla::model::revision::Revision;
use flotilla::model::unit::{Assignment, Desired, Unit};
use flotilla::plan::schedule::{Scheduler, Write};

const ZONES: [&str; 4] = ["a", "a", "b", "c"];
/// How many instances of each template are started.
const INSTANCES: usize = 3;

/// The files of the corpus, with their names.
fn corpus() -> Vec<(String, UnitFile)> {
    let text = include_str!("old_files/corpus.txt");
    let files = text.split("== ").skip(1).map(|part| part.split_once('\n').unwrap());
    files.map(|(name, text)| (name.to_owned(), UnitFile::parse(text.trim_end().as_bytes()).unwrap())).collect()
}

fn id(at: usize) -> MachineId {
    format!("{at:08x}{at:024x}").parse().unwrap()
}

/// A scheduler, and what it has decided.
struct World {
    scheduler: Scheduler,
    revision: Revision,
    shown: String,
}

impl World {
    fn new() -> Self {
        let mut cluster = Cluster { revision: Revision(1), ..Cluster::default() };
        for (at, zone) in (1..).zip(ZONES) {
            let disk = if at % 2 == 0 { "ssd" } else { "disk" };
            let metadata = [("zone".to_owned(), zone.to_owned()), ("disk".to_owned(), disk.to_owned())].into();
            let machine = Machine { metadata, ..Machine::new(id(at), format!("n{at}")) };
            cluster.apply(Change::Machine(id(at), Some(machine)));
        }
        Self { scheduler: Scheduler::new(cluster), revision: Revision(1), shown: String::new() }
    }

    fn start(&mut self, name: &str, file: &UnitFile) {
        self.revision = self.revision.next();
        let (hash, constraints) = (file.hash(), Arc::new(Constraints::parse(file).unwrap()));
        let file = Versioned { value: constraints, revision: self.revision };
        self.scheduler.apply(Change::File(hash.clone(), Some(file)));
        let names = match name.split_once('@') {
            Some((prefix, suffix)) => (1..=INSTANCES).map(|at| format!("{prefix}@{at}{suffix}")).collect(),
            None => vec![name.to_owned()],
        };
        for name in names {
            let unit = Unit::new(Desired::Launched, hash.clone(), self.revision);
            self.scheduler.apply(Change::Unit(name.parse().unwrap(), Some(unit)));
        }
    }

    /// Plan until nothing is to be done, and show each decision.
    fn settle(&mut self, what: &str) {
        writeln!(self.shown, "\n{what}").unwrap();
        loop {
            let plan = self.scheduler.plan(0);
            if plan.is_empty() {
                return;
            }
            self.revision = self.revision.next();
            for decision in &plan.decisions {
                let hosts: Vec<String> = decision.assignments.iter().map(shown).collect();
                let hosts = if hosts.is_empty() { "waits".into() } else { hosts.join(", ") };
                writeln!(self.shown, "  {}: {hosts}", decision.unit).unwrap();
            }
            let changes: Vec<Change> =
                plan.decisions.iter().flat_map(|decision| decision.changes(self.revision)).collect();
            let hosts: Vec<Change> = plan.hosts.iter().map(|decision| decision.change(self.revision)).collect();
            changes.into_iter().chain(hosts).for_each(|change| self.scheduler.apply(change));
        }
    }
}

fn shown((host, write): &(MachineId, Write<Assignment>)) -> String {
    let at = (1..=ZONES.len()).find(|at| id(*at) == *host).unwrap();
    match &write.after {
        Some(told) => format!("n{at} {:?}", told.target),
        None => format!("n{at} nothing"),
    }
}

#[test]
fn old_files_hash_read_and_run_as_before() {
    let mut seen = String::new();
    let mut world = World::new();
    for (name, file) in corpus() {
        writeln!(seen, "{name} {}", file.hash()).unwrap();
        for option in file.written_options() {
            writeln!(seen, "  {}", serde_json::to_string(&option).unwrap()).unwrap();
        }
        world.start(&name, &file);
    }
    world.settle("all are started");
    world.scheduler.apply(Change::Machine(id(2), None));
    world.settle("n2 is gone");
    let hello: UnitName = "hello.service".parse().unwrap();
    world.scheduler.apply(Change::Unit(hello, None));
    world.settle("hello.service is destroyed");
    seen += &world.shown;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_files/corpus.out");
    if std::env::var_os("FLOTILLA_BLESS").is_some() {
        std::fs::write(&path, &seen).unwrap();
    }
    assert_eq!(seen, std::fs::read_to_string(&path).unwrap());
}
