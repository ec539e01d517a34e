//! `/fleet/v2/plan` as a typed call.

use hyper::Method;

use super::batch::json;
use super::{Client, ClientError};
use crate::api::wire::{ApplyUnit, Plan};

/// The answer of a `fleetd` that knows no plans.
const UNKNOWN: u16 = 404;

impl Client {
    /// What a batch would lead to; nothing is changed. `None` from a `fleetd` that knows no plans: it has no such path,
    /// and does nothing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn plan(&self, units: &[ApplyUnit]) -> Result<Option<Plan>, ClientError> {
        let body = json(&serde_json::json!({ "units": units }))?;
        match self.call(&Method::POST, "/fleet/v2/plan", body.into(), self.patience).await {
            Err(ClientError::Api(detail)) if detail.code == UNKNOWN => Ok(None),
            answer => answer.map(Some),
        }
    }
}
