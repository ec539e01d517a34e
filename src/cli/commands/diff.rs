//! diff: unit files here against those in the cluster, and what storing them would do; `between` compares texts that a
//! unit had. Changes nothing. Its exit status is diff(1)'s.

use super::effect::Change;
use super::unified::{painted, unified};
use super::{between, counted, option_changes};
use crate::api::client::ClientError;
use crate::api::wire::{ApplyUnit, UnitDetail, UnitView};
use crate::cli::args::Diff;
use crate::cli::error::{Error, Exit};
use crate::cli::input::files::{self, Wanted};
use crate::cli::input::{check, select};
use crate::cli::session::Session;
use crate::journal::Output as _;
use crate::model::body::is_same_to_systemd;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::unit::Desired;

/// A file here, or that of a template in the cluster, as the new file of a unit.
struct New {
    /// Where it is.
    label: String,
    file: UnitFile,
}

/// `diff`: exit status 0 if all files are the same, 1 if any differs, 2 if that isn't known.
pub(in crate::cli) async fn run(session: &Session, args: &Diff) -> Result<Exit, Error> {
    let compared = match between::asked(&args.units) {
        Some(asked) => between::run(session, asked).await,
        None => compare(session, args).await,
    };
    compared.map_err(|error| Error { exit: Exit::Usage, ..error })
}

async fn compare(session: &Session, args: &Diff) -> Result<Exit, Error> {
    let names = select::expand(session, &args.units, true).await?.map_err(Error::failures)?;
    let (mut documents, mut problems, mut differs) = (Vec::new(), Vec::new(), false);
    for wanted in files::wanted(&names).map_err(Error::failures)? {
        let old = stored(session, &wanted.name).await?;
        let new = match new(session, &wanted).await? {
            Ok(new) => new,
            Err(lines) => {
                problems.extend(lines);
                continue;
            }
        };
        let text = old.as_ref().map_or("", |detail| &detail.text);
        let cluster = if old.is_some() { format!("cluster/{}", wanted.name) } else { "/dev/null".into() };
        let lines = unified(text, new.file.text(), &cluster, &new.label);
        let effect = if lines.is_empty() { None } else { effect(session, &wanted.name, old.as_ref(), &new.file).await };
        let before = old.as_ref().and_then(|detail| UnitFile::parse(detail.text.as_bytes()).ok());
        let options = before.map(|before| option_changes::between(&before, &new.file)).unwrap_or_default();
        differs |= effect.is_some() || !lines.is_empty();
        if session.is_json() {
            let (unit, file, same) = (&wanted.name, &new.label, lines.is_empty());
            documents.push(serde_json::json!({
                "unit": unit, "file": file, "same": same, "diff": lines, "options": options, "effect": effect,
            }));
        } else {
            session.out.data(&painted(&lines, session.out.has_colours()));
            let file = counted::number_in(new.file.text());
            options.iter().for_each(|option| session.out.message(&option.to_string()));
            let kept = || counted::remark(&wanted.name, old.as_ref()?.unit.replicas, file);
            let said = effect.map(|effect| format!("{}: {effect}", wanted.name)).or_else(kept);
            said.iter().for_each(|line| session.out.message(line));
        }
    }
    if session.is_json() {
        session.out.json(&documents);
    }
    if problems.is_empty() { Ok(Exit::failed_if(differs)) } else { Err(Error::failures(problems)) }
}

/// The unit as the cluster has it.
async fn stored(session: &Session, name: &UnitName) -> Result<Option<UnitDetail>, Error> {
    match session.client.unit(name).await {
        Ok(detail) => Ok(Some(detail)),
        Err(ClientError::Api(detail)) if detail.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The file that `start --replace` would take; or what is wrong.
async fn new(session: &Session, wanted: &Wanted) -> Result<Result<New, Vec<String>>, Error> {
    if let Some(path) = wanted.file() {
        let label = path.display().to_string();
        let checked = check::file(path, &wanted.name);
        let printed = |problems: Vec<check::Remark>| problems.iter().map(|problem| problem.of(&label)).collect();
        return Ok(checked.map_err(printed).map(|checked| New { label: label.clone(), file: checked.file }));
    }
    let template = wanted.name.template();
    let stored = match &template {
        Some(template) => stored(session, template).await?,
        None => None,
    };
    let (Some(template), Some(detail)) = (template, stored) else {
        return Ok(Err(vec![format!("there is no file of {} here to compare with", wanted.name)]));
    };
    Ok(UnitFile::parse(detail.text.as_bytes())
        .map(|file| New { label: format!("cluster/{template}"), file })
        .map_err(|error| vec![format!("{template}: {error}")]))
}

/// What storing `new` would do. `None` if the cluster doesn't say; that is printed.
pub(super) async fn effect(
    session: &Session,
    name: &UnitName,
    old: Option<&UnitDetail>,
    new: &UnitFile,
) -> Option<String> {
    let unit = ApplyUnit {
        name: name.to_string(),
        text: Some(new.text().to_owned()),
        desired: (!name.is_template()).then_some(Desired::Launched),
        replace: true,
        ..ApplyUnit::default()
    };
    let asked = async {
        let answer = session.client.try_out(std::slice::from_ref(&unit)).await?;
        let instances = if name.is_template() {
            session.client.units(&[super::instances::pattern(name)]).await?.units
        } else {
            Vec::new()
        };
        Ok::<_, ClientError>((answer, instances))
    };
    let (answer, instances) = match asked.await {
        Ok(answer) => answer,
        Err(error) => {
            session.out.messages(&Error::from(error).lines);
            return None;
        }
    };
    let unit = old.map(|detail| &detail.unit);
    // The pattern matches the template, too.
    let follows = |one: &&UnitView| !one.name.is_template() && unit.is_some_and(|unit| unit.hash == one.hash);
    let followers = instances.iter().filter(follows).count();
    let comments_only = unit.is_some_and(|unit| unit.hash == new.hash());
    let hosts = answer.first().and_then(|answer| answer.hosts.as_deref());
    let same_body = old.is_some_and(|detail| is_same_to_systemd(&detail.text, new.text()));
    let effect = Change { unit, comments_only, same_body, followers, hosts }.effect();
    let (before, after) = (unit.and_then(|unit| unit.replicas), answer.first().and_then(|answer| answer.replicas));
    Some(effect + &counted::effect(before, after, counted::number_in(new.text())))
}
