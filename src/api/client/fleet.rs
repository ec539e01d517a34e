//! v1 as CoreOS fleet's daemons speak it, for migration: everything they list, page by page. Owns the paging; evaluates
//! nothing.

use std::collections::BTreeSet;

use super::{Client, ClientError, Endpoint, encode};
use crate::api::wire::v1::{Machine, Machines, State, States, Unit, Units};

/// Everything that a fleet lists through its API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// All units.
    pub units: Vec<Unit>,
    /// The states that its hosts report, including those of units that it doesn't list.
    pub states: Vec<State>,
    /// Its hosts.
    pub machines: Vec<Machine>,
}

impl Client {
    /// A client of another cluster, with the same timeouts and reached in the same way; `None` if one of `endpoints` is
    /// this cluster's.
    #[must_use]
    pub fn elsewhere(&self, endpoints: Vec<Endpoint>) -> Option<Self> {
        let shared = endpoints.iter().any(|endpoint| self.endpoints.contains(endpoint));
        let (tls, dial) = (self.tls.clone(), self.dial.clone());
        (!shared).then(|| Self { tls, dial, ..Self::new(endpoints, self.patience) })
    }

    /// Everything that v1 lists.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn fleet(&self) -> Result<Fleet, ClientError> {
        Ok(Fleet {
            units: self.pages("/fleet/v1/units", |page: Units| (page.units, page.next_page_token)).await?,
            states: self.pages("/fleet/v1/state", |page: States| (page.states, page.next_page_token)).await?,
            machines: self.pages("/fleet/v1/machines", |page: Machines| (page.machines, page.next_page_token)).await?,
        })
    }

    /// All pages of a list. fleet's last full page points to an empty one.
    async fn pages<P: serde::de::DeserializeOwned, T>(
        &self,
        path: &str,
        cut: impl Fn(P) -> (Vec<T>, Option<String>),
    ) -> Result<Vec<T>, ClientError> {
        let (mut all, mut seen, mut next) = (Vec::new(), BTreeSet::new(), None::<String>);
        loop {
            let page = match &next {
                None => self.get(path).await?,
                Some(token) => self.get(&format!("{path}?nextPageToken={}", encode(token))).await?,
            };
            let (mut items, token) = cut(page);
            all.append(&mut items);
            let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(all) };
            if !seen.insert(token.clone()) {
                return Err(ClientError::Protocol(format!("the pages of {path} go round in circles at {token}")));
            }
            next = Some(token);
        }
    }
}
