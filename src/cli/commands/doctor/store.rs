//! What is wrong with the store, as its members say. Pure. Owns how large etcd's database may get before that needs a
//! person.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::wire::{AlarmKind, StoreAlarm, StoreMemberView, StoreView};
use crate::cli::commands::overview::{Finding, Problem};
use crate::cli::output::fitted::{Cell, Tone};
use crate::cli::output::people::count;

/// etcd's quota unless `--quota-backend-bytes` sets another one, in bytes (etcd's manual, "Limits"). Members before 3.6
/// don't say which one they have.
const QUOTA: u64 = 2 << 30;

/// A database that takes this share of its quota is large: there is time to act before etcd refuses every change.
const LARGE_PERCENT: u64 = 80;

const MIB: u64 = 1 << 20;

/// What needs a person.
pub(super) fn findings(store: &StoreView) -> Vec<Finding> {
    let mut findings: Vec<Finding> = store.members.iter().filter_map(silent).collect();
    // All members tell of the alarms of each.
    let mut told = BTreeSet::new();
    let alarms = store.members.iter().flat_map(|member| member.alarms.iter().map(move |alarm| (member, alarm)));
    for (member, alarm) in alarms {
        let about = if alarm.member.is_empty() { &member.id } else { &alarm.member };
        if told.insert((about, &alarm.text)) {
            let known = store.members.iter().find(|other| other.id == *about);
            findings.push(of_alarm(alarm, known.map_or(about, |known| &known.address)));
        }
    }
    let is_full = |member: &StoreMemberView| member.alarms.iter().any(|alarm| alarm.kind == AlarmKind::NoSpace);
    if !store.members.iter().any(is_full) {
        findings.extend(store.members.iter().filter_map(large));
    }
    findings.extend(versions(store));
    findings
}

/// How the store is, in one line; `None` if it has no members.
pub(super) fn head(store: &StoreView) -> Option<Vec<Cell>> {
    let largest = store.members.iter().map(|member| member.size).max()?;
    let all = store.members.len();
    let up = store.members.iter().filter(|member| member.error.is_none()).count();
    let members = if up == all { count(all, "member") } else { format!("{up} of {} answer", count(all, "member")) };
    let versions: BTreeSet<&str> = store.members.iter().map(|member| member.version.as_str()).collect();
    let versions: Vec<&str> = versions.into_iter().filter(|version| !version.is_empty()).collect();
    let leader = store.members.iter().find(|member| member.leads);
    let leader = leader.map_or("no leader".into(), |leader| format!("leader {}", leader.address));
    let well = findings(store).is_empty();
    let mark = if well { Cell::new("●", Tone::Good) } else { Cell::new("×", Tone::Bad) };
    let text = format!("etcd {}: {members}; {leader}; {} MiB", versions.join(", "), largest.div_ceil(MIB));
    Some(vec![mark, Cell::plain(text)])
}

fn finding(problem: Problem, address: &str, text: String) -> Finding {
    Finding { problem, name: format!("etcd at {address}"), host: String::new(), text, since: 0 }
}

fn of_alarm(alarm: &StoreAlarm, address: &str) -> Finding {
    let (problem, text) = match alarm.kind {
        AlarmKind::NoSpace => {
            (Problem::StoreFull, "its database has reached its quota: nothing in the cluster can be changed".into())
        }
        AlarmKind::Corrupt => (Problem::StoreCorrupt, "its database differs from that of the other members".into()),
        AlarmKind::Other => (Problem::StoreAlarm, format!("it says: {}", alarm.text)),
    };
    finding(problem, address, text)
}

fn silent(member: &StoreMemberView) -> Option<Finding> {
    let error = member.error.as_ref()?;
    Some(finding(Problem::StoreSilent, &member.address, format!("it {error}")))
}

fn large(member: &StoreMemberView) -> Option<Finding> {
    let quota = member.quota.unwrap_or(QUOTA);
    if member.size < quota / 100 * LARGE_PERCENT {
        return None;
    }
    let (size, in_use, quota) = (member.size / MIB, member.in_use / MIB, quota / MIB);
    let by_default = if member.quota.is_some() { "its quota" } else { "etcd's default quota" };
    let text = format!("its database has {size} MiB, {in_use} MiB of it in use; {by_default} is {quota} MiB");
    Some(finding(Problem::StoreLarge, &member.address, text))
}

fn versions(store: &StoreView) -> Option<Finding> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    let answer = store.members.iter().filter(|member| !member.version.is_empty());
    answer.for_each(|member| *versions.entry(&member.version).or_default() += 1);
    if versions.len() < 2 {
        return None;
    }
    let each: Vec<String> =
        versions.iter().map(|(version, members)| format!("{} with {version}", count(*members, "member"))).collect();
    let (name, host) = ("etcd".into(), String::new());
    let text = format!("its members have different versions: {}", each.join(", "));
    Some(Finding { problem: Problem::Versions, name, host, text, since: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u64) -> StoreMemberView {
        StoreMemberView {
            address: format!("10.0.0.{number}:2379"),
            id: format!("{number:x}"),
            version: "3.5.16".into(),
            leads: number == 1,
            size: 25 * MIB,
            in_use: 20 * MIB,
            ..Default::default()
        }
    }

    fn told(members: &[StoreMemberView]) -> Vec<(Problem, String, String)> {
        let found = findings(&StoreView { members: members.to_vec(), daemon: None });
        found.into_iter().map(|finding| (finding.problem, finding.name, finding.text)).collect()
    }

    fn alarm(kind: AlarmKind, member: &str, text: &str) -> StoreAlarm {
        StoreAlarm { kind, member: member.into(), text: text.into() }
    }

    #[test]
    fn a_healthy_store_needs_nobody() {
        let members = [member(1), member(2), member(3)];
        assert_eq!(told(&members), []);
        let line = head(&StoreView { members: members.into(), daemon: None }).unwrap();
        assert_eq!(line[1], Cell::plain("etcd 3.5.16: 3 members; leader 10.0.0.1:2379; 25 MiB"));
        assert_eq!((told(&[]), head(&StoreView::default())), (vec![], None));
    }

    #[test]
    fn an_alarm_is_told_once_and_with_the_address_of_its_member() {
        let mut members = [member(1), member(2), member(3)];
        for member in &mut members[..2] {
            member.alarms = vec![alarm(AlarmKind::NoSpace, "3", "memberID:3 alarm:NOSPACE")];
            member.size = QUOTA;
        }
        let found = told(&members);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].0, found[0].1.as_str()), (Problem::StoreFull, "etcd at 10.0.0.3:2379"));
        // A member that this host doesn't know is named by its id.
        members[1].alarms = vec![alarm(AlarmKind::Corrupt, "8e9e", "memberID:36510 alarm:CORRUPT")];
        assert_eq!(told(&members)[1].1, "etcd at 8e9e");
    }

    #[test]
    fn other_errors_are_told_for_each_member() {
        let mut members = [member(1), member(2)];
        for member in &mut members {
            member.alarms = vec![alarm(AlarmKind::Other, "", "it is odd")];
        }
        let names: Vec<String> = told(&members).into_iter().map(|(_, name, _)| name).collect();
        assert_eq!(names, ["etcd at 10.0.0.1:2379", "etcd at 10.0.0.2:2379"]);
    }

    #[test]
    fn a_silent_member_a_large_database_and_different_versions_need_a_person() {
        let mut silent = StoreMemberView { address: "10.0.0.3:2379".into(), ..Default::default() };
        silent.error = Some("refuses connections".into());
        let mut members = [member(1), member(2), silent];
        (members[0].size, members[1].version) = (1700 * MIB, "3.6.0".into());
        let found = told(&members);
        let text = |problem| &found.iter().find(|(found, ..)| *found == problem).unwrap().2;
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(text(Problem::StoreSilent), "it refuses connections");
        assert_eq!(
            text(Problem::StoreLarge),
            "its database has 1700 MiB, 20 MiB of it in use; etcd's default quota is 2048 MiB"
        );
        let versions = "its members have different versions: 1 member with 3.5.16, 1 member with 3.6.0";
        assert_eq!(text(Problem::Versions), versions);
        let line = head(&StoreView { members: members.clone().into(), daemon: None }).unwrap();
        let line = format!("{line:?}");
        assert!(line.contains("2 of 3 members answer; leader 10.0.0.1:2379; 1700 MiB"), "{line}");
        // With a larger quota it isn't large.
        members[0].quota = Some(8 << 30);
        assert!(!told(&members).iter().any(|(problem, ..)| *problem == Problem::StoreLarge));
    }
}
