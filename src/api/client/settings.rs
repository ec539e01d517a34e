//! The settings of the whole cluster, what units take of its hosts, and the members of its store.

use hyper::Method;

use super::batch::json;
use super::{Client, ClientError};
use crate::api::wire::{ChangeSettings, ResourceList, SettingList, StoreView};

/// Where they are.
const PATH: &str = "/fleet/v2/settings";

impl Client {
    /// All settings.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 from a `fleetd` that has none yet.
    pub async fn settings(&self) -> Result<SettingList, ClientError> {
        self.get(PATH).await
    }

    /// How much memory and CPU units take of each host.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 from a `fleetd` that doesn't count that yet.
    pub async fn resources(&self) -> Result<ResourceList, ClientError> {
        self.get("/fleet/v2/resources").await
    }

    /// The members of the store, as the host that answers reaches them.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 from a `fleetd` that doesn't tell yet.
    pub async fn store(&self) -> Result<StoreView, ClientError> {
        self.get("/fleet/v2/store").await
    }

    /// Change some: all or none.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 400 if there is no such setting, or it can't be that.
    pub async fn change_settings(&self, change: &ChangeSettings) -> Result<SettingList, ClientError> {
        self.call(&Method::POST, PATH, json(change)?.into(), self.patience).await
    }
}
