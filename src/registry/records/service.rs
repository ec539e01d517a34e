//! `service/<name>/<instance>`: an announced instance of a service. Bound to a lease of its own.

use crate::model::cluster::{Change, Versioned};
use crate::model::service::{Instance, InstanceName, ServiceName};

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "service/<name>/<instance>";
    const WRITER: Writer = Writer::Api;
    type Names = (ServiceName, InstanceName);
    type Record = Instance;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "service/web/web-1.n1",
            concat!(
                r#"{"address":"10.0.0.1","port":80,"weight":1,"unit":"web@1.service","#,
                r#""announcer":"web-announce@1.service","machine":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","#,
                r#""hostname":"n1","metadata":{"zone":"a"},"owner":"o","ttl":10,"since":5}"#,
            ),
        ),
        // Before announcers were known by their units.
        Form::today(
            "service/web/web-2.n1",
            concat!(
                r#"{"address":"10.0.0.1","port":80,"weight":1,"unit":"web@2.service","#,
                r#""machine":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","hostname":"n1","owner":"o","ttl":10,"since":5}"#,
            ),
        ),
        Form::today("service/web/web-1", r#"{"address":"db.example","port":80,"weight":0,"ttl":10,"since":5}"#),
    ];

    /// Consumers write these values into configuration files, so values that were written without the API's checks must
    /// not reach them.
    fn admit(instance: Instance) -> Result<Instance, String> {
        let mut problems = instance.problems();
        if instance.hostname.contains(char::is_control) {
            problems.push(format!("`{}` is no host name", instance.hostname.escape_debug()));
        }
        if problems.is_empty() { Ok(instance) } else { Err(problems.join("; ")) }
    }

    /// Services aren't part of a cluster's plan.
    fn change(_: Self::Names, _: Option<Versioned<Instance>>) -> Result<Option<Change>, String> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kv;

    #[test]
    fn what_was_written_past_the_api_is_checked_when_it_is_read() {
        let good = r#"{"address":"10.0.0.1","port":80,"weight":1,"hostname":"n1","ttl":10,"since":5}"#;
        let read = |json: &str| {
            let (key, value) = ("service/web/a".to_owned(), json.as_bytes().to_vec());
            Records::read(&Kv { key, value, revision: Default::default(), lease: None })
        };
        assert!(read(good).is_ok());
        for (from, to) in [
            ("10.0.0.1", r"10.0.0.1\nserver evil"),
            (r#""port":80"#, r#""port":0"#),
            (r#""weight":1"#, r#""weight":300"#),
            ("n1", r"n1\nserver evil"),
        ] {
            let bad = read(&good.replace(from, to)).unwrap_err();
            assert!(bad.key == "service/web/a" && !bad.why.contains('\n'), "{to}: {bad}");
        }
    }
}
