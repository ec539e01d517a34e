//! The format in which this host writes its reports. The leader publishes it with its key: the lowest format of all
//! registered hosts. Owns when it changes; what a format is, is `model::format`'s to say.

use crate::plan::host::Input;
use crate::registry::keys::Key;
use crate::registry::mirror::Update;
use crate::registry::records::leader::LeaderRecord;
use crate::registry::{decode, point};
use crate::store::{Error, Event, Kv, Store};
use crate::systemd::Systemd;

use super::Agent;
use super::publish::OtherKeys;

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Read the format before anything is reported, so that a restarted daemon doesn't change the form of its reports
    /// back and forth.
    pub(super) async fn read_format(&mut self) -> Result<(), Error> {
        let (_, leader) = point(&self.store, &Key::Leader.to_string(), None).await?;
        self.set_format(leader.as_ref());
        Ok(())
    }

    /// Apply a change of the leader's key. Returns whether there is anything to report because of it.
    pub(super) fn follow_format(&mut self, update: Update) -> bool {
        let key = Key::Leader.to_string();
        let leader = match update {
            Update::Reset { kvs, .. } => kvs.into_iter().find(|kv| kv.key == key),
            Update::Batch(batch) => batch.events.into_iter().rev().find_map(|event| match event {
                Event::Put(kv) if kv.key == key => Some(kv),
                _ => None,
            }),
        };
        let before = self.format;
        self.set_format(leader.as_ref());
        if before != self.format {
            tracing::info!(%before, now = %self.format, "the cluster has changed the format of the store");
        }
        before != self.format
    }

    /// While there is no leader the format stays as it is. A daemon that is older than the leader's format writes its
    /// own newest one, until the leader has seen it.
    fn set_format(&mut self, leader: Option<&Kv>) {
        let Some(leader) = leader.and_then(|kv| decode::<LeaderRecord>(kv).ok()) else { return };
        let before = std::mem::replace(&mut self.format, leader.format.min(self.options.machine.format));
        if before != self.format {
            self.other_keys = OtherKeys::unknown();
            self.apply(Input::FormatChanged);
        }
    }
}
