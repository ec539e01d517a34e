//! cat, version, and the documentation of the command line: completions and manual pages.

use super::{counted, history};
use crate::api::client::ClientError;
use crate::api::wire::UnitDetail;
use crate::cli::args::{self, Cat, Format};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::names;
use crate::cli::input::select;
use crate::cli::output::Printer;
use crate::cli::session::Session;
use crate::cli_docs;

/// `cat`: the file as it was submitted, including comments. (CoreOS fleet printed its canonical text, without them.)
pub(in crate::cli) async fn cat(session: &Session, args: &Cat) -> Result<Exit, Error> {
    let [unit] = args.units.as_slice() else {
        return Err(Error::usage("One unit file must be provided", "`fleetctl cat web.service`"));
    };
    if names::is_pattern(unit) && args.revision.is_none() {
        return cat_all(session, unit).await;
    }
    let name = names::unit(unit).map_err(|error| Error::failure(format!("{unit}: {error}")))?;
    if let Some(number) = args.revision {
        return history::cat(session, &name, number).await;
    }
    let detail = match session.known_unit(&name).await {
        Err(ClientError::Api(detail)) if detail.code == 404 => {
            let mut lines = vec![Line::Message(format!("Unit {name} not found"))];
            lines.extend(history::hint(session, &name).await);
            lines.extend(select::hints(session, &args.units).await);
            return Err(Error::failures(lines));
        }
        answer => answer?,
    };
    if session.is_json() {
        session.out.json(&document(&detail));
    } else {
        session.out.data(&detail.text);
        let (unit, file) = (&detail.unit, counted::number_in(&detail.text));
        counted::remark(&unit.name, unit.replicas, file).iter().for_each(|line| session.out.message(line));
    }
    // The cluster may have another file by now.
    Ok(Exit::failed_if(session.offline.get().is_some()))
}

/// `cat` with a pattern: all files, each preceded by a comment with its name if there are several; in JSON always a
/// list.
async fn cat_all(session: &Session, pattern: &str) -> Result<Exit, Error> {
    let selected = select::select_known(session, &[pattern.to_owned()]).await?;
    let mut documents = Vec::new();
    let several = selected.units.len() > 1;
    for (index, (unit, _)) in selected.units.iter().enumerate() {
        let detail = session.known_unit(&unit.name).await?;
        if session.is_json() {
            documents.push(document(&detail));
            continue;
        }
        if several {
            let gap = if index > 0 { "\n" } else { "" };
            session.out.data(&format!("{gap}# {}\n", unit.name));
        }
        session.out.data(&detail.text);
    }
    if session.is_json() {
        session.out.json(&documents);
    }
    session.out.messages(selected.nothing());
    Ok(Exit::failed_if(selected.units.is_empty() || session.offline.get().is_some()))
}

fn document(detail: &UnitDetail) -> serde_json::Value {
    let mut document = serde_json::json!({ "unit": detail.unit.name, "hash": detail.unit.hash, "text": detail.text });
    if let Some(replicas) = detail.unit.replicas {
        document["replicas"] = serde_json::json!(replicas);
    }
    if let Some(by) = &detail.by {
        document["by"] = serde_json::json!(by);
    }
    if let Some(offline) = &detail.offline {
        document["offline"] = serde_json::json!(offline);
    }
    document
}

/// `version`.
pub(in crate::cli) fn version(out: &Printer, format: Format) -> Exit {
    let version = env!("CARGO_PKG_VERSION");
    match format {
        Format::Text => out.line(&format!("fleetctl version {version}")),
        Format::Json => out.json(&serde_json::json!({ "version": version })),
    }
    Exit::Ok
}

/// `options`: the options of every command.
pub(in crate::cli) fn options(out: &Printer) -> Exit {
    if let Some(options) = args::command().find_subcommand_mut("options") {
        out.data(&options.render_help().to_string());
    }
    Exit::Ok
}

/// `completion` and `man`.
pub(in crate::cli) fn manual(out: &Printer, asked: &cli_docs::Asked) -> Result<Exit, Error> {
    match asked.answer(args::documented()) {
        Ok(text) => out.data(&text),
        Err(error @ cli_docs::Error::NoCommand(_)) => {
            return Err(Error::usage(error.to_string(), "`fleetctl help` lists them"));
        }
        Err(error) => return Err(Error::failure(error.to_string())),
    }
    Ok(Exit::Ok)
}
