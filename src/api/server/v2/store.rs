//! v2: the members of the store, and this daemon itself. Owns how their own words become the API's.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use crate::api::server::error::Failure;
use crate::api::server::health::{Health, Remedy};
use crate::api::server::state::Api;
use crate::api::wire::{AlarmKind, DaemonView, DaemonWait, StoreAlarm, StoreMemberView, StoreView, WaitKind};
use crate::model::text::without_os_error;
use crate::store::{Store, StoreMember};

use super::no_parameters;

pub(super) async fn get<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<StoreView>, Failure> {
    no_parameters(&uri)?;
    let members = api.reader.store().members().await;
    let daemon = Some(daemon(api.here().1, api.health()));
    Ok(Json(StoreView { members: members.into_iter().map(view).collect(), daemon }))
}

/// This daemon on the host of this name.
fn daemon(hostname: String, health: Health) -> DaemonView {
    let waits = match health {
        Health::Ready => None,
        Health::Waiting { what, since, remedy } => {
            Some(DaemonWait { r#for: kind(remedy), why: without_os_error(&what).into_owned(), since })
        }
    };
    // The folder itself is open while it is read.
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count().saturating_sub(1));
    let open_files_limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    DaemonView { hostname, waits, open_files: u64::try_from(open_files).unwrap_or(u64::MAX), open_files_limit }
}

fn kind(remedy: Remedy) -> WaitKind {
    match remedy {
        Remedy::Time => WaitKind::Start,
        Remedy::Store => WaitKind::Store,
        Remedy::Systemd => WaitKind::Systemd,
        Remedy::Person => WaitKind::MachineId,
    }
}

fn view(member: StoreMember) -> StoreMemberView {
    let StoreMember { address, answer } = member;
    match answer {
        Err(error) => StoreMemberView { address, error: Some(error), ..Default::default() },
        Ok(state) => StoreMemberView {
            address,
            id: format!("{:x}", state.id),
            version: state.version,
            leads: state.leader == state.id,
            size: state.size,
            in_use: state.in_use,
            quota: state.quota,
            alarms: state.troubles.iter().map(|text| alarm(text)).collect(),
            error: None,
        },
    }
}

/// etcd prints an alarm as protobuf's text, `memberID:10276657743932975437 alarm:NOSPACE`, and other errors as
/// sentences (`server/etcdserver/api/v3rpc/maintenance.go`).
fn alarm(text: &str) -> StoreAlarm {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name));
    let kind = match field("alarm:") {
        Some("NOSPACE") => AlarmKind::NoSpace,
        Some("CORRUPT") => AlarmKind::Corrupt,
        _ => AlarmKind::Other,
    };
    let member = field("memberID:").and_then(|id| id.parse::<u64>().ok());
    let member = member.map(|id| format!("{id:x}")).unwrap_or_default();
    StoreAlarm { kind, member, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_says_why_it_waits_and_how_many_files_it_has_open() {
        for (what, remedy, why, kind) in [
            ("waits: n1 has it", Remedy::Person, "waits: n1 has it", WaitKind::MachineId),
            ("waits: reset by peer (os error 104)", Remedy::Store, "waits: reset by peer", WaitKind::Store),
        ] {
            let waiting = Health::Waiting { what: what.into(), since: 7, remedy };
            let waits = daemon("n3".into(), waiting).waits;
            assert_eq!(waits, Some(DaemonWait { r#for: kind, why: why.into(), since: 7 }));
        }
        let before = daemon("n3".into(), Health::Ready);
        let limit = before.open_files_limit.unwrap_or(u64::MAX);
        assert!(before.waits.is_none() && before.open_files >= 3 && limit >= before.open_files, "{before:?}");
        // Other tests of this process open and close files, but fewer than these.
        let more: Vec<_> = (0..200).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        let now = daemon("n3".into(), Health::Ready);
        assert!(now.open_files >= before.open_files + 100, "{before:?}, {now:?}, {}", more.len());
    }

    #[test]
    fn alarms_are_named_and_say_whose_they_are() {
        for (text, kind, member) in [
            ("memberID:10276657743932975437 alarm:NOSPACE", AlarmKind::NoSpace, "8e9e05c52164694d"),
            ("memberID:10276657743932975437 alarm:CORRUPT", AlarmKind::Corrupt, "8e9e05c52164694d"),
            ("alarm:FLOODED memberID:1", AlarmKind::Other, "1"),
            ("the database is odd", AlarmKind::Other, ""),
        ] {
            assert_eq!(alarm(text), StoreAlarm { kind, member: member.into(), text: text.into() });
        }
    }
}
