//! The metadata that requests give to hosts. The changes are v1's, so every daemon knows them.

use hyper::Method;
use hyper::body::Bytes;

use super::batch::json;
use super::{Client, ClientError, encode};
use crate::api::wire::v1::MetadataChange;
use crate::model::name::MachineId;

impl Client {
    /// Change the metadata of hosts: all of it, or none.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 400 if a change isn't possible.
    pub async fn change_metadata(&self, changes: &[MetadataChange]) -> Result<(), ClientError> {
        let body = json(&changes)?.into();
        self.call_for_bytes(&Method::PATCH, "/fleet/v1/machines", body, self.patience).await.map(drop)
    }

    /// Delete all metadata that requests have given to `host`. `false` if there were none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn forget_metadata(&self, host: &MachineId) -> Result<bool, ClientError> {
        let path = format!("/fleet/v2/machines/{}/metadata", encode(host.as_str()));
        match self.call_for_bytes(&Method::DELETE, &path, Bytes::new(), self.patience).await {
            Ok(_) => Ok(true),
            Err(ClientError::Api(detail)) if detail.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}
