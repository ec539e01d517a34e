//! cat, version, and what is made of the command line's own definitions: completions and manual pages.

use clap_complete::Shell;

use super::args::{self, Cat};
use super::error::{Error, Exit};
use super::names;
use super::output::Output;
use super::session::Session;
use crate::api::client::ClientError;

/// `cat`: the file as it was submitted, comments and all. (CoreOS fleet had forgotten them, and printed its canonical text.)
pub(super) async fn cat(session: &Session, args: &Cat) -> Result<Exit, Error> {
    let [unit] = args.units.as_slice() else {
        return Err(Error::usage("One unit file must be provided", "`fleetctl cat web.service`"));
    };
    let name = names::unit(unit).map_err(|error| Error::failure(format!("{unit}: {error}")))?;
    let detail = match session.client.unit(&name).await {
        Err(ClientError::Api(detail)) if detail.code == 404 => {
            return Err(Error::failure(format!("Unit {name} not found")));
        }
        answer => answer?,
    };
    if session.is_json() {
        session
            .out
            .json(&serde_json::json!({ "unit": detail.unit.name, "hash": detail.unit.hash, "text": detail.text }));
    } else {
        session.out.data(&detail.text);
    }
    Ok(Exit::Ok)
}

/// `version`.
pub(super) fn version(out: &Output) -> Exit {
    out.line(concat!("fleetctl version ", env!("CARGO_PKG_VERSION")));
    Exit::Ok
}

/// `completion`.
pub(super) fn completion(out: &Output, shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "fleetctl", &mut script);
    out.data(&String::from_utf8_lossy(&script));
    Exit::Ok
}

/// `man`.
pub(super) fn man(out: &Output, command: Option<&str>) -> Result<Exit, Error> {
    let mut root = args::command();
    root.build();
    let page = match command {
        None => root,
        Some(name) => {
            let found = root.find_subcommand(name).cloned();
            let missing = || Error::usage(format!("there is no command `{name}`"), "`fleetctl help` lists them");
            found.ok_or_else(missing)?
        }
    };
    let mut roff = Vec::new();
    clap_mangen::Man::new(page).render(&mut roff).map_err(|error| Error::failure(error.to_string()))?;
    out.data(&String::from_utf8_lossy(&roff));
    Ok(Exit::Ok)
}
