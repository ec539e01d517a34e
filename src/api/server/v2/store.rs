//! v2: the members of the store. Owns how their own words become the API's.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::wire::{AlarmKind, StoreAlarm, StoreMemberView, StoreView};
use crate::store::{Store, StoreMember};

use super::no_parameters;

pub(super) async fn get<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<StoreView>, Failure> {
    no_parameters(&uri)?;
    let members = api.reader.store().members().await;
    Ok(Json(StoreView { members: members.into_iter().map(view).collect() }))
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
