//! Following the store: what changed, one consistent picture after the other. [`cluster`] follows everything that units
//! are and do; [`few`] follows some units on one host, at those units' cost.

pub mod cluster;
pub mod few;

use crate::store::Event;

fn event_key(event: &Event) -> &str {
    match event {
        Event::Put(kv) => &kv.key,
        Event::Delete(key) => key,
    }
}
