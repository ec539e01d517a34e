//! Decodes the host's assignments. A record that can't be decoded is logged once, here, and passed on as
//! [`Unreadable`].

use std::collections::BTreeMap;

use crate::model::name::UnitName;
use crate::plan::host::{Assigned, Assignments, Input, Unreadable};
use crate::registry::damage::Damage;
use crate::registry::decode;
use crate::registry::keys::Key;
use crate::registry::mirror::Update;
use crate::store::{Event, Kv};

/// Decode an update from the mirror of this host's assignments.
pub(super) fn read(update: Update, damage: &mut Damage) -> Input {
    Input::Assignments(match update {
        Update::Reset { at, kvs } => {
            let assigned = |kv: &Kv| Some((name(&kv.key, damage)?, assigned(kv, damage)));
            Assignments::All(at, kvs.iter().filter_map(assigned).collect::<BTreeMap<_, _>>())
        }
        Update::Batch(batch) => {
            let change = |event: &Event| match event {
                Event::Put(kv) => Some((name(&kv.key, damage)?, Some(assigned(kv, damage)))),
                Event::Delete(key) => Some((name(key, damage)?, None)),
            };
            Assignments::Changed(batch.revision, batch.events.iter().filter_map(change).collect())
        }
    })
}

fn name(key: &str, damage: &mut Damage) -> Option<UnitName> {
    match Key::parse(key) {
        Ok(Key::Schedule(_, name)) => Some(name),
        Ok(_) => None,
        Err(corrupt) => {
            damage.warn(&corrupt);
            None
        }
    }
}

fn assigned(kv: &Kv, damage: &mut Damage) -> Assigned {
    decode(kv).map_err(|corrupt| {
        damage.warn(&format_args!("{corrupt}; the unit stays as it is"));
        Unreadable
    })
}
