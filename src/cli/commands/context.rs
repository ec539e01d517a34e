//! `context`: lists and shows the contexts of the user's file, and selects one. Must never change that file.

use std::fs;

use serde::Serialize;

use crate::cli::args::Format;
use crate::cli::args::context::{Action, Context, ContextArgs, Contexts, SELECTED, folder};
use crate::cli::error::{Error, Exit};
use crate::cli::output::Printer;

/// A context, for `--output json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    name: &'a str,
    /// Whether it is in use when the command line and the environment name none.
    selected: bool,
    /// Its options, in the order of the file.
    options: Vec<[&'a str; 2]>,
}

/// Carry out `context`.
pub(in crate::cli) fn run(out: &Printer, args: &ContextArgs) -> Result<Exit, Error> {
    let folder = folder();
    let contexts = Contexts::read(&folder).map_err(Error::failures)?;
    let is_selected = |context: &Context| contexts.selected.as_ref() == Some(&context.name);
    let document = |context: &'_ Context| -> serde_json::Value {
        let options = context.options.iter().map(|(name, value)| [name.as_str(), value.as_str()]).collect();
        serde_json::json!(Document { name: &context.name, selected: is_selected(context), options })
    };
    let json = args.output.format == Format::Json;
    let named = || -> Result<&Context, Error> {
        let usage = || Error::usage("no context was named", "`fleetctl context` lists them");
        let name = args.name.as_ref().or(contexts.selected.as_ref().filter(|_| args.action == Action::Show));
        let name = name.ok_or_else(usage)?;
        contexts.get(name).ok_or_else(|| Error::failure(contexts.unknown(name, &folder)))
    };
    match args.action {
        Action::List if json => out.json(&contexts.all.iter().map(document).collect::<Vec<_>>()),
        Action::List => {
            for context in &contexts.all {
                let mark = if is_selected(context) { "*" } else { " " };
                let options = context.options.iter().map(|(name, value)| format!("{name}={value}"));
                out.line(&format!("{mark} {}\t{}", context.name, options.collect::<Vec<_>>().join(" ")));
            }
        }
        Action::Show if json => out.json(&document(named()?)),
        Action::Show => {
            for (name, value) in &named()?.options {
                out.line(&format!("{name}={value}"));
            }
        }
        Action::Use => {
            let name = &named()?.name;
            let file = folder.join(SELECTED);
            fs::write(&file, format!("{name}\n"))
                .map_err(|error| Error::failure(format!("can't write {}: {}", file.display(), error.kind())))?;
        }
    }
    Ok(Exit::Ok)
}
