//! Lines of `[X-Fleet]` that CoreOS fleet interpreted differently. Pure: options in, sentences out. Errors are reported
//! elsewhere.

use std::collections::BTreeSet;

use crate::model::file::{UnitFile, UnitOption};
use crate::model::placement::{Constraints, SECTION};

/// A sentence for each line that fleet interpreted differently.
pub(super) fn differences(file: &UnitFile) -> Vec<String> {
    file.section(SECTION).filter_map(difference).collect()
}

fn difference(option: &UnitOption) -> Option<String> {
    let UnitOption { name, value, .. } = option;
    // By itself, so that errors in other lines don't matter.
    let alone = UnitFile::from_options(std::slice::from_ref(option)).ok()?;
    let constraints = Constraints::parse(&alone).ok()?;
    if let Some((asked, key)) = operator(&constraints, value) {
        return Some(format!("`{name}={value}`: fleet asked for the key `{key}`; here `{asked}` is a comparison"));
    }
    let (fleets, ours, asked) = match name.trim_start_matches("X-Condition") {
        "MachineMetadata" => {
            let ours =
                constraints.metadata.iter().flat_map(|(k, values)| values.iter().map(move |v| format!("{k}={v}")));
            let ours = ours.chain(constraints.conditions.iter().map(ToString::to_string));
            (values(value).into_iter().filter(|pair| is_pair(pair)).collect(), ours.collect(), "asked for")
        }
        "MachineOf" => (values(value).into_iter().collect(), constraints.machine_of.clone(), "asked for a unit named"),
        "Replaces" => {
            let ours = constraints.replaces.iter().map(|glob| glob.as_str().to_owned()).collect();
            (values(value).into_iter().collect::<BTreeSet<_>>(), ours, "replaced units that match")
        }
        "Global" if constraints.global != is_true(value) => {
            return Some(format!("`Global={value}`: fleet took this for false; here it is true"));
        }
        _ => return None,
    };
    if fleets == ours {
        return None;
    }
    let list = |set: &BTreeSet<String>| set.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" and ");
    let before = if fleets.is_empty() { "ignored it".into() } else { format!("{asked} {}", list(&fleets)) };
    Some(format!("`{name}={value}`: fleet {before}; here it means {}", list(&ours)))
}

/// A condition with an operator that fleet took for a part of the key, and that key.
fn operator(constraints: &Constraints, value: &str) -> Option<(String, String)> {
    let asked: BTreeSet<String> = constraints.conditions.iter().map(ToString::to_string).collect();
    let pair = values(value).into_iter().find(|pair| is_pair(pair) && asked.contains(pair))?;
    let key = pair.split_once('=')?.0.to_owned();
    Some((pair, key))
}

/// fleet's values of a line: quotes count only if they enclose the whole value; single spaces between them separate.
fn values(value: &str) -> Vec<String> {
    if value.len() < 2 || !value.starts_with('"') || !value.ends_with('"') {
        return vec![value.into()];
    }
    let (mut values, mut current, mut quoted) = (Vec::new(), String::new(), false);
    for c in value.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => values.push(std::mem::take(&mut current)),
            c => current.push(c),
        }
    }
    values.push(current);
    values.retain(|value| !value.is_empty());
    values
}

/// fleet ignored values that aren't two words around one `=`.
fn is_pair(text: &str) -> bool {
    let parts: Vec<&str> = text.split('=').collect();
    matches!(parts[..], [key, value] if !key.is_empty() && !value.is_empty())
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "1" | "on" | "t")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Vec<String> {
        differences(&UnitFile::parse(format!("[Service]\nExecStart=/bin/a\n[X-Fleet]\n{line}\n").as_bytes()).unwrap())
    }

    #[test]
    fn what_fleet_took_otherwise_is_said() {
        for same in [
            "MachineMetadata=a=b",
            "MachineMetadata=\"a=b\" \"c=d\"",
            "MachineOf=a.service",
            "Global=true",
            "Global=no",
            "Conflicts=a* b*",
            "Replaces=a.service",
            "X-ConditionMachineMetadata=a=b",
        ] {
            assert_eq!(said(same), Vec::<String>::new(), "{same}");
        }
        let cases = [
            ("MachineMetadata=a=b c=d", "`MachineMetadata=a=b c=d`: fleet ignored it; here it means `a=b` and `c=d`"),
            ("MachineMetadata=a=b=c", "`MachineMetadata=a=b=c`: fleet ignored it; here it means `a=b=c`"),
            ("MachineMetadata=ssd", "`MachineMetadata=ssd`: fleet ignored it; here it means `ssd`"),
            (
                "MachineMetadata=a!=b",
                "`MachineMetadata=a!=b`: fleet asked for the key `a!`; here `a!=b` is a comparison",
            ),
            (
                "MachineOf=a.service b.service",
                "`MachineOf=a.service b.service`: fleet asked for a unit named `a.service b.service`; here it means \
                 `a.service` and `b.service`",
            ),
            (
                "Replaces=a* b*",
                "`Replaces=a* b*`: fleet replaced units that match `a* b*`; here it means `a*` and `b*`",
            ),
            ("Global=y", "`Global=y`: fleet took this for false; here it is true"),
        ];
        for (line, sentence) in cases {
            assert_eq!(said(line), [sentence], "{line}");
        }
    }
}
