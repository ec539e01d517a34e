//! `/fleet/v2/rollouts` as typed calls.

use hyper::Method;

use super::batch::json;
use super::{Client, ClientError, Follow, For, encode, with_names};
use crate::api::wire::{AskRollout, RolloutLine, RolloutList};
use crate::model::name::UnitName;
use crate::model::rollout::Request;

impl Client {
    /// The last rollout of each set and unit, or of those that match one of `patterns`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rollouts(&self, patterns: &[String]) -> Result<RolloutList, ClientError> {
        self.get(&with_names("/fleet/v2/rollouts", patterns)).await
    }

    /// Rollouts as they change: all, or those that match one of `patterns`.
    #[must_use]
    pub fn follow_rollouts(&self, patterns: &[String], whom: For) -> Follow<'_, RolloutLine> {
        Follow::new(self, with_names("/fleet/v2/watch/rollouts", patterns), whom)
    }

    /// Ask something of a rollout. The leader acts on it after the answer.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 if there is no such unit, 409 if this can't be asked
    /// now. After [`ClientError::Unreachable`] it may have been done nevertheless.
    pub async fn ask(&self, name: &UnitName, ask: Request) -> Result<(), ClientError> {
        let body = json(&AskRollout { ask })?;
        self.call_for_bytes(&Method::POST, &path(name), body.into(), self.patience).await.map(drop)
    }
}

fn path(name: &UnitName) -> String {
    format!("/fleet/v2/rollouts/{}", encode(name.as_str()))
}
