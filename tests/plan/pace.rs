//! Properties of `plan::pace`: over random policies, good and bad files, hosts that go and come back, requests, members
//! that are added and removed, and leaders that begin anew. What a member does is played here, and what must hold is
//! computed here again, from the members alone.

use std::collections::BTreeMap;

use flotilla::model::file::UnitFile;
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::rollout::policy::Policy;
use flotilla::model::rollout::{Ask, File, HookRun, MemberName, Phase, Request, Rollout};
use flotilla::plan::pace::{Look, Member, MemberState, Step, Timers, advance};
use proptest::prelude::*;

const POLICIES: [&str; 18] = [
    "Parallel=1",
    "Parallel=2",
    "Parallel=50%",
    "Parallel=100%",
    "Canary=1",
    "Canary=40%\nPromote=auto",
    "Canary=1\nPromote=30\nParallel=2",
    "OnFailure=pause",
    "HealthySec=0\nDeadlineSec=5",
    "Spare=1",
    "Spare=50%\nParallel=2",
    "Spare=100%\nParallel=100%",
    "Spare=1\nCanary=2\nPromote=auto",
    "Spare=1\nOnFailure=pause",
    "Preview=yes\nCanary=1\nPromote=auto",
    "Before=a.service b.service\nCanary=1\nPromote=auto",
    "After=b.service\nParallel=2",
    "Before=a.service\nAfter=a.service\nSpare=1\nOnFailure=pause",
];

/// What a file does to the members that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// They are ready after a second.
    Good,
    /// They never are.
    Unready,
    /// They fail after a second.
    Fails,
    /// They are ready after a second, and fail 15 s later.
    FailsLater,
}

#[derive(Debug, Clone)]
enum Event {
    /// So many seconds pass, and members do what they do.
    Pass(u64),
    /// The host of a member dies, or comes back.
    Host(usize),
    /// A member loses its host, or gets one.
    Place(usize),
    /// A member with either file isn't ready any more, until it is again.
    Unready(usize),
    Ask(Request),
    /// Hosts have room for spares, or no longer.
    Room,
    /// The hosts of all spares die, or come back.
    SpareHosts,
    Add,
    Remove(usize),
    /// Hooks fail from now on, or no longer.
    Hooks,
    /// The record of the hook that runs is lost.
    LoseHook,
    /// Another leader: only the record says who has been healthy for long enough.
    Leader,
}

#[derive(Debug, Clone)]
struct Played {
    member: Member,
    /// Since when it has its file, or its host is back.
    since: u64,
    is_away: bool,
    is_unready: bool,
    /// Since when the leader has seen it healthy with this file on this host.
    healthy_since: Option<u64>,
    has_passed: bool,
}

struct World {
    rollout: Rollout,
    policy: Policy,
    new: Quality,
    members: BTreeMap<u32, Played>,
    /// By number, above those of all members when they were added.
    spares: BTreeMap<u32, Played>,
    /// Whether no host fits a spare.
    is_full: bool,
    /// The hook that runs.
    hook: Option<Played>,
    hooks_fail: bool,
    /// Whether it is a global unit, whose members are its hosts.
    is_global: bool,
    timers: Timers,
    ask: Option<Ask>,
    now: u64,
    wake: Option<u64>,
    /// Whether it failed, and nobody has asked for another attempt.
    is_spent: bool,
}

fn name(number: u32) -> MemberName {
    format!("web@{number}.service").parse::<UnitName>().unwrap().into()
}

impl World {
    /// The hosts of a global unit, of which the first `leaving` are to lose it.
    fn on_hosts(hosts: u32, leaving: u32, policy: &str, new: Quality) -> Self {
        let mut world = Self::new(hosts, policy, new);
        world.is_global = true;
        for (number, played) in &mut world.members {
            let unit = "agent.service".parse().unwrap();
            played.member.name = MemberName { unit, host: played.member.host.clone() };
            (played.member.hostname, played.member.leaves) = (Some(format!("n{number}")), *number <= leaving);
        }
        world
    }

    fn new(members: u32, policy: &str, new: Quality) -> Self {
        let text = format!("[Service]\nExecStart=/a\n[X-Rollout]\n{policy}\n");
        let policy = Policy::parse(&UnitFile::parse(text.as_bytes()).unwrap()).unwrap().unwrap();
        let before = File { hash: UnitHash::new("old"), text: None };
        let rollout = Rollout::begun(UnitHash::new("new"), before, Phase::Canary, 0);
        let (timers, members_of) =
            (Timers::default(), (1..=members).map(|number| (number, Played::new(number, true, 0))));
        let members = members_of.collect();
        let (spares, is_full, is_global) = (BTreeMap::new(), false, false);
        Self {
            rollout,
            policy,
            new,
            members,
            spares,
            is_full,
            hook: None,
            hooks_fail: false,
            is_global,
            timers,
            ask: None,
            now: 1_000_000,
            wake: None,
            is_spent: false,
        }
    }

    fn look(&mut self) {
        let (new, now) = (self.new, self.now);
        self.members.values_mut().for_each(|played| played.play(new, now));
        let healthy_ms = self.policy.healthy.as_millis() as u64;
        self.members.values_mut().for_each(|played| played.observe(healthy_ms, now));
        for played in self.spares.values_mut() {
            played.play(new, now);
            if self.is_full && played.member.host.is_none() {
                played.member.state = MemberState::FitsNowhere;
            }
            played.observe(healthy_ms, now);
        }
        let quality = if self.hooks_fail { Quality::Fails } else { Quality::Good };
        self.hook.iter_mut().for_each(|hook| hook.play(quality, now));
        let all = self.members.values().chain(self.spares.values());
        let members: Vec<Member> = all.map(|played| played.member.clone()).collect();
        let (rollout, policy, ask) = (&self.rollout, &self.policy, self.ask.as_ref());
        let fits_anywhere = members.is_empty() || members.iter().any(|member| !member.leaves);
        let fits = |_: &Member| fits_anywhere.then_some(()).ok_or_else(|| "it fits no host".to_owned());
        let can_run = &|_: &UnitName| Ok(());
        let hook = self.hook.as_ref().map(|hook| &hook.member);
        let look = Look { rollout, policy, ask, fits: &fits, hook, can_run };
        self.timers.tell_all(members);
        let mut again = self.timers.clone();
        let step = advance(&look, &mut self.timers, now);
        assert_eq!(step, advance(&look, &mut again, now), "the same from the same");
        assert_eq!(again, self.timers);
        assert_eq!(self.timers.fault(), None);
        let is_asked = ask.is_some_and(|ask| ask.generation > rollout.heeded);
        self.check(&step, is_asked);
        if is_asked && self.ask.as_ref().is_some_and(|ask| matches!(ask.what, Request::Retry | Request::Resume)) {
            self.is_spent = false;
        }
        let failed = step.rollout.outcomes.iter().any(|outcome| outcome.why.is_some());
        let is_failed = matches!(step.rollout.phase, Phase::Reverting | Phase::Reverted | Phase::Stuck);
        self.is_spent |= is_failed && failed;
        for (names, gated) in [(&step.let_through, false), (&step.revert, true)] {
            let all = self.members.values_mut().chain(self.spares.values_mut());
            for played in all.filter(|played| names.contains(&played.member.name)) {
                assert_ne!(played.member.gated, gated, "it has this file already");
                *played = Played { is_away: played.is_away, ..Played::again(&played.member, gated, now) };
            }
        }
        self.spares.retain(|_, played| !step.end.contains(&played.member.name));
        // A host that loses the unit is no member any more.
        self.members.retain(|_, played| !played.member.leaves || played.member.gated);
        let highest = self.members.keys().chain(self.spares.keys()).max().copied().unwrap_or_default();
        for number in (highest + 1..).take(step.add) {
            let mut played = Played::new(number, false, now);
            played.member.spare = true;
            if self.is_full {
                played.member.host = None;
            }
            self.spares.insert(number, played);
        }
        (self.rollout, self.wake) = (step.rollout, step.wake);
        match step.run {
            Some(unit) => self.begin_hook(unit),
            None if self.rollout.running().is_none() => self.hook = None,
            None => {}
        }
        if self.rollout.phase == Phase::Done {
            // As the engine does.
            for played in self.members.values_mut().filter(|played| played.member.gated) {
                *played = Played { is_away: played.is_away, ..Played::again(&played.member, false, now) };
            }
        }
    }

    fn begin_hook(&mut self, unit: UnitName) {
        let after = self.rollout.phase == Phase::After;
        let generation = Revision(self.rollout.hooks.len() as u64 + self.now);
        let run = HookRun { unit: unit.clone(), after, generation, since: self.now, host: None, took: None };
        self.rollout.hooks.push(run);
        let mut hook = Played::new(99, false, self.now);
        hook.member.name = unit.into();
        self.hook = Some(hook);
        // As the engine does.
        self.look();
    }

    /// Units run before anybody gets the file, and after all have it.
    fn check_hooks(&self, step: &Step) {
        let have_run = |after: bool, hooks: &[UnitName]| {
            let runs = step.rollout.hooks.iter().filter(|run| run.after == after && run.took.is_some());
            runs.map(|run| &run.unit).eq(hooks)
        };
        let (before, after) = (&self.policy.before, &self.policy.after);
        assert!(step.let_through.is_empty() || have_run(false, before), "let through before hooks have run: {step:?}");
        let ends = self.rollout.phase != Phase::Done && step.rollout.phase == Phase::Done;
        let is_noted = step.rollout.outcomes.last().is_some_and(|outcome| outcome.why.is_none());
        assert!(!ends || !is_noted || have_run(true, after), "done before hooks have run: {step:?}");
    }

    fn check(&self, step: &Step, is_asked: bool) {
        self.check_hooks(step);
        let parallel = self.policy.parallel.at_least_one_of(self.members.len());
        let changed = |played: &&Played| {
            let name = &played.member.name;
            step.let_through.contains(name) || step.revert.contains(name)
        };
        let is_placed = |played: &&Played| !matches!(played.member.state, MemberState::Away | MemberState::Unplaced);
        let is_healthy = |played: &&Played| played.member.state == MemberState::Healthy;
        let all = || self.members.values();
        self.check_spares(step, &changed);
        // Never fewer: whoever is healthy is stopped only if so many others go on serving.
        if all().filter(changed).any(|played| is_healthy(&played)) {
            let spares = self.spares.values().filter(|spare| spare.serves()).count();
            let left = spares + all().filter(|played| is_healthy(played) && !changed(played)).count();
            let placed = all().filter(is_placed).count();
            assert!(left + parallel >= placed, "{left} of {placed} are left, {step:?}");
        }
        // Never more under way.
        let is_through = |played: &&Played| step.let_through.contains(&played.member.name);
        if all().filter(is_placed).any(|played| is_through(&played)) {
            let before = all().filter(|played| !played.member.gated && is_placed(played) && !played.has_passed).count();
            let begun = all().filter(|played| is_placed(played) && is_through(played)).count();
            assert!(before + begun <= parallel, "{before} and {begun} are under way, {step:?}");
        }
        // A host loses the unit only once the new file has proved itself on another one.
        let is_proven = all().any(|played| !played.member.gated && played.has_passed);
        // It may leave a host where it doesn't serve: there, nobody would miss it if the file fails.
        let is_missed = |played: &&Played| played.member.leaves && played.member.state == MemberState::Healthy;
        assert!(is_proven || !all().filter(is_missed).any(|played| is_through(&played)), "{step:?}");
        // No storm, and what is over stays so.
        assert!(!self.is_spent || is_asked || step.let_through.is_empty(), "a file that failed: {step:?}");
        if self.rollout.phase.is_over() && !is_asked {
            let end = step.end.clone();
            let unchanged = Step {
                rollout: self.rollout.clone(),
                let_through: vec![],
                revert: vec![],
                add: 0,
                end,
                run: None,
                wake: None,
            };
            assert_eq!(*step, unchanged);
        }
        assert!(step.wake.is_none_or(|wake| wake > self.now && !step.rollout.phase.is_over()), "{step:?}");
        if self.rollout.phase != step.rollout.phase && step.rollout.phase == Phase::Done {
            let old = all().filter(|played| played.member.gated && is_placed(played));
            assert_eq!(old.count(), 0, "done, and somebody has the file before");
        }
        if self.rollout.phase != step.rollout.phase && step.rollout.phase == Phase::Reverted {
            assert!(all().all(|played| played.member.gated), "reverted, and somebody has the new file");
        }
    }

    /// Spares first, and in the end none.
    fn check_spares(&self, step: &Step, changed: &dyn Fn(&&Played) -> bool) {
        let is_healthy = |played: &&Played| played.member.state == MemberState::Healthy;
        let wanted = self.policy.spare.at_most_all_of(self.members.len());
        let goes_on = matches!(step.rollout.phase, Phase::Canary | Phase::Rolling);
        if goes_on && self.members.values().filter(changed).any(|played| is_healthy(&played)) {
            assert!(self.spares.len() >= wanted, "a member is stopped before there are spares, {step:?}");
            let mut placed = self.spares.values().take(wanted).filter(|played| !played.is_gone());
            assert!(placed.all(|spare| spare.serves() && !spare.member.gated), "before they serve, {step:?}");
        }
        if step.rollout.phase.is_over() && step.rollout.phase != Phase::Stuck {
            assert_eq!(step.end.len(), self.spares.len(), "it has ended, and its spares haven't");
        }
        // While as many spares serve as members may be away, as many serve as there are members.
        let parallel = self.policy.parallel.at_least_one_of(self.members.len());
        if self.spares.values().filter(|spare| spare.serves()).count() >= parallel && !step.rollout.phase.is_over() {
            let all = || self.members.values().chain(self.spares.values()).filter(is_healthy);
            let stays = |played: &&Played| !changed(played) && !step.end.contains(&played.member.name);
            let (before, after) = (all().count(), all().filter(stays).count());
            let placed = self.members.values().filter(|played| !played.is_gone()).count();
            assert!(after >= placed.min(before), "{before} and then {after} of {placed} serve, {step:?}");
        }
    }

    fn event(&mut self, event: &Event) {
        let at = |index: &usize| self.members.keys().nth(index % self.members.len().max(1)).copied();
        match event {
            Event::Pass(seconds) => {
                // It is asked again when it said so, as well as when a member may have changed.
                let until = self.now + seconds * 1000;
                while self.now < until {
                    let next = self.wake.filter(|wake| *wake > self.now).unwrap_or(until);
                    self.now = next.min(self.now + 1000).min(until);
                    self.look();
                }
            }
            // The hosts of a global unit are members as long as they are there.
            Event::Host(index) | Event::Place(index) if self.is_global => {
                at(index).map(|number| self.members.remove(&number));
            }
            Event::Add if self.is_global => {}
            Event::Host(index) => {
                if let Some(played) = at(index).and_then(|number| self.members.get_mut(&number)) {
                    (played.is_away, played.since) = (!played.is_away, self.now);
                }
            }
            Event::Place(index) => {
                if let Some(number) = at(index) {
                    let played = self.members.get_mut(&number).unwrap();
                    let host = played.member.host.is_none().then(|| host(number + 100));
                    played.member.host = host;
                    *played = Played::again(&played.member, played.member.gated, self.now);
                }
            }
            Event::Unready(index) => {
                if let Some(played) = at(index).and_then(|number| self.members.get_mut(&number)) {
                    played.is_unready = !played.is_unready;
                }
            }
            Event::Room => {
                self.is_full = !self.is_full;
                for (number, played) in self.spares.iter_mut().filter(|_| !self.is_full) {
                    played.member.host = Some(host(*number));
                }
            }
            Event::SpareHosts => {
                for played in self.spares.values_mut() {
                    (played.is_away, played.since) = (!played.is_away, self.now);
                }
            }
            Event::Ask(what) => {
                let generation = self.ask.as_ref().map_or(Revision(1), |ask| ask.generation.next());
                self.ask = Some(Ask { what: *what, generation, by: None });
            }
            Event::Add => {
                let number = (1..).find(|number| !self.members.contains_key(number)).unwrap();
                let gated = !matches!(self.rollout.phase, Phase::Rolling | Phase::Done);
                let added = match self.spares.remove(&number) {
                    // It takes the place of the spare, whose process goes on.
                    Some(spare) => Played { member: Member { spare: false, ..spare.member.clone() }, ..spare },
                    None => Played::new(number, gated, self.now),
                };
                self.members.insert(number, added);
            }
            Event::Remove(index) => {
                at(index).map(|number| self.members.remove(&number));
            }
            Event::Hooks => self.hooks_fail = !self.hooks_fail,
            Event::LoseHook => self.hook = None,
            Event::Leader => {
                self.timers = Timers::default();
                let all = || self.members.values().chain(self.spares.values());
                let ungated = all().filter(|played| !played.member.gated).count();
                let through = self.rollout.through.clone().filter(|through| through.members == ungated);
                for played in self.members.values_mut().chain(self.spares.values_mut()) {
                    let is_through = through.as_ref().filter(|_| !played.member.gated);
                    let is_known = is_through.is_some_and(|known| !known.unproven.contains(&played.member.name));
                    assert!(played.has_passed || !is_known, "it hasn't been healthy for long enough: {played:?}");
                    (played.healthy_since, played.has_passed) = (None, is_known);
                }
            }
        }
        self.look();
    }

    /// Without further faults, until nothing more happens.
    fn end(&mut self) {
        for (number, played) in self.members.iter_mut().chain(&mut self.spares) {
            (played.is_unready, played.is_away) = (false, false);
            if played.member.host.is_none() {
                played.member.host = Some(host(*number));
                *played = Played::again(&played.member, played.member.gated, self.now);
            }
        }
        for _ in 0..20 + 4 * self.members.len() {
            self.event(&Event::Pass(17));
            self.now = self.wake.unwrap_or(self.now);
            self.look();
        }
    }
}

fn host(number: u32) -> MachineId {
    format!("{number:032x}").parse().unwrap()
}

impl Played {
    fn new(number: u32, gated: bool, now: u64) -> Self {
        let name = name(number);
        let member = Member {
            about: name.unit.clone(),
            name,
            hostname: None,
            spare: false,
            gated,
            partly: false,
            keeps: false,
            lacks: false,
            leaves: false,
            host: Some(host(number)),
            state: MemberState::Healthy,
            goes_on: false,
        };
        Self::again(&member, gated, now)
    }

    /// With this file from now on.
    fn again(member: &Member, gated: bool, now: u64) -> Self {
        let state = if member.host.is_some() { MemberState::Assigned(None) } else { MemberState::Unplaced };
        let member = Member { gated, state, ..member.clone() };
        Self { member, since: now, is_away: false, is_unready: false, healthy_since: None, has_passed: false }
    }

    fn play(&mut self, new: Quality, now: u64) {
        let quality = if self.member.gated { Quality::Good } else { new };
        self.member.state = match (quality, now.saturating_sub(self.since)) {
            _ if self.member.host.is_none() => MemberState::Unplaced,
            _ if self.is_away => MemberState::Away,
            (_, 0) => MemberState::Assigned(None),
            (_, 1..1000) | (Quality::Unready, _) => MemberState::Pending(None),
            (Quality::Fails, _) | (Quality::FailsLater, 16_000..) => MemberState::Failed("it failed".into()),
            _ if self.is_unready => MemberState::Pending(None),
            _ => MemberState::Healthy,
        };
    }

    fn is_gone(&self) -> bool {
        matches!(self.member.state, MemberState::Away | MemberState::Unplaced | MemberState::FitsNowhere)
    }

    fn serves(&self) -> bool {
        self.member.state == MemberState::Healthy && self.has_passed
    }

    fn observe(&mut self, healthy_ms: u64, now: u64) {
        let is_healthy = self.member.state == MemberState::Healthy;
        self.healthy_since = is_healthy.then(|| self.healthy_since.unwrap_or(now));
        self.has_passed |= self.healthy_since.is_some_and(|since| since + healthy_ms <= now);
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_u64..30).prop_map(Event::Pass),
        2 => (0_usize..8).prop_map(Event::Host),
        1 => (0_usize..8).prop_map(Event::Place),
        2 => (0_usize..8).prop_map(Event::Unready),
        1 => prop_oneof![
            Just(Request::Pause), Just(Request::Resume), Just(Request::Promote), Just(Request::Retry)
        ].prop_map(Event::Ask),
        1 => Just(Event::Room),
        1 => Just(Event::SpareHosts),
        1 => Just(Event::Add),
        1 => (0_usize..8).prop_map(Event::Remove),
        1 => Just(Event::Hooks),
        1 => Just(Event::LoseHook),
        1 => Just(Event::Leader),
    ]
}

fn quality() -> impl Strategy<Value = Quality> {
    prop_oneof![
        3 => Just(Quality::Good),
        1 => Just(Quality::Unready),
        1 => Just(Quality::Fails),
        1 => Just(Quality::FailsLater),
    ]
}

/// After these events, a rollout is over or waits for a person, and no timer runs.
fn comes_to_an_end(mut world: World, events: &[Event]) -> Result<(), TestCaseError> {
    world.look();
    events.iter().for_each(|event| world.event(event));
    world.end();
    let phase = world.rollout.phase;
    prop_assert!(phase.is_over() || matches!(phase, Phase::Waiting | Phase::Paused), "{phase:?}");
    prop_assert_eq!(world.wake, None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The invariants that [`World::check`] lists hold at every step, and a rollout comes to an end.
    #[test]
    fn a_rollout_keeps_its_budget_and_ends(
        members in 0_u32..7,
        policy in proptest::sample::select(&POLICIES[..]),
        new in quality(),
        events in proptest::collection::vec(event(), 0..40),
    ) {
        comes_to_an_end(World::new(members, policy, new), &events)?;
    }

    /// The same of a global unit, whose hosts may die, and some of which the new file doesn't fit.
    #[test]
    fn the_hosts_of_a_global_unit_keep_their_budget(
        (hosts, leaving) in (1_u32..7).prop_flat_map(|hosts| (Just(hosts), 0..=hosts)),
        policy in proptest::sample::select(&POLICIES[..9]),
        new in quality(),
        events in proptest::collection::vec(event(), 0..40),
    ) {
        comes_to_an_end(World::on_hosts(hosts, leaving, policy, new), &events)?;
    }

    /// Without faults, a good file reaches everybody and a bad one nobody.
    #[test]
    fn without_faults_the_file_decides(
        members in 1_u32..7,
        policy in proptest::sample::select(&POLICIES[..]),
        new in proptest::sample::select(&[Quality::Good, Quality::Unready, Quality::Fails][..]),
    ) {
        let mut world = World::new(members, policy, new);
        world.event(&Event::Pass(60));
        world.event(&Event::Ask(Request::Promote));
        world.end();
        let is_good = new == Quality::Good;
        let expected = match (is_good, policy.contains("pause")) {
            (true, _) => Phase::Done,
            (false, true) => Phase::Paused,
            (false, false) => Phase::Reverted,
        };
        prop_assert_eq!(world.rollout.phase, expected);
        let through = world.members.values().filter(|played| !played.member.gated).count();
        let all = world.members.len();
        prop_assert!(through == if is_good { all } else { 0 } || expected == Phase::Paused, "{} of {}", through, all);
    }
}
