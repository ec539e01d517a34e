//! Questions to one `fleetd` that it answers without the store, from what it knows by itself. Owns the parameter that
//! asks for it.

use super::{Client, ClientError, encode, with_names};
use crate::api::wire::{ClusterView, MachineList, UnitDetail, UnitList};
use crate::model::name::UnitName;

const OFFLINE: &str = "offline=true";

impl Client {
    /// As [`Client::units`], as far as the `fleetd` that answers knows.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] from a `fleetd` of an earlier version.
    pub async fn units_offline(&self, patterns: &[String]) -> Result<UnitList, ClientError> {
        let path = with_names("/fleet/v2/units", patterns);
        let separator = if path.contains('?') { '&' } else { '?' };
        self.get(&format!("{path}{separator}{OFFLINE}")).await
    }

    /// As [`Client::unit`], with the file as it is installed on the host whose `fleetd` answers.
    ///
    /// # Errors
    /// As [`Client::units_offline`]; [`ClientError::Api`] with code 404 when the host doesn't have the unit.
    pub async fn unit_offline(&self, name: &UnitName) -> Result<UnitDetail, ClientError> {
        self.get(&format!("/fleet/v2/units/{}?{OFFLINE}", encode(name.as_str()))).await
    }

    /// As [`Client::machines`], as far as the `fleetd` that answers knows.
    ///
    /// # Errors
    /// As [`Client::units_offline`].
    pub async fn machines_offline(&self) -> Result<MachineList, ClientError> {
        self.get(&format!("/fleet/v2/machines?{OFFLINE}")).await
    }

    /// As [`Client::status`], as far as the `fleetd` that answers knows.
    ///
    /// # Errors
    /// As [`Client::units_offline`].
    pub async fn status_offline(&self) -> Result<ClusterView, ClientError> {
        self.get(&format!("/fleet/v2/status?{OFFLINE}")).await
    }
}
