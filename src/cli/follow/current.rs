//! The units that a watch is about, as they are now. Owns what is known between two lines of the stream; the meaning of
//! a change is up to its user.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::client::{ClientError, Follow, For, News};
use crate::api::wire::{UnitView, WatchLine};
use crate::cli::session::Session;
use crate::model::name::UnitName;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Changed {
    /// Everything was received, for the first time or after a gap.
    All,
    /// This unit, which may no longer exist.
    Unit(UnitName),
}

/// The current units.
pub(in crate::cli) struct Current<'a> {
    session: &'a Session,
    watch: Follow<'a, WatchLine>,
    known: Known,
}

impl<'a> Current<'a> {
    /// Follow the units that match one of `patterns`, or all.
    pub(in crate::cli) fn follow(session: &'a Session, patterns: &[String]) -> Self {
        let watch = session.client.follow(patterns, None, For::APerson);
        Self { session, watch, known: Known::default() }
    }

    /// The units, by name. None of them is known before the first change.
    pub(in crate::cli) fn units(&self) -> &BTreeMap<UnitName, UnitView> {
        &self.known.units
    }

    /// The next change. While `fleetd` can't be reached, there is none, and a message says so. Cancel-safe.
    ///
    /// # Errors
    /// A refusal, or an answer that can't be decoded. An unreachable fleetd is waited for.
    pub(in crate::cli) async fn next(&mut self) -> Result<Changed, ClientError> {
        loop {
            match self.watch.next().await? {
                News::Begun => self.known.begin(),
                News::Line(line) => {
                    if let Some(changed) = self.known.take(line) {
                        return Ok(changed);
                    }
                }
                News::Broken => {}
                outage @ (News::Lost(_) | News::Back) => report(self.session, &outage),
            }
        }
    }
}

/// Say that `fleetd` is unreachable, or reachable again.
pub(in crate::cli) fn report<L>(session: &Session, news: &News<L>) {
    match news {
        News::Lost(error) => session.out.message(&format!("{error}; trying again")),
        News::Back => session.out.message("fleetd is back"),
        News::Begun | News::Line(_) | News::Broken => {}
    }
}

#[derive(Debug, Default)]
struct Known {
    units: BTreeMap<UnitName, UnitView>,
    /// The units that the stream has named so far.
    named: BTreeSet<UnitName>,
    /// Whether the stream has sent everything.
    complete: bool,
}

impl Known {
    /// A new stream sends everything again.
    fn begin(&mut self) {
        self.named.clear();
        self.complete = false;
    }

    fn take(&mut self, line: WatchLine) -> Option<Changed> {
        let name = match line {
            WatchLine::Unit(unit) => {
                let name = unit.name.clone();
                // The unit is shown as the cluster has it.
                self.units.insert(name.clone(), UnitView { progress: None, ..*unit });
                name
            }
            WatchLine::Leaving(name) | WatchLine::Removed(name) => {
                self.units.remove(&name);
                name
            }
            WatchLine::Synced(_) => {
                // What was not named no longer exists. After a gap within a stream, ends are sent one by one.
                if !std::mem::replace(&mut self.complete, true) {
                    let named = std::mem::take(&mut self.named);
                    self.units.retain(|name, _| named.contains(name));
                }
                return Some(Changed::All);
            }
            WatchLine::Error(_) => return None,
        };
        if self.complete {
            return Some(Changed::Unit(name));
        }
        self.named.insert(name);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::condition::tests::unit;
    use crate::model::revision::Revision;
    use crate::model::unit::Desired;

    #[test]
    fn what_a_new_stream_does_not_name_no_longer_exists() {
        let there = |name: &str| WatchLine::Unit(Box::new(unit(name, Desired::Launched, &["n1 active running"])));
        let name = |name: &str| -> UnitName { name.parse().unwrap() };
        let synced = || WatchLine::Synced(Revision(7));
        let mut known = Known::default();
        let names = |known: &Known| known.units.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(known.take(there("a.service")), None, "it isn't everything yet");
        assert_eq!(known.take(there("b.service")), None);
        assert_eq!(known.take(synced()), Some(Changed::All));
        assert_eq!(known.take(there("c.service")), Some(Changed::Unit(name("c.service"))));
        assert_eq!(known.take(WatchLine::Leaving(name("b.service"))), Some(Changed::Unit(name("b.service"))));
        assert_eq!((known.take(synced()), names(&known).as_str()), (Some(Changed::All), "a.service c.service"));
        known.begin();
        assert_eq!((known.take(there("c.service")), names(&known).as_str()), (None, "a.service c.service"));
        assert_eq!((known.take(synced()), names(&known).as_str()), (Some(Changed::All), "c.service"));
    }
}
