//! verify: checks unit files as `submit` does, and asks systemd and the cluster about them. Works without either of
//! these. Changes nothing; `input` and the modules below own what is wrong.

mod analyze;
mod cluster;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::api::client::Client;
use crate::cli::args::Verify;
use crate::cli::error::{Error, Exit};
use crate::cli::input::check::{self, Checked, Remark};
use crate::cli::input::finding::{Finding, Severity, Source, locate, merged};
use crate::cli::input::{lint, names};
use crate::cli::output::Printer;
use crate::cli::output::people::count;
use crate::model::name::UnitName;

/// A file that could be submitted.
struct Candidate {
    /// Its path, as it was named.
    label: String,
    path: PathBuf,
    name: UnitName,
    checked: Checked,
}

/// `verify`. `client` is how to reach the cluster, or why that is impossible.
pub(in crate::cli) async fn run(
    out: &Printer,
    args: &Verify,
    is_json: bool,
    client: Result<Client, Error>,
) -> Result<Exit, Error> {
    if args.files.is_empty() {
        return Err(Error::usage("No unit files given", "name at least one file, such as web.service"));
    }
    let (candidates, mut findings) = read(&args.files);
    match analyze::ask(&candidates).await {
        Ok(found) => findings.extend(found),
        Err(why) => out.message(&format!("not checked by systemd: {why}")),
    }
    match cluster::ask(client, &candidates).await {
        Ok(answer) => findings.extend(answer),
        Err(why) => out.message(&format!("not compared with the cluster: {why}")),
    }
    for candidate in &candidates {
        locate(&mut findings, &candidate.label, candidate.checked.file.text());
    }
    let labels: Vec<String> = args.files.iter().map(|file| label(file)).collect();
    let findings = merged(findings, &labels);
    if is_json {
        out.json(&findings);
    } else {
        findings.iter().for_each(|finding| out.line(&finding.text()));
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let (warnings, files) = (findings.len() - errors, labels.iter().collect::<BTreeSet<_>>().len());
    let (errors, warnings) = (count(errors, "error"), count(warnings, "warning"));
    out.message(&format!("{errors}, {warnings} in {}", count(files, "file")));
    Ok(Exit::failed_if(findings.iter().any(|finding| finding.severity == Severity::Error)))
}

/// Read and check all files, each once.
fn read(files: &[String]) -> (Vec<Candidate>, Vec<Finding>) {
    let (mut candidates, mut findings, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for file in files {
        let label = label(file);
        if !seen.insert(label.clone()) {
            continue;
        }
        let error = |remark| Finding::new(&label, Severity::Error, Source::Fleetctl, remark);
        let path = PathBuf::from(&label);
        match one(file, &path) {
            Ok((name, checked)) => {
                findings.extend(checked.warnings.iter().cloned().map(error));
                findings.extend(lint::install(&checked.file).into_iter().map(error));
                candidates.push(Candidate { label: label.clone(), path, name, checked });
            }
            Err(problems) => findings.extend(problems.into_iter().map(error)),
        }
    }
    (candidates, findings)
}

fn one(file: &str, path: &Path) -> Result<(UnitName, Checked), Vec<Remark>> {
    let name = names::unit(file).map_err(|error| vec![Remark { line: None, what: error.to_string() }])?;
    let checked = check::file(path, &name)?;
    Ok((name, checked))
}

/// The path of the file that an argument names. `.service` can be left out, as in all commands.
fn label(file: &str) -> String {
    if Path::new(file).exists() { file.into() } else { names::with_type(file) }
}
