//! Follows a rollout until it has ended, or waits for a person. Owns the lines about what has happened; the leader
//! decides how it goes on.

pub(in crate::cli) mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::api::client::{ClientError, Follow, For, News, progress_of};
use crate::api::wire::{
    Applied, AppliedUnit, MachineRef, Outcome, OvertakenView, Progress, RolloutHook, RolloutLine, RolloutList,
    RolloutMember, RolloutView, UnitView,
};
use crate::cli::error::Exit;
use crate::cli::follow::{LAST_LINES, current, interrupted, unavailable, until};
use crate::cli::input::names;
use crate::cli::limit::Limit;
use crate::cli::output::people::seconds;
use crate::cli::session::Session;
use crate::cli::wait::{Goal, Observed, progress};
use crate::journal::{Tail, journal_tail};
use crate::model::file::UnitFile;
use crate::model::name::{UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::rollout::{MemberName, Phase, policy};

/// How often a terminal is told how long it has been going on.
const TICK: Duration = Duration::from_secs(1);

/// How long it may take until the leader has begun a rollout, and how often it is looked for.
const BEGIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// Rollouts, by set or unit.
type Wanted = BTreeMap<UnitName, Brought>;

/// What a rollout brings.
#[derive(Debug, Default, PartialEq, Eq)]
struct Brought {
    /// The hashes of the files of the set or unit, and of its riders.
    files: BTreeMap<UnitName, UnitHash>,
    /// Whether one of them restarts what has it. Others are rolled out only if they no longer fit a host.
    restarts: bool,
}

/// The rollouts that bring sets and units their new files, if they run.
fn rolled(applied: &Applied, texts: &BTreeMap<String, String>) -> Wanted {
    let new = |unit: &&AppliedUnit| unit.retries || (unit.outcome == Outcome::Replaced && !unit.comments);
    let file = |unit: &AppliedUnit| {
        let file = UnitFile::parse(texts.get(unit.name.as_str())?.as_bytes()).ok()?;
        let has_section = file.section(policy::SECTION).next().is_some();
        let lead = Constraints::parse(&file).ok().and_then(|file| file.replicas?.lead().cloned());
        let is_rolled = unit.replicas.is_some() || (has_section && !unit.name.is_template());
        let rollout = lead.filter(|_| unit.replicas.is_some() && !has_section).unwrap_or_else(|| unit.name.clone());
        let restarts = unit.retries || !unit.same_body;
        is_rolled.then(|| (unit.name.clone(), (rollout, file.hash(), restarts)))
    };
    let found: BTreeMap<UnitName, (UnitName, UnitHash, bool)> =
        applied.units.iter().filter(new).filter_map(file).collect();
    // A member with the file of its set takes part in the rollout of that.
    let of_set = |name: &UnitName, hash: &UnitHash| {
        name.set().and_then(|template| found.get(&template)).is_some_and(|(_, of_set, _)| of_set == hash)
    };
    let mut wanted = Wanted::new();
    for (name, (rollout, hash, restarts)) in found.iter().filter(|(name, (_, hash, _))| !of_set(name, hash)) {
        let brought = wanted.entry(rollout.clone()).or_default();
        brought.files.insert(name.clone(), hash.clone());
        brought.restarts |= restarts;
    }
    wanted
}

/// The rollouts that a request has begun: those that are `wanted`, at one revision. A set that doesn't run has none,
/// and neither has a cluster whose leader is of an earlier version.
///
/// This asks until they have begun, usually once or twice, or until the `goals` are reached without them. A stream
/// can't say that none begins, so it would have to be waited for as long, and the lists must be of one revision, from
/// which each rollout is then watched.
///
/// # Errors
/// See [`ClientError`].
async fn begun(session: &Session, wanted: &Wanted, goals: &[Goal]) -> Result<RolloutList, ClientError> {
    let patterns: Vec<String> = wanted.keys().map(names::exactly).collect();
    let deadline = Instant::now() + BEGIN;
    let (mut found, mut pause, mut is_over) = (RolloutList::default(), LOOK, false);
    let brings = |view: &RolloutView, name: &UnitName, hash: &UnitHash| {
        let rider = view.riders.iter().find(|rider| rider.name == *name).map(|rider| &rider.target);
        rider.or((view.name == *name).then_some(&view.target)) == Some(hash)
    };
    let is_wanted = |view: &RolloutView| {
        wanted.get(&view.name).is_some_and(|it| it.files.iter().all(|(name, hash)| brings(view, name, hash)))
    };
    while !wanted.is_empty() {
        found = match session.client.rollouts(&patterns).await {
            Ok(list) => list,
            // A fleetd of an earlier version knows no rollouts.
            Err(ClientError::Api(detail)) if detail.code == 404 => return Ok(RolloutList::default()),
            Err(error) => return Err(error),
        };
        found.rollouts.retain(&is_wanted);
        if is_over || found.rollouts.len() == wanted.len() || Instant::now() >= deadline {
            break;
        }
        sleep(pause).await;
        pause *= 2;
        // A rollout is written no later than what its members are told.
        is_over = are_reached(session, goals).await?;
    }
    Ok(found)
}

/// Whether all `goals` are reached, of which there are any: no gate holds a unit back.
async fn are_reached(session: &Session, goals: &[Goal]) -> Result<bool, ClientError> {
    if goals.is_empty() {
        return Ok(false);
    }
    let names: Vec<String> = goals.iter().map(|goal| names::exactly(&goal.name)).collect();
    let units = session.client.units(&names).await?.units;
    let units: BTreeMap<UnitName, UnitView> = units.into_iter().map(|unit| (unit.name.clone(), unit)).collect();
    Ok(goals.iter().all(|goal| {
        let Some(unit) = units.get(&goal.name) else { return false };
        let unit = UnitView { progress: Some(progress_of(unit, Some(goal.operation))), ..unit.clone() };
        matches!(progress(goal, Observed::There(&unit)), Progress::Done | Progress::Settling)
    }))
}

/// How following a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Followed {
    /// It is a failure if the file failed, and none if it waits for promotion.
    pub(in crate::cli) exit: Exit,
    /// Whether the rollout is over.
    over: bool,
}

/// Follow a rollout, which was as in `view` at `revision`, at most `limit`.
///
/// # Errors
/// See [`ClientError`]. An unreachable `fleetd` is waited for.
pub(in crate::cli) async fn follow(
    session: &Session,
    (view, revision): (RolloutView, Revision),
    limit: Limit,
) -> Result<Followed, ClientError> {
    let name = view.name.clone();
    let (deadline, began) = (limit.deadline(), Instant::now());
    let mut interrupts = signal(SignalKind::interrupt()).ok();
    let mut story = Story::default();
    let mut watch = Watched::new(session, &name, revision);
    let mut latest = view;
    loop {
        if let Some(exit) = story.report(session, &latest, began.elapsed()).await {
            return Ok(Followed { exit, over: latest.phase.is_over() });
        }
        tokio::select! {
            view = watch.next() => match view? {
                Some(view) => latest = view,
                None => {
                    session.out.message(&format!("{name} was destroyed, and its rollout with it"));
                    return Ok(Followed { exit: Exit::Failure, over: true });
                }
            },
            () = sleep(TICK) => {}
            () = until(deadline) => {
                session.out.message(&format!("{name}: not done in time; the cluster goes on with its rollout"));
                return Ok(Followed { exit: Exit::Failure, over: false });
            }
            () = interrupted(interrupts.as_mut()) => {
                session.out.message(&format!("{name}: the cluster goes on; `fleetctl rollout {name}` shows how far"));
                return Ok(Followed { exit: Exit::Interrupted, over: false });
            }
        }
    }
}

/// A rollout as it changes.
struct Watched<'a> {
    session: &'a Session,
    lines: Follow<'a, RolloutLine>,
    /// What is older has been seen already.
    revision: Revision,
    /// What this stream has sent before it was complete.
    first: Option<RolloutView>,
    is_synced: bool,
}

impl<'a> Watched<'a> {
    fn new(session: &'a Session, name: &UnitName, revision: Revision) -> Self {
        let lines = session.client.follow_rollouts(&[names::exactly(name)], For::APerson);
        Self { session, lines, revision, first: None, is_synced: false }
    }

    /// The next state; `None` if there is no such rollout any more. Cancel-safe.
    ///
    /// # Errors
    /// As [`Follow::next`].
    async fn next(&mut self) -> Result<Option<RolloutView>, ClientError> {
        loop {
            match self.lines.next().await? {
                News::Line(RolloutLine::Rollout(view)) if self.is_synced => return Ok(Some(*view)),
                News::Line(RolloutLine::Rollout(view)) => self.first = Some(*view),
                News::Line(RolloutLine::Removed(_)) => return Ok(None),
                // The fleetd may lag behind the one that was asked before.
                News::Line(RolloutLine::Synced(revision)) if revision < self.revision => {
                    self.lines.reopen(unavailable("fleetd has yet to see what was asked of it".into()))?;
                }
                News::Line(RolloutLine::Synced(_)) => {
                    self.is_synced = true;
                    return Ok(self.first.take());
                }
                // Their user reopens such a stream.
                News::Line(RolloutLine::Error(_)) => {}
                News::Begun | News::Broken => (self.first, self.is_synced) = (None, false),
                outage @ (News::Lost(_) | News::Back) => current::report(self.session, &outage),
            }
        }
    }
}

/// Follow the rollouts that a request has begun, one after the other, and drop the `goals` of their members, for which
/// nothing else is waited. They stay for programs, which are told how each member ended. The request was answered with
/// `applied`, and had these texts for the units that it names.
///
/// # Errors
/// See [`follow`].
pub(in crate::cli) async fn follow_begun(
    session: &Session,
    (applied, texts): (&Applied, &BTreeMap<String, String>),
    goals: &mut Vec<Goal>,
    limit: Limit,
) -> Result<Exit, ClientError> {
    let mut exit = Exit::Ok;
    let wanted = rolled(applied, texts);
    let RolloutList { revision, rollouts } = begun(session, &wanted, goals).await?;
    // Files that restart nothing and fit are done as soon as they are asked for. The hosts have yet to write them.
    let is_nothing = |view: &RolloutView| view.phase == Phase::Done && !wanted[&view.name].restarts;
    for view in rollouts.into_iter().filter(|view| !is_nothing(view)) {
        let riders = view.members.iter().flat_map(|member| &member.riders).map(|unit| unit.name.clone());
        let members: Vec<UnitName> = view.members.iter().map(|member| member.name.clone()).chain(riders).collect();
        let ended = follow(session, (view, revision), limit).await?;
        if !(session.is_json() && ended.over) {
            goals.retain(|goal| !members.contains(&goal.name));
        }
        exit = exit.and(ended.exit);
    }
    Ok(exit)
}

/// How following ends with the rollout as it is, if it does.
pub(in crate::cli) fn end(view: &RolloutView) -> Option<Exit> {
    if is_asked(view) {
        return None;
    }
    match view.phase {
        Phase::Done | Phase::Waiting => Some(Exit::Ok),
        Phase::Reverted | Phase::Stuck => Some(Exit::Failure),
        // It isn't a person who has paused it.
        Phase::Paused if view.why.is_some() => Some(Exit::Failure),
        Phase::Before | Phase::Canary | Phase::Rolling | Phase::After | Phase::Paused | Phase::Reverting => None,
    }
}

/// Whether something was asked of it that the leader has yet to act on.
fn is_asked(view: &RolloutView) -> bool {
    view.ask.as_ref().is_some_and(|ask| !ask.heeded)
}

/// The last line of a terminal while it goes on.
fn doing(view: &RolloutView, time: Duration) -> String {
    format!("{}: {}, {}, {}", view.name, view.phase, reached(view), seconds(time))
}

/// `2 of 3 have 5b1e0b2`.
pub(in crate::cli) fn reached(view: &RolloutView) -> String {
    let have = own(view).filter(|member| files::is_new(view, member)).count();
    let verb = if have == 1 { "has" } else { "have" };
    format!("{have} of {} {verb} {}", own(view).count(), files::names(view).0)
}

/// The members that are no spares.
fn own(view: &RolloutView) -> impl Iterator<Item = &RolloutMember> {
    view.members.iter().filter(|member| !member.spare)
}

/// `web@3.service on n1`.
fn place(member: &RolloutMember) -> String {
    let host = member.machine.as_ref().map(MachineRef::name);
    let spare = if member.spare { " (spare)" } else { "" };
    host.map_or_else(|| member.name.to_string(), |host| format!("{}{spare} on {host}", member.name))
}

/// `web-migrate.service on n2: done (3.4 s)`, or that it runs, or is about to.
pub(in crate::cli) fn hook(hook: &RolloutHook) -> String {
    let host = hook.machine.as_ref().map(|machine| format!(" on {}", machine.name())).unwrap_or_default();
    match hook.took {
        Some(took) => format!("{}{host}: done ({}.{} s)", hook.name, took / 1000, took % 1000 / 100),
        None => format!("{}{host}: runs", hook.name),
    }
}

/// The last lines of a journal.
enum Quote<'a> {
    /// Those that the unit's host has reported.
    Reported(&'a [String]),
    /// Those that have to be read there.
    Journal(Tail<'a>),
}

/// What was said of a rollout so far.
#[derive(Debug, Default)]
struct Story {
    phase: Option<Phase>,
    /// The files that it brings.
    targets: Vec<UnitHash>,
    /// Why it doesn't go on, or whom it doesn't wait for.
    why: Option<String>,
    members: BTreeMap<MemberName, Seen>,
    /// How many hooks have been told of.
    hooks: usize,
    /// The hosts of the members and of hooks. That of a spare is needed when it has gone away.
    hosts: BTreeMap<MemberName, MachineRef>,
    /// The member whose failure has been told, to be shown with its journal.
    quoted: Option<MemberName>,
    /// Whether lines of that have been shown.
    has_lines: bool,
}

/// What distinguishes a member from the others.
fn name_of(member: &RolloutMember) -> MemberName {
    let host = member.machine.as_ref().filter(|_| member.global).map(|machine| machine.id.clone());
    MemberName { unit: member.name.clone(), host }
}

/// A member, with the units that ride with it, as it was last seen.
#[derive(Debug, Clone)]
struct Seen {
    hashes: Vec<UnitHash>,
    ready: bool,
    /// When it got these files, since the story began; `None` if that was before.
    given: Option<Duration>,
    /// Whether it is a spare that no host fits.
    left_out: bool,
}

impl Story {
    /// Say what has happened since the last view. How following ends, if it does.
    async fn report(&mut self, session: &Session, view: &RolloutView, time: Duration) -> Option<Exit> {
        let said = self.continued(view, time);
        said.iter().for_each(|line| session.line(line));
        if let Some(quote) = self.unquoted(view).filter(|_| !session.is_json()) {
            let read = match &quote {
                Quote::Reported(lines) => lines.to_vec(),
                Quote::Journal(tail) => journal_tail(&session.hosts, tail).await,
            };
            read.iter().for_each(|line| session.line(&format!("  {line}")));
            self.has_lines = !read.is_empty();
        }
        session.out.progress(&[], &doing(view, time));
        end(view)
    }

    /// A line for each thing that has happened since the last view; `time` has passed since the first.
    fn continued(&mut self, view: &RolloutView, time: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        let begins = self.targets != files::targets(view);
        if begins && !view.phase.is_over() {
            lines.push(format!("{}: rolling out {}", view.name, files::all(view)));
            lines.extend(view.overtook.as_ref().map(|overtook| overtaken(&view.name, overtook)));
        }
        let changed = self.phase != Some(view.phase) || begins;
        lines.extend(self.of_hooks(view, begins));
        if matches!(view.phase, Phase::Canary | Phase::Rolling) && view.why != self.why {
            lines.extend(view.why.as_ref().map(|why| format!("{}: {why}", view.name)));
        }
        self.why.clone_from(&view.why);
        if changed && matches!(view.phase, Phase::Reverting | Phase::Paused) {
            lines.push(turned(view));
        }
        for member in &view.members {
            self.hosts.extend(member.machine.clone().map(|machine| (name_of(member), machine)));
            lines.extend(self.of_member(view, member, time));
        }
        let there: BTreeSet<MemberName> = view.members.iter().map(name_of).collect();
        self.members.retain(|name, _| there.contains(name));
        if changed && !matches!(view.phase, Phase::Reverting | Phase::Paused) {
            lines.extend(ended(view, time));
        }
        (self.phase, self.targets) = (Some(view.phase), files::targets(view));
        lines
    }

    /// What to show of the journal of the member that has failed, up to when it did; once for each failure. Its host
    /// may report the lines later, when they couldn't be read.
    fn unquoted<'a>(&'a mut self, view: &'a RolloutView) -> Option<Quote<'a>> {
        let host = view.failed_on.as_ref().map(|machine| machine.id.clone());
        let failed = view.failed.clone().map(|unit| MemberName { unit, host });
        let is_told = self.quoted == failed;
        if is_told && (self.has_lines || view.lines.is_empty()) {
            return None;
        }
        self.quoted.clone_from(&failed);
        let (unit, failed) = (view.failed.as_ref()?, failed?);
        self.has_lines = !view.lines.is_empty();
        if self.has_lines {
            return Some(Quote::Reported(&view.lines));
        }
        let machine = self.hosts.get(&failed)?;
        let (since, until) = (view.began, Some(view.since));
        Some(Quote::Journal(Tail { unit, machine, since, until, count: LAST_LINES }))
    }

    /// A line for each hook that has ended well since the last view.
    fn of_hooks(&mut self, view: &RolloutView, begins: bool) -> Vec<String> {
        for hook in &view.hooks {
            self.hosts.extend(hook.machine.clone().map(|machine| (hook.name.clone().into(), machine)));
        }
        let ended: Vec<&RolloutHook> = view.hooks.iter().filter(|hook| hook.took.is_some()).collect();
        // It may have been tried again.
        let reported = if begins { 0 } else { self.hooks.min(ended.len()) };
        self.hooks = ended.len();
        ended[reported..].iter().map(|ended| hook(ended)).collect()
    }

    fn of_member(&mut self, view: &RolloutView, member: &RolloutMember, time: Duration) -> Option<String> {
        let name = name_of(member);
        let before = self.members.get(&name).cloned();
        let (hashes, ready, is_new) = (files::hashes(member), files::is_ready(member), files::is_new(view, member));
        let same = before.as_ref().is_some_and(|before| before.hashes == hashes);
        // One that is first seen on its way has just been let through.
        let on_its_way = before.is_none() && is_new && !ready;
        let given = match &before {
            Some(before) if same => before.given,
            Some(_) => Some(time),
            None => on_its_way.then_some(time),
        };
        let left_out = member.spare && member.machine.is_none() && member.why.is_some();
        let seen = Seen { hashes, ready, given, left_out };
        self.members.insert(name, seen);
        if left_out && !before.as_ref().is_some_and(|before| before.left_out) {
            let why = member.why.as_deref().unwrap_or_default();
            return Some(format!("{}: goes on without the spare {}: {why}", view.name, member.name));
        }
        let before = before?;
        if ready && !(same && before.ready) && given.is_some() {
            let after = given.map(|given| time.saturating_sub(given).as_secs_f64()).unwrap_or_default();
            let again = if is_new { "" } else { " with the file before" };
            return Some(format!("{}: ready{again} after {after:.1} s", place(member)));
        }
        None
    }
}

/// `web@.service: takes the place of 5b1e0b2, which had reached 1 of 5`.
fn overtaken(name: &UnitName, OvertakenView { target, reached, members }: &OvertakenView) -> String {
    format!("{name}: takes the place of {}, which had reached {reached} of {members}", target.short())
}

/// A rollout that doesn't go on as it should.
fn turned(view: &RolloutView) -> String {
    let (name, (target, from)) = (&view.name, files::names(view));
    let why = view.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match view.phase {
        Phase::Reverting => format!("{name}: {target} failed{why}; going back to {from}"),
        _ => format!("{name}: paused{why}; `fleetctl rollout {name} resume` goes on"),
    }
}

/// A rollout that has come to an end, or waits.
fn ended(view: &RolloutView, time: Duration) -> Option<String> {
    let (name, (target, from)) = (&view.name, files::names(view));
    let why = view.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let all = own(view).count();
    let ready = own(view).filter(|member| files::is_ready(member)).count();
    Some(match view.phase {
        _ if is_asked(view) => return None,
        Phase::Done => format!("{name}: {target} runs on {ready} of {all} ({})", seconds(time)),
        Phase::Waiting => {
            format!("{name}: {}, and it waits for promotion; `fleetctl rollout {name} promote` goes on", reached(view))
        }
        Phase::Reverted => format!("{name}: {target} failed{why}; {from} runs on {ready} of {all}"),
        Phase::Stuck => format!("{name}: {target} failed, and {from} doesn't run either{why}"),
        Phase::Before | Phase::Canary | Phase::Rolling | Phase::After | Phase::Paused | Phase::Reverting => {
            return None;
        }
    })
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use serde_json::json;

    use super::*;

    /// A rollout from `aa` to `bb`; a member is `name host hash ready|unready`, and `spare` or `global` for one; `-` is
    /// no host.
    pub(in crate::cli) fn view(phase: &str, why: Option<&str>, members: &[&str]) -> RolloutView {
        let member = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let id = format!("{:0>32}", words[1].trim_start_matches(['n', '-']));
            let machine = json!({ "id": id, "ip": "10.0.0.1", "hostname": words[1] });
            let mut member = json!({
                "name": words[0], "hash": words[2], "ready": words[3] == "ready", "since": 60_000,
                "spare": words.contains(&"spare"), "global": words.contains(&"global"),
            });
            match words[1] {
                "-" => member["why"] = json!("2 of 2 hosts: conflict"),
                _ => member["machine"] = machine,
            }
            member
        };
        let members: Vec<_> = members.iter().map(member).collect();
        serde_json::from_value(json!({
            "name": "web@.service", "target": "bb", "from": "aa", "phase": phase, "since": 60_000, "began": 60_000,
            "why": why, "accepts": [], "members": members,
        }))
        .unwrap()
    }

    fn lines_of(views: &[RolloutView]) -> Vec<String> {
        let mut story = Story::default();
        let mut time = Duration::ZERO;
        let mut lines = Vec::new();
        for view in views {
            lines.extend(story.continued(view, time));
            time += Duration::from_secs(2);
        }
        lines
    }

    const OLD: [&str; 2] = ["web@1.service n1 aa ready", "web@2.service n2 aa ready"];

    #[test]
    fn a_good_rollout_is_told_member_by_member() {
        let views = [
            view("rolling", None, &OLD),
            view("rolling", None, &[OLD[0], "web@2.service n2 bb unready"]),
            view("rolling", None, &[OLD[0], "web@2.service n2 bb ready"]),
            view("rolling", None, &["web@1.service n1 bb ready", "web@2.service n2 bb ready"]),
            view("done", None, &["web@1.service n1 bb ready", "web@2.service n2 bb ready"]),
        ];
        let expected = [
            "web@.service: rolling out bb, before it aa",
            "web@2.service on n2: ready after 2.0 s",
            "web@1.service on n1: ready after 0.0 s",
            "web@.service: bb runs on 2 of 2 (8 s)",
        ];
        assert_eq!(lines_of(&views), expected);
        assert_eq!(end(&views[4]), Some(Exit::Ok));
        assert_eq!(views[..4].iter().filter_map(end).count(), 0);
    }

    #[test]
    fn hooks_are_told_of_when_they_have_ended() {
        let hooked = |phase: &str, why: Option<&str>, members: &[&str], hooks: &[(&str, Option<u64>)]| {
            let hook = |(name, took): &(&str, Option<u64>)| {
                let machine = json!({ "id": "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a", "ip": "10.0.0.1", "hostname": "n2" });
                json!({ "name": name, "machine": machine, "since": 60_000, "took": took })
            };
            let hooks = json!(hooks.iter().map(hook).collect::<Vec<_>>());
            RolloutView { hooks: serde_json::from_value(hooks).unwrap(), ..view(phase, why, members) }
        };
        let (migrate, smoke) = ("web-migrate.service", "web-smoke.service");
        let done = (migrate, Some(3_450));
        let new = ["web@1.service n1 bb ready"];
        let views = [
            hooked("before", None, &[OLD[0]], &[(migrate, None)]),
            hooked("rolling", None, &[OLD[0]], &[done]),
            hooked("after", None, &new, &[done, (smoke, None)]),
            hooked("done", None, &new, &[done, (smoke, Some(900))]),
        ];
        let expected = [
            "web@.service: rolling out bb, before it aa",
            "web-migrate.service on n2: done (3.4 s)",
            "web@1.service on n1: ready after 0.0 s",
            "web-smoke.service on n2: done (0.9 s)",
            "web@.service: bb runs on 1 of 1 (6 s)",
        ];
        assert_eq!(lines_of(&views), expected);
        assert_eq!((end(&views[0]), end(&views[2])), (None, None));
        assert_eq!(hook(&views[0].hooks[0]), "web-migrate.service on n2: runs");
        let why = Some("web-migrate.service failed on n2: exited 1");
        let views = [hooked("before", None, &[OLD[0]], &[(migrate, None)]), hooked("reverted", why, &[OLD[0]], &[])];
        let failed = "web@.service: bb failed: web-migrate.service failed on n2: exited 1; aa runs on 1 of 1";
        assert_eq!(lines_of(&views)[1], failed);
    }

    #[test]
    fn spares_are_told_of_and_not_counted() {
        let (new, ready) = ("web@2.service n2 bb unready spare", "web@2.service n2 bb ready spare");
        let views = [
            view("rolling", None, &[OLD[0]]),
            view("rolling", None, &[OLD[0], new, "web@3.service - bb unready spare"]),
            view("rolling", None, &[OLD[0], ready, "web@3.service - bb unready spare"]),
            view("rolling", None, &["web@1.service n1 bb ready", ready]),
            view("done", None, &["web@1.service n1 bb ready"]),
        ];
        let expected = [
            "web@.service: rolling out bb, before it aa",
            "web@.service: goes on without the spare web@3.service: 2 of 2 hosts: conflict",
            "web@2.service (spare) on n2: ready after 2.0 s",
            "web@1.service on n1: ready after 0.0 s",
            "web@.service: bb runs on 1 of 1 (8 s)",
        ];
        assert_eq!(lines_of(&views), expected);
        assert_eq!(reached(&views[2]), "0 of 1 have bb");
    }

    #[test]
    fn the_hosts_of_a_global_unit_are_members() {
        let member = |host: u32, how: &str| format!("agent.service n{host} {how} global");
        let view = |phase: &str, why: Option<&str>, how: [&str; 2]| {
            let members = [member(1, how[0]), member(2, how[1])];
            let name = "agent.service".parse().unwrap();
            RolloutView { name, ..view(phase, why, &members.each_ref().map(String::as_str)) }
        };
        let why = Some("agent.service failed on n2: core-dump");
        let mut failed = view("reverting", why, ["aa unready", "bb unready"]);
        failed.failed = Some("agent.service".parse().unwrap());
        failed.failed_on = failed.members[1].machine.clone();
        let views = [
            view("rolling", None, ["aa ready", "aa ready"]),
            view("rolling", None, ["bb unready", "aa ready"]),
            view("rolling", None, ["bb ready", "aa ready"]),
            view("rolling", None, ["bb ready", "bb unready"]),
            failed,
            view("reverted", why, ["aa ready", "aa ready"]),
        ];
        let expected = [
            "agent.service: rolling out bb, before it aa",
            "agent.service on n1: ready after 2.0 s",
            "agent.service: bb failed: agent.service failed on n2: core-dump; going back to aa",
            "agent.service on n1: ready with the file before after 2.0 s",
            "agent.service on n2: ready with the file before after 0.0 s",
            "agent.service: bb failed: agent.service failed on n2: core-dump; aa runs on 2 of 2",
        ];
        assert_eq!(lines_of(&views), expected);
        let mut story = Story::default();
        story.continued(&views[4], Duration::ZERO);
        let Some(Quote::Journal(tail)) = story.unquoted(&views[4]) else { panic!("nobody has reported it") };
        assert_eq!((tail.unit.as_str(), tail.machine.hostname.as_str()), ("agent.service", "n2"));
    }

    #[test]
    fn a_bad_one_says_why_and_where_it_went_back_to() {
        let why = Some("web@2.service on n2: failed (failed)");
        let views = [
            view("rolling", None, &[OLD[0], "web@2.service n2 bb unready"]),
            view("reverting", why, &[OLD[0], "web@2.service n2 aa unready"]),
            view("reverting", why, &OLD),
            view("reverted", why, &OLD),
        ];
        let expected = [
            "web@.service: rolling out bb, before it aa",
            "web@.service: bb failed: web@2.service on n2: failed (failed); going back to aa",
            "web@2.service on n2: ready with the file before after 2.0 s",
            "web@.service: bb failed: web@2.service on n2: failed (failed); aa runs on 2 of 2",
        ];
        assert_eq!(lines_of(&views), expected);
        assert_eq!(end(&views[3]), Some(Exit::Failure));
    }

    #[test]
    fn the_journal_of_the_member_that_failed_is_shown_once() {
        let mut bad = view("reverting", Some("web@2.service failed on n2: core-dump"), &OLD);
        let mut story = Story::default();
        story.continued(&bad, Duration::ZERO);
        assert!(story.unquoted(&bad).is_none());
        bad.failed = Some("web@2.service".parse().unwrap());
        // A spare is no longer there.
        bad.members.pop();
        let Some(Quote::Journal(tail)) = story.unquoted(&bad) else { panic!("nobody has reported it") };
        let machine = tail.machine.hostname.as_str();
        assert_eq!((tail.unit.as_str(), machine, tail.until), ("web@2.service", "n2", Some(60_000)));
        bad.phase = Phase::Reverted;
        assert!(story.unquoted(&bad).is_none());
        // It was tried again, and has failed again.
        bad.failed = None;
        assert!(story.unquoted(&bad).is_none());
        bad.failed = Some("web@2.service".parse().unwrap());
        bad.lines = vec!["web[9]: no such table".into()];
        let reported = story.unquoted(&bad);
        assert!(matches!(reported, Some(Quote::Reported(lines)) if lines == bad.lines));
        assert!(story.unquoted(&bad).is_none());
        // Its host couldn't be asked, and reports the lines later.
        let (mut story, late) = (Story::default(), bad.clone());
        bad.lines.clear();
        story.continued(&view("rolling", None, &OLD), Duration::ZERO);
        assert!(matches!(story.unquoted(&bad), Some(Quote::Journal(_))) && story.unquoted(&bad).is_none());
        assert!(matches!(story.unquoted(&late), Some(Quote::Reported(lines)) if lines == late.lines));
        assert!(story.unquoted(&late).is_none());
    }

    #[test]
    fn who_is_overtaken_and_who_isnt_waited_for_is_told_once() {
        let mut first = view("rolling", None, &OLD);
        first.overtook = Some(OvertakenView { target: UnitHash::new("cc"), reached: 1, members: 5 });
        let why = "web@2.service isn't waited for: its host has carried out nothing for 10 min";
        let goes_on = RolloutView { why: Some(why.into()), ..first.clone() };
        let expected = [
            "web@.service: rolling out bb, before it aa",
            "web@.service: takes the place of cc, which had reached 1 of 5",
            &format!("web@.service: {why}"),
        ];
        assert_eq!(lines_of(&[first.clone(), first, goes_on.clone(), goes_on]), expected);
    }

    #[test]
    fn one_that_waits_says_what_goes_on() {
        let canary = [OLD[0], "web@2.service n2 bb ready"];
        let lines = lines_of(&[view("waiting", None, &canary)]);
        let waits = "web@.service: 1 of 2 has bb, and it waits for promotion; \
                     `fleetctl rollout web@.service promote` goes on";
        assert_eq!(lines, ["web@.service: rolling out bb, before it aa", waits]);
        // Somebody has just promoted it.
        let mut promoted = view("waiting", None, &canary);
        promoted.ask = serde_json::from_value(json!({ "what": "promote", "heeded": false })).unwrap();
        assert_eq!((end(&promoted), lines_of(&[promoted]).len()), (None, 1));
        let paused = view("paused", Some("web@2.service on n2: failed"), &canary);
        assert_eq!(
            lines_of(std::slice::from_ref(&paused))[1],
            "web@.service: paused: web@2.service on n2: failed; `fleetctl rollout web@.service resume` goes on"
        );
        assert_eq!((end(&paused), end(&view("paused", None, &canary))), (Some(Exit::Failure), None));
        let stuck = lines_of(&[view("stuck", Some("web@1.service on n1: failed"), &canary)]);
        assert_eq!(stuck, ["web@.service: bb failed, and aa doesn't run either: web@1.service on n1: failed"]);
    }
}
