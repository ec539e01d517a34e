//! v2: services as they change, one JSON object per line. Owns what is sent when: every instance, `synced`, then
//! changes; after a gap in the store's history only the differences, and `synced` again.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::server::v2::lines::{self, End, Lines, Story, line};
use crate::api::wire::services::{InstanceRef, InstanceView, ServiceLine};
use crate::model::revision::Revision;
use crate::model::service::{Instance, InstanceName, ServiceName};
use crate::registry::mirror::{Mirror, Update};
use crate::registry::reader::Reader;
use crate::registry::services::{self, Instances};
use crate::store::{Error, Store};

use super::Wanted;

pub(in crate::api::server::v2) async fn get<S: Store>(
    State(api): State<Api<S>>,
    uri: Uri,
) -> Result<Response, Failure> {
    let wanted = Wanted::of(&uri)?;
    let prefix = services::prefix(wanted.one().as_ref());
    let mirror = Mirror::new(api.reader.store().clone(), &prefix);
    lines::answer(&api, Services { reader: api.reader.clone(), wanted, mirror, sent: BTreeMap::new() }).await
}

struct Services<S: Store> {
    reader: Reader<S>,
    wanted: Wanted,
    mirror: Mirror<S>,
    sent: Instances,
}

impl<S: Store> Story for Services<S> {
    type Update = Update;
    type Line = ServiceLine;

    async fn next(&mut self) -> Result<Update, Error> {
        self.mirror.next().await
    }

    async fn tell(&mut self, update: Update, lines: &mut Lines) -> Result<(), End> {
        match update {
            Update::Reset { at, kvs } => {
                let there: Instances = kvs.iter().filter_map(|kv| services::instance(&self.reader, kv)).collect();
                self.replace(there, at.revision, lines).await?;
            }
            Update::Batch(batch) => {
                for event in &batch.events {
                    if let Some((name, instance)) = services::change(&self.reader, event) {
                        self.tell_one(name, instance, lines);
                        lines.flush_if_full().await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn error(message: String) -> ServiceLine {
        ServiceLine::Error(message)
    }
}

impl<S: Store> Services<S> {
    async fn replace(&mut self, there: Instances, revision: Revision, lines: &mut Lines) -> Result<(), End> {
        let gone: Vec<_> = self.sent.keys().filter(|name| !there.contains_key(name)).cloned().collect();
        for name in gone {
            self.tell_one(name, None, lines);
        }
        for (name, instance) in there {
            self.tell_one(name, Some(instance), lines);
            lines.flush_if_full().await?;
        }
        lines.push(&line(&ServiceLine::Synced(revision)));
        Ok(())
    }

    fn tell_one(&mut self, name: (ServiceName, InstanceName), instance: Option<Instance>, lines: &mut Lines) {
        if !self.wanted.has(&name.0) || self.sent.get(&name) == instance.as_ref() {
            return;
        }
        let (service, named) = name.clone();
        let said = match instance {
            Some(is) => {
                self.sent.insert(name, is.clone());
                ServiceLine::Instance(Box::new(InstanceView { service, instance: named, is }))
            }
            None => {
                self.sent.remove(&name);
                ServiceLine::Gone(InstanceRef { service, instance: named })
            }
        };
        lines.push(&line(&said));
    }
}
