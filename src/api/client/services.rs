//! `/fleet/v2/services` as typed calls.

use hyper::Method;
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::batch::json;
use super::{Client, ClientError, Follow, For, encode, with_names};
use crate::api::wire::services::{Announce, Announced, InstanceRef, KeepAlive, ServiceLine, ServiceList, ServiceView};
use crate::model::service::ServiceName;

/// Who withdraws an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// The holder of this lease.
    Lease(&'a str),
    /// The owner, which didn't receive the answer.
    Owner(&'a str),
}

impl Client {
    /// All services, or those that match one of `patterns`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn services(&self, patterns: &[String]) -> Result<ServiceList, ClientError> {
        self.get(&with_names("/fleet/v2/services", patterns)).await
    }

    /// One service.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 when none of its instances is announced.
    pub async fn service(&self, name: &ServiceName) -> Result<ServiceView, ClientError> {
        self.get(&format!("/fleet/v2/services/{}", encode(name.as_str()))).await
    }

    /// Follow the services that match one of `patterns`, or all.
    #[must_use]
    pub fn follow_services(&self, patterns: &[String], whom: For) -> Follow<'_, ServiceLine> {
        Follow::new(self, with_names("/fleet/v2/watch/services", patterns), whom)
    }

    /// Announce an instance, or continue its announcement.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 409 if another announcer has it. After
    /// [`ClientError::Unreachable`] it may have been done nevertheless.
    pub async fn announce(&self, instance: &InstanceRef, announce: &Announce) -> Result<Announced, ClientError> {
        self.send_to(&Method::PUT, &path(instance), announce).await
    }

    /// Renew an announcement.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 if it has expired.
    pub async fn keep_alive(&self, instance: &InstanceRef, lease: &str) -> Result<Announced, ClientError> {
        let path = format!("{}/keep-alive", path(instance));
        self.send_to(&Method::POST, &path, &KeepAlive { lease: lease.into() }).await
    }

    /// Withdraw an announcement that `by` has made.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 if it has expired already, 409 if another announcer has
    /// it now.
    pub async fn withdraw(&self, instance: &InstanceRef, by: By<'_>) -> Result<(), ClientError> {
        let (key, value) = match by {
            By::Lease(lease) => ("lease", lease),
            By::Owner(owner) => ("owner", owner),
        };
        let path = format!("{}?{key}={}", path(instance), encode(value));
        self.call_for_bytes(&Method::DELETE, &path, Bytes::new(), self.patience).await.map(drop)
    }

    async fn send_to<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.call(method, path, json(body)?.into(), self.patience).await
    }
}

fn path(InstanceRef { service, instance }: &InstanceRef) -> String {
    format!("/fleet/v2/services/{}/{}", encode(service.as_str()), encode(instance.as_str()))
}
