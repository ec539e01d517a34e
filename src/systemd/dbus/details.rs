//! Why a unit failed, how often it was restarted, and what it says of itself: properties of the unit's type, and its
//! journal. Owns which properties and which journal fields these are. It must never decide which unit is asked about.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use zbus::{OwnedVariant, Variant};

use super::proxy::{SERVICE, classify, unit_path};
use crate::model::failure::{MAX_LINES, exit};
use crate::model::name::UnitName;
use crate::systemd::{Details, Error};

/// The most units asked about at a time.
pub(super) const IN_FLIGHT: usize = 32;
/// The interface of every unit.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The interface of services.
pub(super) const OF_SERVICES: &str = "org.freedesktop.systemd1.Service";
/// The interface of properties.
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// The commands of a service, in the order in which they run.
const COMMANDS: [&str; 7] =
    ["ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"];
/// How long journald may take to receive what a process wrote before it ended, where it can't be asked.
const JOURNAL_DELAY: Duration = Duration::from_millis(50);
/// How long reading a journal may take.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(2);

/// One command as D-Bus has it: path, arguments, whether its failure is ignored, when it started and ended (µs, by two
/// clocks), its process id, and how it ended (`si_code` and `si_status`).
type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// The details of each unit that systemd knows.
pub(super) async fn details(
    bus: &zbus::Connection,
    units: Vec<UnitName>,
) -> Result<impl Iterator<Item = (UnitName, Details)> + use<>, Error> {
    let answers = stream::iter(units).map(|unit| async move {
        let details = of_unit(bus, &unit).await;
        (unit, details)
    });
    let answers: Vec<_> = answers.buffered(IN_FLIGHT).collect().await;
    if let Some(error) = answers.iter().find_map(|(_, answer)| match answer {
        Err(error @ Error::Unavailable(_)) => Some(error.clone()),
        _ => None,
    }) {
        return Err(error);
    }
    // A unit that was unloaded meanwhile, or whose type has no such properties, has no details.
    Ok(answers.into_iter().filter_map(|(unit, answer)| Some((unit, answer.ok()?))))
}

async fn of_unit(bus: &zbus::Connection, unit: &UnitName) -> Result<Details, Error> {
    let (path, interface) = (unit_path(unit.as_str()), interface(unit.kind()));
    let result: String = property(bus, &path, &interface, "Result").await?;
    let is_service = unit.kind() == "service";
    let restarts = if is_service { property(bus, &path, &interface, "NRestarts").await? } else { 0 };
    let status = if is_service { property(bus, &path, &interface, "StatusText").await? } else { String::new() };
    if result == "success" {
        return Ok(Details { result, restarts, status, ..Details::default() });
    }
    let all = all(bus, &path, &interface).await?;
    let (exit, command) = how_it_ended(&all);
    // The first is that of systemd 254 and newer, where the delay may grow.
    let delay = ["RestartUSecNext", "RestartUSec"].iter().find_map(|name| u64::try_from(all.get(*name)?).ok());
    let retry_ms = delay.filter(|us| *us != u64::MAX).map(|us| us / 1000);
    let invocation: Vec<u8> = property(bus, &path, UNIT, "InvocationID").await?;
    let invocation = invocation.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Details { result, exit, command, restarts, retry_ms, invocation, status })
}

/// The interface of a type of units: `org.freedesktop.systemd1.Service`.
fn interface(kind: &str) -> String {
    let mut letters = kind.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    format!("{SERVICE}.{}{}", first.map(String::from).unwrap_or_default(), letters.as_str())
}

/// All properties of an interface of a unit.
pub(super) async fn all(
    bus: &zbus::Connection,
    path: &str,
    interface: &str,
) -> Result<HashMap<String, OwnedVariant>, Error> {
    let reply = bus.call_method(Some(SERVICE), path, Some(PROPERTIES), "GetAll", &interface).await;
    reply.map_err(|error| classify(&error))?.body().deserialize().map_err(|error| classify(&error))
}

/// A property of a unit, of the type that its documentation gives.
pub(super) async fn property<T>(bus: &zbus::Connection, path: &str, interface: &str, name: &str) -> Result<T, Error>
where
    T: TryFrom<OwnedVariant>,
{
    let reply = bus.call_method(Some(SERVICE), path, Some(PROPERTIES), "Get", &(interface, name)).await;
    let value: OwnedVariant =
        reply.map_err(|error| classify(&error))?.body().deserialize().map_err(|error| classify(&error))?;
    T::try_from(value).map_err(|_| Error::Refused(format!("{name} has another type than expected")))
}

/// How the command ended that made the unit fail, and its program: the last command that failed, or the main process.
fn how_it_ended(all: &HashMap<String, OwnedVariant>) -> (Option<String>, Option<String>) {
    let number = |name: &str| all.get(name).and_then(|value| i32::try_from(value).ok()).unwrap_or_default();
    let commands = |name: &str| -> Vec<Exec> {
        let value = all.get(name).and_then(|value| value.try_clone().ok());
        value
            .and_then(|value| Vec::<Variant<'_>>::try_from(value).ok())
            .unwrap_or_default()
            .into_iter()
            .filter_map(exec)
            .collect()
    };
    let failed =
        |(_, _, ignored, _, _, ended, _, _, code, status): &Exec| !ignored && *ended > 0 && (*code > 1 || *status != 0);
    let last = COMMANDS.iter().flat_map(|name| commands(name)).filter(failed).max_by_key(|command| command.5);
    match last {
        Some((path, .., code, status)) => (exit(code, status), Some(path)),
        None => {
            let program = commands("ExecStart").into_iter().next_back().map(|command| command.0);
            let ended = exit(number("ExecMainCode"), number("ExecMainStatus"));
            (ended.clone(), program.filter(|_| ended.is_some()))
        }
    }
}

fn exec(value: Variant<'_>) -> Option<Exec> {
    Exec::try_from(value).ok()
}

/// Have journald store everything that it was sent so far; false if it doesn't, for example for a user other than root.
/// journald answers once it has taken in all that waits in its sockets, also of a process that has ended.
async fn received_all() -> bool {
    let mut command = journalctl();
    command.arg("--sync").stdout(Stdio::null()).stderr(Stdio::null());
    timeout(JOURNAL_TIMEOUT, command.status()).await.is_ok_and(|ended| ended.is_ok_and(|status| status.success()))
}

fn journalctl() -> Command {
    let mut command = Command::new("journalctl");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The last lines of an invocation's journal: those that its processes wrote, and those of systemd about it.
pub(super) async fn last_lines(invocation: &str, user: bool) -> Result<Vec<String>, Error> {
    if !received_all().await {
        sleep(JOURNAL_DELAY).await;
    }
    let prefix = if user { "USER_" } else { "" };
    let mut command = journalctl();
    command.args(["--quiet", "--no-pager", "--output=short", &format!("--lines={MAX_LINES}")]);
    command.args([
        &format!("_SYSTEMD_INVOCATION_ID={invocation}"),
        "+",
        &format!("{prefix}INVOCATION_ID={invocation}"),
    ]);
    let failed = |why: String| Error::Io(format!("journalctl can't be run: {why}"));
    let output = timeout(JOURNAL_TIMEOUT, command.output()).await;
    let output = output.map_err(|_| failed("no answer in time".into()))?;
    let output = output.map_err(|error| failed(error.kind().to_string()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(rows: &[(&str, u64, i32, i32)]) -> OwnedVariant {
        let row = |(path, ended, code, status): &(&str, u64, i32, i32)| -> Exec {
            let path = (*path).to_owned();
            (path.clone(), vec![path], false, 1, 1, *ended, 1, 7, *code, *status)
        };
        OwnedVariant::try_from(Variant::from(rows.iter().map(row).collect::<Vec<Exec>>())).unwrap()
    }

    #[test]
    fn the_command_that_failed_last_is_the_reason() {
        let number = |number: i32| OwnedVariant::from(number);
        let all = |start_pre, start, code, status| -> HashMap<String, OwnedVariant> {
            let all = [
                ("ExecStartPre", commands(start_pre)),
                ("ExecStart", commands(start)),
                ("ExecMainCode", number(code)),
                ("ExecMainStatus", number(status)),
            ];
            all.map(|(name, value)| (name.to_owned(), value)).into()
        };
        let ended = |all: &HashMap<String, OwnedVariant>| {
            let (exit, command) = how_it_ended(all);
            format!("{} {}", exit.unwrap_or_default(), command.unwrap_or_default())
        };
        let main = all(&[("/bin/true", 5, 1, 0)], &[("/opt/api", 9, 1, 203)], 1, 203);
        assert_eq!(ended(&main), "exited 203/EXEC /opt/api");
        let before = all(&[("/bin/true", 5, 1, 0), ("/bin/false", 6, 1, 1)], &[("/opt/api", 0, 0, 0)], 0, 0);
        assert_eq!(ended(&before), "exited 1/FAILURE /bin/false");
        let killed = all(&[], &[("/opt/api", 9, 2, 9)], 2, 9);
        assert_eq!(ended(&killed), "killed 9/KILL /opt/api");
        // Its main process was not started by `ExecStart=` itself (`Type=forking`).
        let forked = all(&[], &[("/opt/api", 9, 1, 0)], 3, 11);
        assert_eq!(ended(&forked), "dumped 11/SEGV /opt/api");
        let nothing = all(&[], &[("/opt/api", 0, 0, 0)], 0, 0);
        assert_eq!(ended(&nothing), " ");
        assert_eq!(ended(&HashMap::new()), " ");
    }

    #[test]
    fn each_type_of_units_has_its_interface() {
        assert_eq!(interface("service"), "org.freedesktop.systemd1.Service");
        assert_eq!(interface("automount"), "org.freedesktop.systemd1.Automount");
    }
}
