//! What the sections for the cluster may say in a unit file that is submitted. Owns the one check of all of them, which
//! the API and `fleetctl` share; what an option means belongs to the file of its section.

use super::file::{UnitFile, UnitOption, WHITESPACE};
use super::health::Health;
use super::name::UnitName;
use super::placement::{Constraints, limits};
use super::rollout::policy::{Policy, SECTION as ROLLOUT, hooks_of};
use super::section::{FLEET, Problem};

/// Check the sections for the cluster in `file`, the file of unit `name`. Returns warnings: what is valid, and probably
/// not what was meant.
///
/// # Errors
/// Everything that is wrong with them.
pub fn check(name: &UnitName, file: &UnitFile) -> Result<Vec<Problem>, Vec<Problem>> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    match limits::parse(file) {
        Ok(constraints) => {
            problems.extend(limits::misplaced_replicas(file, name));
            problems.extend(own_name(name, file, &constraints));
            problems.extend(never_done(file, &constraints));
            problems.extend(spreads_nobody(name, file, &constraints));
            problems.extend(global_rollout(name, file, &constraints));
            warnings.extend(only_canaries(name, file, &constraints));
        }
        Err(wrong) => problems.extend(wrong),
    }
    problems.extend(Health::parse(file, name).err().unwrap_or_default());
    problems.extend(Policy::parse(file).err().unwrap_or_default());
    problems.extend(own_hooks(name, file));
    problems.extend(empty_rollout(file));
    if problems.is_empty() { Ok(warnings) } else { Err(problems) }
}

/// That it says apart from which units a unit is to be, if it is no instance, which has those of its template.
fn spreads_nobody(name: &UnitName, file: &UnitFile, constraints: &Constraints) -> Option<Problem> {
    let spread = constraints.preferences.as_ref()?.spread.as_ref()?;
    let key = &spread.key;
    let what =
        format!("`Spread={key}`: {name} is no instance of a template; name a pattern of units: `Spread={key} a*`");
    let line = line_of(file, FLEET, |option| option == "Spread");
    (spread.of.is_none() && name.instance().is_none()).then_some(Problem { line, what })
}

/// That a unit must be where it is itself.
fn own_name(name: &UnitName, file: &UnitFile, constraints: &Constraints) -> Option<Problem> {
    let names_itself = constraints.machine_of.iter().any(|peer| name.expand(peer) == name.as_str());
    let line = line_of(file, FLEET, |option| option.ends_with("MachineOf"));
    let what = format!("`MachineOf` names {name} itself: it must name other units");
    names_itself.then_some(Problem { line, what })
}

/// That a unit runs once, and never ends.
fn never_done(file: &UnitFile, constraints: &Constraints) -> Option<Problem> {
    let option = file.section(FLEET).filter(|option| option.name == "RunOnce").last()?;
    let is_oneshot = file.value("Service", "Type") == Some("oneshot");
    let why = if is_oneshot { "RemainAfterExit=yes never ends" } else { "Type=oneshot is needed, or it never ends" };
    let what = format!("`RunOnce={}`: {why}", option.value);
    (constraints.run_once && !constraints.ends).then_some(Problem { line: option.line, what })
}

/// What a global unit can't have: extra members, and canaries for whose time others serve.
fn global_rollout(name: &UnitName, file: &UnitFile, constraints: &Constraints) -> Vec<Problem> {
    if !constraints.global {
        return limits::misplaced(file, (ROLLOUT, "Spare"), name).into_iter().collect();
    }
    let reasons = [
        ("Spare", "each host that fits has the unit already"),
        ("Preview", "each host uses the unit that it has, and no other one would serve meanwhile"),
    ];
    let problem = |(option, why): (&str, &str)| {
        let found = file.section(ROLLOUT).find(|found| found.name == option)?;
        Some(Problem { line: found.line, what: format!("{option} cannot be used with Global: {why}") })
    };
    reasons.into_iter().filter_map(problem).collect()
}

/// That a rollout would have to run one of its own members before it, or after it.
fn own_hooks(name: &UnitName, file: &UnitFile) -> Vec<Problem> {
    let problem = |(option, hook): (&UnitOption, UnitName)| {
        let what = match &hook {
            hook if hook == name => "the unit itself".to_owned(),
            hook if is_set_of(name, hook) => format!("{hook}, a member of this very set"),
            _ => return None,
        };
        Some(Problem { line: option.line, what: format!("`{}=` names {what}", option.name) })
    };
    hooks_of(file).filter_map(problem).collect()
}

/// Whether `unit` is a numbered instance of the template of `name`, which is that template or another instance.
fn is_set_of(name: &UnitName, unit: &UnitName) -> bool {
    let template = if name.is_template() { Some(name.clone()) } else { name.set() };
    template.is_some_and(|template| unit.number_in(&template).is_some())
}

/// That a set has no members but canaries, as far as its file says how many it has.
fn only_canaries(name: &UnitName, file: &UnitFile, constraints: &Constraints) -> Option<Problem> {
    let Policy { canary, spare, .. } = constraints.rollout.as_deref()?;
    let members = constraints.replicas.as_ref()?.number()? as usize;
    let spares = spare.at_most_all_of(members);
    if !name.is_template() || members == 0 || canary.at_most_all_of(members) < members + spares {
        return None;
    }
    let option = file.section(ROLLOUT).filter(|option| option.name == "Canary").last()?;
    let instances = if members == 1 { "1 instance".into() } else { format!("{members} instances") };
    let what = format!("`Canary={}`: {name} has {instances}, so all of them are canaries", option.value);
    Some(Problem { line: option.line, what })
}

/// That the section is there and has no option. It wouldn't be part of the file's hash, so the cluster couldn't tell.
fn empty_rollout(file: &UnitFile) -> Option<Problem> {
    let header = format!("[{ROLLOUT}]");
    let line = file.text().lines().position(|line| line.trim_matches(WHITESPACE) == header)? + 1;
    let what = format!("{header} has no option, and would mean nothing: write one, such as OnFailure=revert");
    file.section(ROLLOUT).next().is_none().then_some(Problem { line, what })
}

/// The line of the first option of a section whose name is `such`; 0 if there is none.
fn line_of(file: &UnitFile, section: &str, such: impl Fn(&str) -> bool) -> usize {
    file.section(section).find(|option| such(&option.name)).map_or(0, |option| option.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, sections: &str) -> Result<String, String> {
        let text = format!("[Service]\nExecStart=/bin/true\n{sections}\n");
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        let lines = |found: Vec<Problem>| {
            found.iter().map(|problem| format!("{}: {problem}", problem.line)).collect::<Vec<_>>().join("; ")
        };
        check(&name.parse().unwrap(), &file).map(lines).map_err(lines)
    }

    #[test]
    fn all_sections_are_checked_at_once() {
        let sections = "[X-Fleet]\nGlobal=perhaps\n[X-Health]\nReady=tcp\n[X-Rollout]\nPromote=soon";
        let problems = found("web.service", sections).unwrap_err();
        let lines: Vec<&str> = problems.split("; ").filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(lines, ["4", "6", "8"], "{problems}");
        assert_eq!(found("web.service", "[X-Health]\nReady=tcp:80\n[X-Rollout]\nParallel=1"), Ok(String::new()));
    }

    #[test]
    fn what_concerns_several_sections_or_the_name() {
        let canaries = |canary: &str, how: &str| {
            Ok(format!("6: `Canary={canary}`: web@.service has {how}, so all of them are canaries"))
        };
        let (set, unit) = ("web@.service", "web.service");
        let none = || Ok(String::new());
        let no_spare = "6: Spare cannot be used with Global: each host that fits has the unit already";
        let no_preview = "7: Preview cannot be used with Global: each host uses the unit that it has, and no other one \
                          would serve meanwhile";
        let nobody =
            "4: `Spread=zone`: web.service is no instance of a template; name a pattern of units: `Spread=zone a*`";
        let empty = "3: [X-Rollout] has no option, and would mean nothing: write one, such as OnFailure=revert";
        for (name, sections, expected) in [
            (set, "[X-Fleet]\nReplicas=3\n[X-Rollout]\nCanary=2", none()),
            (set, "[X-Fleet]\nReplicas=3\n[X-Rollout]\nCanary=4", canaries("4", "3 instances")),
            (set, "[X-Fleet]\nReplicas=3\n[X-Rollout]\nCanary=100%", canaries("100%", "3 instances")),
            (set, "[X-Fleet]\nReplicas=1\n[X-Rollout]\nCanary=1", canaries("1", "1 instance")),
            // Of a member, its template's file has told already.
            ("web@1.service", "[X-Fleet]\nReplicas=3\n[X-Rollout]\nCanary=4", none()),
            (set, "[X-Fleet]\nReplicas=0\n[X-Rollout]\nCanary=4", none()),
            (set, "[X-Rollout]\nCanary=4", none()),
            (set, "[X-Fleet]\nSpread=zone", none()),
            (unit, "[X-Fleet]\nSpread=zone web*", none()),
            (unit, "[X-Fleet]\nSpread=zone", Err(nobody.into())),
            (unit, "[X-Rollout]\nCanary=4", none()),
            (unit, "[X-Fleet]\nGlobal=yes\n[X-Rollout]\nParallel=1", none()),
            // The spares are the canaries.
            (set, "[X-Fleet]\nReplicas=1\n[X-Rollout]\nCanary=1\nSpare=1", none()),
            (set, "[X-Rollout]\nSpare=1", none()),
            ("web@1.service", "[X-Rollout]\nSpare=1", none()),
            (
                unit,
                "[X-Rollout]\nParallel=1\nSpare=1",
                Err("5: `Spare=` is for templates: call the file web@.service".into()),
            ),
            (unit, "[X-Fleet]\nGlobal=yes\n[X-Rollout]\nSpare=1", Err(no_spare.into())),
            ("web@.service", "[X-Fleet]\nGlobal=yes\n[X-Rollout]\nSpare=1", Err(no_spare.into())),
            (unit, "[X-Fleet]\nGlobal=yes\n[X-Rollout]\nCanary=1\nPreview=yes", Err(no_preview.into())),
            (unit, "[X-Fleet]\nRunOnce=yes", Err("4: `RunOnce=yes`: Type=oneshot is needed, or it never ends".into())),
            (unit, "Type=oneshot\n[X-Fleet]\nRunOnce=yes", none()),
            (unit, "[X-Fleet]\nRunOnce=no", none()),
            (
                unit,
                "Type=oneshot\nRemainAfterExit=yes\n[X-Fleet]\nRunOnce=yes",
                Err("6: `RunOnce=yes`: RemainAfterExit=yes never ends".into()),
            ),
            (
                set,
                "[X-Rollout]\nBefore=web@1.service m.service\nAfter=web@x.service",
                Err("4: `Before=` names web@1.service, a member of this very set".into()),
            ),
            (
                "web@2.service",
                "[X-Rollout]\nAfter=web@2.service web@3.service",
                Err("4: `After=` names the unit itself; 4: `After=` names web@3.service, a member of this very set"
                    .into()),
            ),
            (unit, "[X-Rollout]\nBefore=web.service", Err("4: `Before=` names the unit itself".into())),
            (unit, "[X-Rollout]\nBefore=web@1.service", none()),
            (unit, "[X-Rollout]", Err(empty.into())),
            (unit, " [X-Rollout] \n# Parallel=2", Err(empty.into())),
            (
                "web@1.service",
                "[X-Fleet]\nMachineOf=%p@%i.service",
                Err("4: `MachineOf` names web@1.service itself: it must name other units".into()),
            ),
        ] {
            assert_eq!(found(name, sections), expected, "{name} {sections}");
        }
    }
}
