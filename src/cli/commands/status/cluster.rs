//! `fleetctl status` without a unit: the cluster on one screen. Owns which form is printed; what is shown is
//! `overview`'s.

use crate::api::client::ClientError;
use crate::cli::error::{Error, Exit, Line};
use crate::cli::output::fitted::render;
use crate::cli::session::Session;
use crate::clock::Clock;
use crate::journal::Output as _;

use crate::cli::commands::overview::Overview;

/// Run the command.
pub(super) async fn run(session: &Session) -> Result<Exit, Error> {
    let cluster = session.known_cluster().await.map_err(|error| match error {
        ClientError::Api(detail) if detail.code == 404 => {
            Error::failure("this fleetd has an older version and can't show the whole cluster: `fleetctl list-units`")
        }
        error => error.into(),
    })?;
    let now = Clock::system().now_ms();
    let overview = Overview::of(cluster, now);
    let out = &session.out;
    if session.is_json() {
        out.json(&overview);
    } else if out.is_seen() {
        let (width, colours) = (out.width(), out.has_colours());
        out.data(&render(&[], &overview.head(now), width, colours));
        out.data(&render(&[], &overview.rows(now), width, colours));
        if !overview.healthy {
            out.messages([Line::hint("`fleetctl status UNIT` and `fleetctl journal UNIT` show more of a unit")]);
        }
    } else {
        overview.lines().iter().for_each(|line| out.line(line));
    }
    Ok(match session.offline.get() {
        Some(_) => Exit::Failure,
        None if overview.healthy => Exit::Ok,
        None => Exit::Findings,
    })
}
