//! Follows units for whoever watches them. Owns the choice of how: a few units by their own keys, anything else by the
//! picture of the cluster that all watchers share. The choice shows in what it costs, not in what is told.

use std::collections::BTreeSet;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::registry::scope::Scope;
use crate::store::{Error, Store};

use super::Touched;
use super::few::{Few, MAX_UNITS};
use super::shared::{Shared, Watcher};

/// Some units, followed.
#[derive(Debug)]
pub struct UnitWatch<S> {
    shared: Shared<S>,
    scope: Scope,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Few(Box<Few>),
    /// The picture is to be shared from the next change on.
    Joining,
    Shared(Watcher),
}

impl<S: Store> UnitWatch<S> {
    /// Follow the units of `scope`. Up to [`MAX_UNITS`] that are named, and run on one host at a time, cost no more
    /// than what happens to them; anything else is seen in the picture that is `shared`.
    #[must_use]
    pub fn new(shared: &Shared<S>, scope: Scope) -> Self {
        let source = match scope.names(MAX_UNITS) {
            Some(names) => Source::Few(Box::new(Few::new(names, None))),
            None => Source::Joining,
        };
        Self { shared: shared.clone(), scope, source }
    }

    /// Follow the units `names` as `host` has them: its assignments and its reports, and no other host's. Of the rest
    /// of the cluster nothing is heard. They are at least one, and should be at most [`MAX_UNITS`].
    #[must_use]
    pub fn on(shared: &Shared<S>, names: BTreeSet<UnitName>, host: MachineId) -> Self {
        let scope = Scope::named(&names);
        Self { shared: shared.clone(), scope, source: Source::Few(Box::new(Few::new(names, Some(host)))) }
    }

    /// What it is about.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Look at the cluster, as far as these units go: it is at least as new as the last [`UnitWatch::next`], and it
    /// holds no files. Others may wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Cluster) -> T) -> T {
        match &self.source {
            Source::Few(few) => look(few.cluster()),
            Source::Shared(watcher) => watcher.read(look),
            Source::Joining => look(&Cluster::default()),
        }
    }

    /// The next change. The first one is [`Touched::All`], and so is the one after a gap. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`]: make a new one.
    pub async fn next(&mut self) -> Result<Touched, Error> {
        loop {
            match &mut self.source {
                Source::Shared(watcher) => return watcher.next().await,
                Source::Few(few) => match few.next(self.shared.reader()).await? {
                    Some(touched) => return Ok(touched),
                    None => self.source = Source::Joining,
                },
                Source::Joining => self.source = Source::Shared(self.shared.watch(self.scope.clone()).await?),
            }
        }
    }
}
