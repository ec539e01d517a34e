//! `/fleet/v2/plan`, `/fleet/v2/moves`, `/fleet/v2/rebalance`, `/fleet/v2/explain` and `/fleet/v2/what-if` as typed
//! calls.

use hyper::Method;

use super::batch::json;
use super::{Client, ClientError, encode};
use crate::api::wire::{
    ApplyUnit, AskHosts, Explanations, MoveUnits, MovesView, Plan, PlanAsk, PlanRequest, RebalanceView, WhatIf,
    WhatIfRequest,
};
use crate::model::name::UnitName;
use crate::model::rollout::Request;

/// The answer of a `fleetd` that knows no plans.
const UNKNOWN: u16 = 404;

impl Client {
    /// What a batch would lead to; nothing is changed. `None` from a `fleetd` that knows no plans: it has no such path,
    /// and does nothing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn plan(&self, units: &[ApplyUnit]) -> Result<Option<Plan>, ClientError> {
        self.planned(&PlanRequest { units: Some(units.to_vec()), ..PlanRequest::default() }).await
    }

    /// What it would lead to to ask `ask` of the rollout `name`; nothing is asked. `None` from a `fleetd` that knows no
    /// plans.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 409 if this can't be asked now.
    pub async fn plan_ask(&self, name: &UnitName, ask: Request) -> Result<Option<Plan>, ClientError> {
        self.planned(&PlanRequest { asks: Some(vec![PlanAsk { name: name.clone(), ask }]), ..PlanRequest::default() })
            .await
    }

    /// What it would lead to to ask something of hosts; nothing is asked. `None` from a `fleetd` that knows no plans.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 400 from a `fleetd` that knows no such plans.
    pub async fn plan_hosts(&self, ask: &AskHosts) -> Result<Option<Plan>, ClientError> {
        self.planned(&PlanRequest { hosts: Some(ask.clone()), ..PlanRequest::default() }).await
    }

    /// What it would lead to to ask units to move; nothing is asked. `None` from a `fleetd` that knows no plans.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 400 if they can't move, and from a `fleetd` that knows no
    /// moves.
    pub async fn plan_moves(&self, ask: &MoveUnits) -> Result<Option<Plan>, ClientError> {
        self.planned(&PlanRequest { moves: Some(ask.clone()), ..PlanRequest::default() }).await
    }

    /// Ask units to move.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 400 if they can't, 404 from a `fleetd` that knows no moves.
    /// After [`ClientError::Unreachable`] it may have been done nevertheless.
    pub async fn move_units(&self, ask: &MoveUnits) -> Result<MovesView, ClientError> {
        self.call(&Method::POST, "/fleet/v2/moves", json(ask)?.into(), self.patience).await
    }

    /// What becomes of the units that are to move.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn moves(&self) -> Result<MovesView, ClientError> {
        self.get("/fleet/v2/moves").await
    }

    /// Which units would be better on other hosts, of those that match one of `patterns`, or of all; the first
    /// `max_moves` of these moves.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 from a `fleetd` that doesn't know it.
    pub async fn rebalance(&self, patterns: &[String], max_moves: u32) -> Result<RebalanceView, ClientError> {
        let names: String = patterns.iter().map(|pattern| format!("&name={}", encode(pattern))).collect();
        self.get(&format!("/fleet/v2/rebalance?max_moves={max_moves}{names}")).await
    }

    /// Why the units that match one of `patterns` wait, or are where they are.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 from a `fleetd` that doesn't know it.
    pub async fn explain(&self, patterns: &[String]) -> Result<Explanations, ClientError> {
        let names: Vec<String> = patterns.iter().map(|pattern| format!("name={}", encode(pattern))).collect();
        self.get(&format!("/fleet/v2/explain?{}", names.join("&"))).await
    }

    /// Where units would be if hosts were lost or added, or units started; nothing is changed.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Api`] with code 404 from a `fleetd` that doesn't know it.
    pub async fn what_if(&self, supposed: &WhatIfRequest) -> Result<WhatIf, ClientError> {
        self.call(&Method::POST, "/fleet/v2/what-if", json(supposed)?.into(), self.patience).await
    }

    async fn planned(&self, request: &PlanRequest) -> Result<Option<Plan>, ClientError> {
        let body = json(request)?;
        match self.call(&Method::POST, "/fleet/v2/plan", body.into(), self.patience).await {
            Err(ClientError::Api(detail)) if detail.code == UNKNOWN => Ok(None),
            answer => answer.map(Some),
        }
    }
}
