//! Follows units for a watcher. Owns the choice of how: a few units by their own keys, anything else through the shared
//! copy of the cluster. The choice affects the cost, not what is delivered.

use std::collections::BTreeSet;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitName};
use crate::registry::scope::Scope;
use crate::store::{Error, Store};

use super::Touched;
use super::few::{Few, MAX_UNITS};
use super::shared::{Shared, Watcher};

/// Units that are followed.
#[derive(Debug)]
pub struct UnitWatch<S> {
    shared: Shared<S>,
    scope: Scope,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Few(Box<Few>),
    /// The shared copy is used from the next change on.
    Joining,
    Shared(Watcher),
}

impl<S: Store> UnitWatch<S> {
    /// Follow the units of `scope`. Up to [`MAX_UNITS`] units that are named and run on one host at a time cost no more
    /// than their own changes; anything else uses the copy `shared`.
    #[must_use]
    pub fn new(shared: &Shared<S>, scope: Scope) -> Self {
        let source = match scope.names(MAX_UNITS) {
            Some(names) => Source::Few(Box::new(Few::new(names, None))),
            None => Source::Joining,
        };
        Self { shared: shared.clone(), scope, source }
    }

    /// Follow the units of `scope` through the copy `shared`, which has all rollouts, too.
    #[must_use]
    pub fn shared(shared: &Shared<S>, scope: Scope) -> Self {
        Self { shared: shared.clone(), scope, source: Source::Joining }
    }

    /// Follow the units `names` on `host`: its assignments and its reports, and nothing of the rest of the cluster.
    /// There must be at least one, and should be at most [`MAX_UNITS`].
    #[must_use]
    pub fn on(shared: &Shared<S>, names: BTreeSet<UnitName>, host: MachineId) -> Self {
        let scope = Scope::named(&names);
        Self { shared: shared.clone(), scope, source: Source::Few(Box::new(Few::new(names, Some(host)))) }
    }

    /// The units that it is about.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The cluster, as far as these units are concerned: at least as new as the last [`UnitWatch::next`], and without
    /// files. Others may have to wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Cluster) -> T) -> T {
        match &self.source {
            Source::Few(few) => look(few.cluster()),
            Source::Shared(watcher) => watcher.read(look),
            Source::Joining => look(&Cluster::default()),
        }
    }

    /// The next change. The first one is [`Touched::All`], and so is the first after a gap. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`]: create a new one.
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
