//! `rollout/<name>`: how far the last rollout of a set or a unit has got. Exists until the set or the unit is
//! destroyed.

use crate::model::cluster::{Change, Versioned};
use crate::model::name::UnitName;
use crate::model::rollout::Rollout;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "rollout/<name>";
    const WRITER: Writer = Writer::Engine;
    type Names = (UnitName,);
    type Record = Rollout;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "rollout/web@.service",
            concat!(
                r#"{"target":"5b1e0b2f","from":{"hash":"3750b3e9","text":"0f4a7a5c"},"phase":"reverted","since":9,"#,
                r#""began":5,"why":"web@3.service on n1: failed","promoted":true,"heeded":8,"#,
                r#""outcomes":[{"hash":"3750b3e9","verdict":"stable"},"#,
                r#"{"hash":"5b1e0b2f","verdict":"failed","why":"web@3.service on n1: failed"}]}"#,
            ),
        ),
        // One hook has run, and another one runs.
        Form::today(
            "rollout/hooked@.service",
            concat!(
                r#"{"target":"5b1e0b2f","from":{"hash":"3750b3e9"},"phase":"before","since":9,"began":5,"#,
                r#""failed":"a.service","lines":["a[7]: no"],"hooks":[{"unit":"a.service","generation":9,"since":5,"#,
                r#""host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","took":3400},"#,
                r#"{"unit":"b.service","after":true,"generation":10,"since":9}],"stopping":"c.service","heeded":0}"#,
            ),
        ),
        // Of a set with a rider; all other forms are as before riders took part.
        Form::today(
            "rollout/lead@.service",
            concat!(
                r#"{"target":"5b1e0b2f","from":{"hash":"3750b3e9"},"#,
                r#""riders":{"log@.service":{"target":"8d0a1c44","from":{"hash":"77e02c9b","text":"0f4a7a5c"}}},"#,
                r#""phase":"rolling","since":9,"began":5,"heeded":0}"#,
            ),
        ),
        // It has taken the place of another one.
        Form::today(
            "rollout/tier@.service",
            concat!(
                r#"{"target":"5b1e0b2f","from":{"hash":"3750b3e9"},"phase":"rolling","since":5,"began":5,"#,
                r#""overtook":{"target":"77c0e12a","reached":1,"members":5},"heeded":0}"#,
            ),
        ),
        // Some members have the new file, and one of them has yet to prove it; all other forms are as before this was
        // kept.
        Form::today(
            "rollout/front@.service",
            concat!(
                r#"{"target":"5b1e0b2f","from":{"hash":"3750b3e9"},"phase":"rolling","since":5,"began":5,"#,
                r#""through":{"members":3,"unproven":[{"unit":"front@2.service"}]},"heeded":0}"#,
            ),
        ),
        // Without hooks, as before there were any.
        Form::today(
            "rollout/agent.service",
            concat!(
                r#"{"target":"5b1e0b2f","from":{"hash":"3750b3e9"},"phase":"reverted","since":9,"began":5,"#,
                r#""why":"agent.service failed on n1: core-dump","failed":"agent.service","#,
                r#""failed_on":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","lines":["agent[7]: no such table"],"heeded":8}"#,
            ),
        ),
        Form::today(
            "rollout/db.service",
            concat!(
                r#"{"target":"5b1e0b2f","from":{"hash":"3750b3e9"},"phase":"rolling","since":5,"#,
                r#""began":5,"heeded":0}"#,
            ),
        ),
    ];

    fn change((name,): (UnitName,), record: Option<Versioned<Rollout>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Rollout(name, record)))
    }
}
