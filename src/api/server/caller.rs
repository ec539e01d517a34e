//! Who asks, over which socket, and whether that socket permits it. Owns the text of the refusal, which says which role
//! is missing and which socket has it. `model::role` has the table; every route declares its operation
//! (`extract::allow_methods`).

use std::sync::Arc;

use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;
use axum::routing::MethodRouter;

use crate::model::name::UnitName;
use crate::model::role::{Grant, Operation, listed};
use crate::registry::units::{Intent, UnitChange};

use super::error::Failure;
use super::peer::Peer;

/// What the sockets of this daemon grant, by their addresses.
#[derive(Debug)]
pub(super) struct Sockets(Vec<(String, Grant)>);

impl Sockets {
    pub(super) fn new(sockets: impl IntoIterator<Item = (String, Grant)>) -> Arc<Self> {
        Arc::new(Self(sockets.into_iter().collect()))
    }

    /// `; on this host, /run/fleet.sock has the role admin`
    fn that_permit(&self, operation: Operation) -> String {
        let permits = self.0.iter().filter(|(_, grant)| grant.permits(operation));
        let sockets: Vec<String> = permits.map(|(name, grant)| format!("{name} has the role {grant}")).collect();
        match sockets.len() {
            0 => "; no socket of this fleetd has it (see `listen` in fleet.conf(5))".into(),
            _ => format!("; on this host, {}", listed(sockets.iter().map(String::as_str))),
        }
    }
}

/// The client of one connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) peer: Peer,
    sockets: Arc<Sockets>,
    /// The socket of the connection.
    socket: usize,
}

impl Caller {
    /// The client `peer` of the socket with this index.
    pub(super) fn new(peer: Peer, sockets: &Arc<Sockets>, socket: usize) -> Self {
        Self { peer, sockets: Arc::clone(sockets), socket }
    }

    /// What the socket grants.
    pub(super) fn grant(&self) -> &Grant {
        &self.sockets.0[self.socket].1
    }

    /// The address of the socket.
    pub(super) fn socket(&self) -> &str {
        &self.sockets.0[self.socket].0
    }

    /// Which sockets of this host permit everything, for a refusal.
    pub(super) fn elsewhere(&self) -> String {
        self.sockets.that_permit(Operation::Administer)
    }

    /// Refuse `operation` unless the socket permits it.
    ///
    /// # Errors
    /// 403.
    pub(super) fn check(&self, operation: Operation) -> Result<(), Failure> {
        let (name, grant) = (self.socket(), self.grant());
        if grant.permits(operation) {
            return Ok(());
        }
        let roles: Vec<String> = operation.roles().iter().map(ToString::to_string).collect();
        let roles = roles.join(" or ");
        let elsewhere = self.sockets.that_permit(operation);
        Err(refused(format!("{operation} needs the role {roles}, and {name} has the role {grant}{elsewhere}")))
    }

    /// Refuse changes of units that the socket doesn't permit.
    ///
    /// # Errors
    /// 403 for the first one.
    pub(super) fn check_changes(&self, intents: &[Intent]) -> Result<(), Failure> {
        for Intent { name: unit, change } in intents {
            self.check(match change {
                UnitChange::Destroy | UnitChange::Ensure { file: Some(_), .. } => Operation::Submit,
                // Members are created and destroyed.
                UnitChange::Ensure { replicas: Some(_), .. } => Operation::Submit,
                UnitChange::Restart | UnitChange::Ensure { file: None, .. } => Operation::Operate,
            })?;
            self.check_name(unit)?;
        }
        Ok(())
    }

    /// Refuse a unit that the socket doesn't include.
    ///
    /// # Errors
    /// 403.
    pub(super) fn check_name(&self, unit: &UnitName) -> Result<(), Failure> {
        let (name, grant) = (self.socket(), self.grant());
        if grant.includes(unit.as_str()) {
            return Ok(());
        }
        Err(refused(format!("{unit}: {name} has the role {grant}, which doesn't include this unit")))
    }
}

pub(super) fn refused(message: String) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, message)
}

/// `methods`, for those whose socket permits `operation`.
pub(super) fn only_for<S: Clone + Send + Sync + 'static>(
    operation: Operation,
    methods: MethodRouter<S>,
) -> MethodRouter<S> {
    methods.layer(middleware::from_fn(
        move |Extension(caller): Extension<Caller>, request: Request, next: Next| async move {
            match caller.check(operation) {
                Ok(()) => next.run(request).await,
                Err(refusal) => refusal.into_response(),
            }
        },
    ))
}
