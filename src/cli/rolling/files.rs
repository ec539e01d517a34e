//! The files of a rollout in words: which it brings, and whether a member with the units that ride with it has them.
//! Owns how a rollout is called that changes only files of riders.

use crate::api::wire::{RolloutMember, RolloutView};
use crate::model::name::{UnitHash, UnitName};

/// The hash of the file that `unit`, which takes part in a rollout, is to have.
fn target_of<'a>(view: &'a RolloutView, unit: &UnitName) -> &'a UnitHash {
    let set = unit.set();
    let rider = view.riders.iter().find(|rider| Some(&rider.name) == set.as_ref());
    rider.map_or(&view.target, |rider| &rider.target)
}

/// Whether a member and all units that ride with it have the new files.
pub(in crate::cli) fn is_new(view: &RolloutView, member: &RolloutMember) -> bool {
    let riders = member.riders.iter().map(|unit| (&unit.name, &unit.hash));
    std::iter::once((&member.name, &member.hash)).chain(riders).all(|(name, hash)| target_of(view, name) == hash)
}

/// Whether a unit that rides with a member has its new file.
pub(in crate::cli) fn has_target(view: &RolloutView, unit: &UnitName, hash: &UnitHash) -> bool {
    target_of(view, unit) == hash
}

/// Whether a member and all units that ride with it are ready.
pub(in crate::cli) fn is_ready(member: &RolloutMember) -> bool {
    member.ready && member.riders.iter().all(|unit| unit.ready)
}

/// What a member and the units that ride with it are told to run.
pub(super) fn hashes(member: &RolloutMember) -> Vec<UnitHash> {
    std::iter::once(&member.hash).chain(member.riders.iter().map(|unit| &unit.hash)).cloned().collect()
}

/// The hashes of all files that a rollout brings.
pub(super) fn targets(view: &RolloutView) -> Vec<UnitHash> {
    std::iter::once(&view.target).chain(view.riders.iter().map(|rider| &rider.target)).cloned().collect()
}

/// The new file and the one before, as sentences name them: `bb`, `aa`; if it changes only files of riders,
/// `log@.service dd`, `log@.service cc`.
pub(in crate::cli) fn names(view: &RolloutView) -> (String, String) {
    let changed = view.riders.iter().find(|rider| view.target == view.from && rider.target != rider.from);
    match changed {
        Some(rider) => {
            let named = |hash: &UnitHash| format!("{} {}", rider.name, hash.short());
            (named(&rider.target), named(&rider.from))
        }
        None => (view.target.short().to_owned(), view.from.short().to_owned()),
    }
}

/// `bb, before it aa; log@.service dd, before it cc`.
pub(super) fn all(view: &RolloutView) -> String {
    let (new, before) = names(view);
    let set = format!("{new}, before it {before}");
    let first = view.target == view.from;
    let riders = view.riders.iter().filter(|rider| rider.target != rider.from).skip(usize::from(first));
    let rider = |name: &UnitName, target: &UnitHash, from: &UnitHash| {
        format!("; {name} {}, before it {}", target.short(), from.short())
    };
    let riders: String = riders.map(|it| rider(&it.name, &it.target, &it.from)).collect();
    set + &riders
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::rolling::tests::view;

    #[test]
    fn a_rollout_that_changes_only_riders_is_called_by_them() {
        let members = ["web@1.service n1 bb ready"];
        let with = |target: &str, riders: &[(&str, &str, &str)]| {
            let rider =
                |(name, target, from): &(&str, &str, &str)| json!({ "name": name, "target": target, "from": from });
            let riders = json!(riders.iter().map(rider).collect::<Vec<_>>());
            let view = view("rolling", None, &members);
            RolloutView { target: UnitHash::new(target), riders: serde_json::from_value(riders).unwrap(), ..view }
        };
        let (log, kept) = (("log@.service", "dd", "cc"), ("pull@.service", "ee", "ee"));
        for (view, new, expected) in [
            (with("bb", &[]), "bb", "bb, before it aa"),
            (with("bb", &[kept]), "bb", "bb, before it aa"),
            (with("bb", &[log, kept]), "bb", "bb, before it aa; log@.service dd, before it cc"),
            (with("aa", &[kept, log]), "log@.service dd", "log@.service dd, before it log@.service cc"),
        ] {
            assert_eq!((names(&view).0.as_str(), all(&view).as_str()), (new, expected));
        }
    }

    #[test]
    fn a_member_has_the_new_files_and_is_ready_when_all_that_ride_with_it_are() {
        let mut view = view("rolling", None, &["web@1.service n1 bb ready"]);
        view.riders =
            serde_json::from_value(json!([{ "name": "log@.service", "target": "dd", "from": "cc" }])).unwrap();
        for (hash, ready) in [("cc", true), ("dd", false), ("dd", true)] {
            let riding = json!([{ "name": "log@1.service", "hash": hash, "ready": ready }]);
            view.members[0].riders = serde_json::from_value(riding).unwrap();
            let member = &view.members[0];
            assert_eq!((is_new(&view, member), is_ready(member)), (hash == "dd", ready));
        }
    }
}
