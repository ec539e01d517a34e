//! A unit argument → its name: `web`, `units/web.service`, `'web@*'`. Owns fleet's rules for completing names; reads
//! no files.

use std::path::Path;

use crate::model::glob::Glob;
use crate::model::name::{NameError, UnitName};

/// systemd's unit types that have no files. Names with them are kept, so that the error mentions the type.
const FOREIGN_TYPES: [&str; 2] = ["scope", "device"];

/// `arg` with `.service` appended unless it has a unit type. The result may still be a path.
pub(in crate::cli) fn with_type(arg: &str) -> String {
    let arg = arg.trim_end_matches('/');
    let base = base(arg);
    if base.is_empty() {
        return String::new();
    }
    let foreign = base.rsplit_once('.').is_some_and(|(_, kind)| FOREIGN_TYPES.contains(&kind));
    match base.rsplit_once('.').map(|(_, kind)| format!("x.{kind}").parse::<UnitName>()) {
        Some(Err(NameError::NoType(_) | NameError::Type(..))) | None if !foreign => format!("{arg}.service"),
        _ => arg.into(),
    }
}

/// The name of the unit that `arg` names.
pub(in crate::cli) fn unit(arg: &str) -> Result<UnitName, NameError> {
    base(&with_type(arg)).parse()
}

/// Whether `arg` is a pattern; no unit name looks like one.
pub(in crate::cli) fn is_pattern(arg: &str) -> bool {
    base(arg).contains(['*', '?', '['])
}

/// The patterns for `arg`: itself, and for `'web@?'` also `web@?.service`.
pub(in crate::cli) fn patterns(arg: &str) -> Vec<String> {
    let with_type = with_type(arg);
    if is_pattern(arg) {
        let mut patterns = vec![base(arg).to_owned()];
        if with_type != arg {
            patterns.push(base(&with_type).into());
        }
        patterns
    } else {
        vec![Glob::escape(base(&with_type))]
    }
}

/// The pattern that matches only `name`.
pub(in crate::cli) fn exactly(name: &UnitName) -> String {
    Glob::escape(name.as_str())
}

fn base(arg: &str) -> &str {
    Path::new(arg).file_name().and_then(|name| name.to_str()).unwrap_or(arg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mangled_as_fleets() {
        let cases = [
            ("web", "web.service"),
            ("web.service", "web.service"),
            ("units/web", "web.service"),
            ("./units/web.timer", "web.timer"),
            ("/etc/x.socket", "x.socket"),
            ("web@1", "web@1.service"),
            ("web@.service", "web@.service"),
            ("web.1", "web.1.service"),
            ("web.", "web..service"),
            ("x.target", "x.target"),
            ("a.b.mount", "a.b.mount"),
            ("dir/", "dir.service"),
        ];
        for (arg, name) in cases {
            assert_eq!(unit(arg).map(|name| name.to_string()), Ok(name.into()), "{arg}");
        }
        for bad in ["", "a b", "x.scope", "@1", "web@*"] {
            assert!(unit(bad).is_err(), "{bad}");
        }
        assert_eq!(with_type("units/web"), "units/web.service");
        assert!(unit("x.scope").unwrap_err().to_string().contains("scopes are made by programs"));
    }

    #[test]
    fn patterns_reach_names_with_and_without_type() {
        assert_eq!(patterns("web@*"), ["web@*", "web@*.service"]);
        assert_eq!(patterns("web@?.service"), ["web@?.service"]);
        assert_eq!(patterns("units/web"), ["web.service"]);
        assert_eq!(patterns("a\\x2d"), ["a\\\\x2d.service"]);
        assert!(is_pattern("web@[12]") && !is_pattern("web@1"));
    }
}
