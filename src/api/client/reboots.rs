//! `/fleet/v2/reboots` as typed calls.

use hyper::Method;
use hyper::body::Bytes;

use super::batch::json;
use super::{Client, ClientError, encode};
use crate::api::wire::{AskReboots, AskedReboots, RebootList};
use crate::model::name::MachineId;

impl Client {
    /// The hosts that are to reboot.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 from a `fleetd` that doesn't know this question yet.
    pub async fn reboots(&self) -> Result<RebootList, ClientError> {
        self.get("/fleet/v2/reboots").await
    }

    /// Ask hosts to reboot, one after the other; all or none. They act on it after the answer.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 409 if a host isn't registered. After
    /// [`ClientError::Unreachable`] it may have been done nevertheless.
    pub async fn ask_reboots(&self, ask: &AskReboots) -> Result<AskedReboots, ClientError> {
        self.call(&Method::POST, "/fleet/v2/reboots", json(ask)?.into(), self.patience).await
    }

    /// A host is to reboot no longer. `false` if it wasn't.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cancel_reboot(&self, host: &MachineId) -> Result<bool, ClientError> {
        let path = format!("/fleet/v2/reboots/{}", encode(host.as_str()));
        match self.call_for_bytes(&Method::DELETE, &path, Bytes::new(), self.patience).await {
            Ok(_) => Ok(true),
            Err(ClientError::Api(detail)) if detail.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}
