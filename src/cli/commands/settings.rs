//! `fleetctl set`, `unset` and `settings`: the settings of the whole cluster. Owns what is printed; the API owns which
//! settings there are.

use crate::api::wire::{ChangeSettings, SettingView};
use crate::cli::args::{Set, Unset};
use crate::cli::error::{Error, Exit};
use crate::cli::session::Session;

/// Run `settings`.
pub(in crate::cli) async fn show(session: &Session) -> Result<Exit, Error> {
    let settings = session.client.settings().await?.settings;
    for setting in &settings {
        let or = if setting.set { format!("; unless set, {}", setting.default) } else { String::new() };
        session.line(&format!("# {} ({}{or})", setting.help, setting.values));
        session.line(&format!("{}={}", setting.name, setting.value));
    }
    print(session, &settings);
    Ok(Exit::Ok)
}

/// Run `set`.
pub(in crate::cli) async fn set(session: &Session, args: &Set) -> Result<Exit, Error> {
    let names: Vec<&String> = args.pairs.iter().map(|(name, _)| name).collect();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(Error::usage(format!("`{}` is there twice", twice.1), "a setting has one value"));
    }
    let set = args.pairs.iter().cloned().collect();
    change(session, &ChangeSettings { set, unset: Vec::new() }).await
}

/// Run `unset`.
pub(in crate::cli) async fn unset(session: &Session, args: &Unset) -> Result<Exit, Error> {
    change(session, &ChangeSettings { unset: args.names.clone(), ..ChangeSettings::default() }).await
}

async fn change(session: &Session, change: &ChangeSettings) -> Result<Exit, Error> {
    let settings = session.client.change_settings(change).await?.settings;
    let is_named =
        |setting: &&SettingView| change.set.contains_key(&setting.name) || change.unset.contains(&setting.name);
    for setting in settings.iter().filter(is_named) {
        session.line(&sentence(setting));
    }
    print(session, &settings);
    Ok(Exit::Ok)
}

fn sentence(setting: &SettingView) -> String {
    let SettingView { name, value, set, was, .. } = setting;
    let default = if *set { "" } else { ", the default" };
    match was {
        Some(was) => format!("{name}={value}{default} (was {was})"),
        None => format!("{name}={value}{default}, as before"),
    }
}

/// For programs.
fn print(session: &Session, settings: &[SettingView]) {
    if session.is_json() {
        session.out.json(&settings);
    }
}
