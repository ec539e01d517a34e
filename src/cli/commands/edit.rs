//! edit: a unit's file in the person's editor, checked when it is saved, and stored as `start --replace` stores it. The
//! text is never lost: it stays in a temporary file until it is stored. A change by someone else meanwhile is refused
//! by the cluster, which compares the revision of the unit's record.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::units::{exit_of, goals, report, wait_or_trigger};
use super::{diff, instances, plan, send};
use crate::api::client::ClientError;
use crate::api::wire::{Applied, Apply, ApplyUnit, UnitDetail};
use crate::cli::args::{self, Edit};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::{check, names, select};
use crate::cli::limit::Limit;
use crate::cli::session::Session;
use crate::model::name::UnitName;

/// How many names of temporary folders are tried.
const MAX_FOLDER_NAMES: u32 = 100;

/// `edit`.
pub(in crate::cli) async fn run(session: &Session, args: &Edit) -> Result<Exit, Error> {
    let name = names::unit(&args.unit).map_err(|error| Error::failure(format!("{}: {error}", args.unit)))?;
    let detail = match session.client.unit(&name).await {
        Err(ClientError::Api(detail)) if detail.code == 404 => {
            let mut lines = vec![Line::Message(format!("Unit {name} not found"))];
            lines.extend(select::hints(session, std::slice::from_ref(&args.unit)).await);
            return Err(Error::failures(lines));
        }
        answer => answer?,
    };
    if detail.revision.is_none() {
        let why = "this fleetd is older than fleetctl and can't tell whether someone else changes the file meanwhile";
        return Err(Error::failure(why).because(format!("use `fleetctl cat {name}` and `start --replace`")));
    }
    let draft =
        Draft::new(&name, &detail.text).map_err(|error| Error::failure(format!("can't make a copy: {error}")))?;
    match change(session, args, &name, &detail, &draft).await {
        Ok(exit) if args.plan.plan && draft.read().is_ok_and(|text| text != detail.text.as_bytes()) => {
            session.out.message(&format!("nothing was stored; your text is kept in {}", draft.path.display()));
            Ok(exit)
        }
        Ok(exit) => {
            draft.remove();
            Ok(exit)
        }
        Err(error) if draft.read().is_ok_and(|text| text != detail.text.as_bytes()) => {
            Err(error.because(format!("your text is kept in {}", draft.path.display())))
        }
        Err(error) => {
            draft.remove();
            Err(error)
        }
    }
}

async fn change(
    session: &Session,
    args: &Edit,
    name: &UnitName,
    detail: &UnitDetail,
    draft: &Draft,
) -> Result<Exit, Error> {
    let Some(checked) = edited(session, name, detail, draft).await? else {
        session.out.message(&format!("{name}: nothing was changed"));
        return Ok(Exit::Ok);
    };
    let label = draft.path.display().to_string();
    checked.warnings.iter().for_each(|warning| session.out.message(&warning.of(&label)));
    let only_comments = checked.file.hash() == detail.unit.hash;
    if !only_comments && let Some(effect) = diff::effect(session, name, Some(detail), &checked.file).await {
        session.out.message(&format!("{name}: {effect}"));
    }
    let unit = ApplyUnit {
        name: name.to_string(),
        text: Some(checked.file.text().to_owned()),
        replace: true,
        revision: detail.revision,
        ..ApplyUnit::default()
    };
    let units = vec![unit];
    let (asked, files) = (send::names(&units), [(name.to_string(), label)].into());
    if args.plan.plan {
        return Ok(plan::show(session, &units, &files).await?.0);
    }
    let limit = Limit::begin(&args.block);
    let applied = session.client.apply(&Apply { units }).await;
    let applied = applied.map_err(|error| Error::of_apply(error, &files))?;
    if only_comments {
        return comments(session, &applied);
    }
    send::say_left(session, &applied.units, &asked);
    let operation = instances::operation(detail.unit.desired);
    if operation.is_none() {
        session.line(&format!("Unit {name} inactive"));
    }
    let goals = goals(&applied, &asked, |_| operation);
    let ended = wait_or_trigger(session, &applied, goals, args.block.no_block, limit).await;
    // From here on the text is in the cluster.
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            session.out.messages(&error.lines);
            return Ok(error.exit);
        }
    };
    report(session, &applied, &ended);
    Ok(exit_of(&ended))
}

/// The end of a change of comments, which no host has to carry out.
fn comments(session: &Session, applied: &Applied) -> Result<Exit, Error> {
    let Some(unit) = applied.units.first().filter(|unit| unit.comments) else {
        return Err(Error::failure(
            "only comments differ, and this fleetd is older than fleetctl and doesn't store them",
        ));
    };
    session.out.message(&send::only_comments(unit));
    report(session, applied, &[]);
    Ok(Exit::Ok)
}

/// Let the person edit until the file is valid; `None` if it is as it was.
async fn edited(
    session: &Session,
    name: &UnitName,
    detail: &UnitDetail,
    draft: &Draft,
) -> Result<Option<check::Checked>, Error> {
    loop {
        draft.open_editor().await?;
        let text = draft.read().map_err(|error| Error::failure(format!("{}: {error}", draft.path.display())))?;
        if text == detail.text.as_bytes() {
            return Ok(None);
        }
        let problems = match check::text(&text, name) {
            Ok(checked) => return Ok(Some(checked)),
            Err(problems) => problems,
        };
        let label = draft.path.display().to_string();
        let lines: Vec<String> = problems.iter().map(|problem| problem.of(&label)).collect();
        session.out.messages(&lines);
        if session.out.confirm("edit it again?") != Some(true) {
            return Err(Error::failure("nothing was changed"));
        }
    }
}

/// The text in a file of the unit's name, so that editors know its syntax, in a folder that only this user can read.
struct Draft {
    folder: PathBuf,
    path: PathBuf,
}

impl Draft {
    fn new(name: &UnitName, text: &str) -> std::io::Result<Self> {
        let base = std::env::temp_dir();
        let mut made = Err(std::io::ErrorKind::AlreadyExists.into());
        for number in 0..MAX_FOLDER_NAMES {
            let folder = base.join(format!("fleetctl-edit-{}-{number}", std::process::id()));
            made = std::fs::DirBuilder::new().mode(0o700).create(&folder).map(|()| folder);
            if !matches!(&made, Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        let folder = made?;
        let path = folder.join(name.as_str());
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file?.write_all(text.as_bytes())?;
        Ok(Self { folder, path })
    }

    fn read(&self) -> std::io::Result<Vec<u8>> {
        std::fs::read(&self.path)
    }

    /// Run the editor until it ends. Ctrl-C is the editor's meanwhile.
    async fn open_editor(&self) -> Result<(), Error> {
        let _interrupts = signal(SignalKind::interrupt()).map_err(|error| Error::failure(error.to_string()))?;
        let editor = args::editor();
        let status = shell(&editor, &self.path).status().await;
        let status = status.map_err(|error| Error::failure(format!("can't run the editor `{editor}`: {error}")))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::failure(format!("the editor `{editor}` failed ({status}); nothing was changed")))
    }

    /// What remains of a folder that can't be removed harms nothing.
    fn remove(&self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// The editor may be a command with options, as for git.
fn shell(editor: &str, path: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{editor} \"$@\""), editor]).arg(path);
    command
}
