//! v2: the settings of the whole cluster. Owns how they are shown.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Extension, Json};

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::json_body;
use crate::api::server::state::Api;
use crate::api::wire::{ChangeSettings, SettingList, SettingView};
use crate::model::settings::{ALL, Setting, Settings};
use crate::registry::settings::{Refusal, Wish, change, read};
use crate::store::Store;

use super::no_parameters;

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<SettingList>, Failure> {
    no_parameters(&uri)?;
    let settings = read(&api.reader).await.map_err(|error| api.failed(&error))?;
    Ok(Json(shown(&settings, &settings)))
}

/// Change settings: all or none.
pub(super) async fn post<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<SettingList>, Failure> {
    no_parameters(&uri)?;
    let ChangeSettings { set, unset } = json_body(&headers, &body, "which settings to change")?;
    if let Some(both) = unset.iter().find(|name| set.contains_key(*name)) {
        return Err(Failure::bad_request(format!("`{both}` can't be set and unset at once")));
    }
    let set = set.into_iter().map(|(name, value)| (name, Some(value)));
    let wishes: Vec<Wish> = set.chain(unset.into_iter().map(|name| (name, None))).collect();
    let (before, after) = change(&api.reader, &wishes).await.map_err(|refusal| match refusal {
        Refusal::Invalid(message) => Failure::bad_request(message),
        Refusal::Contended => {
            let message = "others change the settings all the time; nothing was changed. Try again";
            Failure::new(StatusCode::CONFLICT, message)
        }
        Refusal::Store(error) => api.failed(&error),
        Refusal::Lost(error) => api.failed_maybe(&error),
    })?;
    let (shown, by) = (shown(&before, &after), api.author(&caller));
    for SettingView { name, value, was, .. } in &shown.settings {
        if let Some(was) = was {
            tracing::info!(%by, "the setting {name} is {value}, and was {was}");
        }
    }
    Ok(Json(shown))
}

fn shown(before: &Settings, after: &Settings) -> SettingList {
    let view = |setting: &Setting| {
        let (was, value) = (setting.value(before), setting.value(after));
        SettingView {
            name: setting.name.into(),
            was: Some(was).filter(|was| *was != value),
            value,
            default: setting.default.into(),
            set: (setting.get)(after).is_some(),
            help: setting.help.into(),
            values: setting.values.into(),
        }
    };
    SettingList { settings: ALL.iter().map(view).collect() }
}
