//! The embedded store's file.
//!
//! Owns the layout of the `redb` database, and is the only user of that crate. A write is one transaction, on disk when
//! it returns. It must never decide anything. The file is read only when it is opened: `state` is in memory.
//!
//! The history stores only the value that each edit replaced. The value that an edit wrote is the one that the next
//! edit of the key replaced, or the current one, so each value is written twice instead of three times.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::state::{Change, Edit, History, Lease, LeaseChange, Past, State, StoredValue};
use crate::store::{LeaseId, Revision};

/// Revision, lease (0 for none), value.
type Stored<'a> = (u64, i64, &'a [u8]);

const KVS: TableDefinition<&str, Stored<'_>> = TableDefinition::new("kv");
/// By revision and index within it: the key, and its entry before.
const PAST: TableDefinition<(u64, u32), (&str, Option<Stored<'_>>)> = TableDefinition::new("past");
/// TTL in milliseconds.
const LEASES: TableDefinition<i64, u64> = TableDefinition::new("lease");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("number");

/// The version of this layout.
const FORMAT: u64 = 1;

/// All data is in memory, so `redb` needs only a minimal cache.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another store in this process) has it open.
    #[error("the store `{0}` is in use by another process")]
    Locked(PathBuf),
    /// The file isn't a store, or is damaged.
    #[error("the store `{path}` is damaged or isn't a store: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The file can't be read or written.
    #[error("the store `{path}` can't be opened: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
}

/// An open file.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    /// `None` only while it is being reopened.
    db: Option<Database>,
    /// The number of writes so far; shows after a failed write whether it took effect nevertheless.
    writes: u64,
    forgotten: Revision,
}

impl Disk {
    /// Open `path`, creating it if necessary, and read all of it.
    pub(super) fn open(path: &Path, history: History) -> Result<(Self, State), OpenError> {
        let mut disk = Self { path: path.to_owned(), db: None, writes: 0, forgotten: Revision(0) };
        disk.db = Some(disk.database()?);
        let state = disk.load(history).map_err(|error| disk.classify(error))?;
        Ok((disk, state))
    }

    fn database(&self) -> Result<Database, OpenError> {
        let io = |error: std::io::Error| OpenError::Io { path: self.path.clone(), reason: error.to_string() };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(io)?;
        let db = Database::builder().set_cache_size(CACHE_BYTES).create_file(file).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::Locked(self.path.clone()),
            DatabaseError::Storage(error) => self.classify(error.into()),
            other => self.classify(other.into()),
        })?;
        // The file's name must survive a power failure, as its content does.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all()).map_err(io)?;
        Ok(db)
    }

    fn classify(&self, error: redb::Error) -> OpenError {
        let (path, reason) = (self.path.clone(), error.to_string());
        match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::Locked(path),
            redb::Error::Io(error) if error.kind() != std::io::ErrorKind::InvalidData => OpenError::Io { path, reason },
            _ => OpenError::Corrupt { path, reason },
        }
    }

    fn db(&self) -> Result<&Database, redb::Error> {
        self.db.as_ref().ok_or_else(|| StorageError::DatabaseClosed.into())
    }

    fn load(&mut self, history: History) -> Result<State, redb::Error> {
        // Creates the tables of a new file, so that the code below finds them.
        let tx = self.db()?.begin_write()?;
        {
            let mut numbers = tx.open_table(NUMBERS)?;
            if numbers.get("format")?.is_none() {
                numbers.insert("format", FORMAT)?;
                numbers.insert("revision", State::new(history).revision.0)?;
            }
            tx.open_table(KVS)?;
            tx.open_table(PAST)?;
            tx.open_table(LEASES)?;
        }
        tx.commit()?;

        let tx = self.db()?.begin_read()?;
        let numbers = tx.open_table(NUMBERS)?;
        let number = |name| Ok::<_, StorageError>(numbers.get(name)?.map_or(0, |number| number.value()));
        if number("format")? != FORMAT {
            return Err(corrupt(format!("its format is {}, and only {FORMAT} is supported", number("format")?)));
        }
        let mut state = State::new(history);
        state.revision = Revision(number("revision")?);
        state.compacted = Revision(number("compacted")?);
        state.last_lease = number("last_lease")?.cast_signed();
        let writes = number("writes")?;
        for row in tx.open_table(LEASES)?.iter()? {
            let (id, ttl) = row?;
            let lease = Lease { ttl: Duration::from_millis(ttl.value()), keys: BTreeSet::new() };
            state.leases.insert(LeaseId(id.value()), lease);
        }
        for row in tx.open_table(KVS)?.iter()? {
            let (key, stored) = row?;
            let (key, entry) = (Arc::<str>::from(key.value()), entry(stored.value()));
            if let Some(lease) = entry.lease.and_then(|id| state.leases.get_mut(&id)) {
                lease.keys.insert(Arc::clone(&key));
            }
            state.kvs.insert(key, entry);
        }

        // Backwards: each edit wrote the value that the next one replaced.
        let mut now: BTreeMap<Arc<str>, Option<StoredValue>> = BTreeMap::new();
        let mut pasts: Vec<Past> = Vec::new();
        for row in tx.open_table(PAST)?.range((state.compacted.0 + 1, 0)..)?.rev() {
            let (place, edit) = row?;
            let (revision, (key, before)) = (Revision(place.value().0), edit.value());
            let (key, before) = (Arc::<str>::from(key), before.map(entry));
            let known = now.insert(Arc::clone(&key), before.clone());
            let after = known.unwrap_or_else(|| state.kvs.get(&key).cloned());
            let edit = Edit { key, before, after };
            match pasts.last_mut() {
                Some(past) if past.revision == revision => past.edits.insert(0, edit),
                _ => pasts.push(Past { revision, edits: vec![edit] }),
            }
        }
        let last = pasts.first().map(|past| past.revision);
        if last.is_some_and(|last| last != state.revision) {
            return Err(corrupt(format!("its history does not end at its revision {}", state.revision)));
        }
        pasts.into_iter().rev().for_each(|past| state.remember(past));
        self.writes = writes;
        self.forgotten = state.compacted;
        Ok(state)
    }

    /// Write `changes`, in this order, and delete the history up to `compacted`. All of it is on disk afterwards. After
    /// an error it may or may not be: [`Self::recover`] finds out.
    pub(super) fn write(&mut self, changes: &[Change], compacted: Revision) -> Result<(), redb::Error> {
        let tx = self.db()?.begin_write()?;
        {
            let mut kvs = tx.open_table(KVS)?;
            let mut past = tx.open_table(PAST)?;
            let mut leases = tx.open_table(LEASES)?;
            let mut numbers = tx.open_table(NUMBERS)?;
            for change in changes {
                for (place, Edit { key, before, after }) in (0u32..).zip(&change.edits) {
                    match after {
                        Some(entry) => drop(kvs.insert(&**key, stored(entry))?),
                        None => drop(kvs.remove(&**key)?),
                    }
                    past.insert((change.revision.0, place), (&**key, before.as_ref().map(stored)))?;
                }
                match change.lease {
                    Some(LeaseChange::Granted(id, ttl)) => {
                        leases.insert(id.0, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?;
                        numbers.insert("last_lease", id.0.cast_unsigned())?;
                    }
                    Some(LeaseChange::Ended(id)) => drop(leases.remove(id.0)?),
                    None => {}
                }
                numbers.insert("revision", change.revision.0)?;
            }
            let asked = changes.iter().filter_map(|change| change.compact).max();
            let forget = compacted.max(asked.unwrap_or_default());
            if forget > self.forgotten {
                past.retain_in(..=(forget.0, u32::MAX), |_, _| false)?;
                numbers.insert("compacted", forget.0)?;
                self.forgotten = forget;
            }
            numbers.insert("writes", self.writes + 1)?;
        }
        tx.commit()?;
        self.writes += 1;
        Ok(())
    }

    /// After a failed write: reopen the file, and return whether that write took effect.
    pub(super) fn recover(&mut self) -> Result<bool, OpenError> {
        self.db = None;
        self.db = Some(self.database()?);
        let (before, forgotten) = (self.writes, self.forgotten);
        let found = (|| {
            let tx = self.db()?.begin_read()?;
            let numbers = tx.open_table(NUMBERS)?;
            let number = |name| Ok::<_, StorageError>(numbers.get(name)?.map_or(0, |number| number.value()));
            Ok((number("writes")?, Revision(number("compacted")?)))
        })();
        let (writes, compacted) = found.map_err(|error| self.classify(error))?;
        self.writes = writes;
        self.forgotten = compacted.min(forgotten);
        Ok(writes > before)
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn stored(entry: &StoredValue) -> Stored<'_> {
    (entry.revision.0, entry.lease.map_or(0, |lease| lease.0), &entry.value)
}

fn entry((revision, lease, value): Stored<'_>) -> StoredValue {
    let lease = Some(LeaseId(lease)).filter(|lease| lease.0 != 0);
    StoredValue { value: Arc::from(value), revision: Revision(revision), lease }
}

fn corrupt(reason: String) -> redb::Error {
    redb::Error::Corrupted(reason)
}
