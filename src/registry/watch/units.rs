//! Follows units for whoever watches them. Owns the choice of how: a few units by their own keys, anything else by
//! following the cluster. Which it is can't be told from what comes of it, but by its cost.

use std::collections::BTreeSet;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::registry::reader::Reader;
use crate::registry::scope::Scope;
use crate::store::{Error, Store};

use super::Touched;
use super::cluster::Follower;
use super::few::{Few, MAX_UNITS};

/// Some units, followed.
#[derive(Debug)]
pub struct UnitWatch<S> {
    reader: Reader<S>,
    scope: Scope,
    source: Source<S>,
}

#[derive(Debug)]
enum Source<S> {
    Few(Few),
    Cluster(Follower<S>),
}

impl<S: Store> UnitWatch<S> {
    /// Follow the units of `scope`. Up to [`MAX_UNITS`] that are named, and run on one host at a time, cost no more
    /// than what happens to them.
    #[must_use]
    pub fn new(reader: Reader<S>, scope: Scope) -> Self {
        let source = match scope.names(MAX_UNITS) {
            Some(names) => Source::Few(Few::new(names, None)),
            None => Source::Cluster(Follower::new(reader.clone(), scope.clone())),
        };
        Self { reader, scope, source }
    }

    /// Follow the units `names` as `host` has them: its assignments and its reports, and no other host's. Of the rest
    /// of the cluster nothing is heard. They are at least one, and should be at most [`MAX_UNITS`].
    #[must_use]
    pub fn on(reader: Reader<S>, names: BTreeSet<UnitName>, host: MachineId) -> Self {
        Self { reader, scope: Scope::All, source: Source::Few(Few::new(names, Some(host))) }
    }

    /// The cluster as of the last [`UnitWatch::next`], as far as these units go. It holds no files.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        match &self.source {
            Source::Few(few) => few.cluster(),
            Source::Cluster(follower) => follower.cluster(),
        }
    }

    /// The next change. The first one is [`Touched::All`], and so is the one after a gap. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`]: make a new one.
    pub async fn next(&mut self) -> Result<Touched, Error> {
        loop {
            match &mut self.source {
                Source::Cluster(follower) => return follower.next().await,
                Source::Few(few) => match few.next(&self.reader).await? {
                    Some(touched) => return Ok(touched),
                    None => self.source = Source::Cluster(Follower::new(self.reader.clone(), self.scope.clone())),
                },
            }
        }
    }
}
