//! `state/<host>/<unit>`: what a host reports of a unit. Bound to the host's lease.
//!
//! Before format 2 of the store the key was `state/<unit>/<host>`. Both spellings are read. A name is either a unit's
//! or a host's, never both, so a key says by itself how it is spelled.

use std::fmt;
use std::str::FromStr;

use crate::model::cluster::{Change, Versioned};
use crate::model::format::ReportKeyForm;
use crate::model::name::{MachineId, UnitName};
use crate::model::text::status;
use crate::model::unit::UnitReport;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Names, Writer};

/// The family.
pub enum Records {}

/// The names in the key of a report, and their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportKey {
    /// The host that reports.
    pub host: MachineId,
    /// The unit that is reported.
    pub unit: UnitName,
    /// How the key is spelled.
    pub form: ReportKeyForm,
}

impl fmt::Display for ReportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, unit, form } = self;
        match form {
            ReportKeyForm::UnitFirst => write!(f, "{unit}/{host}"),
            ReportKeyForm::HostFirst => write!(f, "{host}/{unit}"),
        }
    }
}

impl FromStr for ReportKey {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        if let Ok((host, unit)) = Names::read(names) {
            return Ok(Self { host, unit, form: ReportKeyForm::HostFirst });
        }
        let (unit, host) = Names::read(names)?;
        Ok(Self { host, unit, form: ReportKeyForm::UnitFirst })
    }
}

impl Family for Records {
    const PATTERN: &'static str = "state/<host>/<unit>";
    const WRITER: Writer = Writer::Agent;
    type Names = (ReportKey,);
    type Record = UnitReport;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "state/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/a.service",
            concat!(
                r#"{"generation":7,"target":"launched","hash":"3750b3e9","load":"loaded","#,
                r#""active":"failed","sub":"failed","job":"start","result":"done","error":"e","#,
                r#""since":5,"missing":true,"restarts":3,"failure":{"result":"exit-code","exit":"exited 203/EXEC","#,
                r#""command":"/bin/a","retry_ms":100,"lines":["a: b"]},"status":"loading","ready":false,"#,
                r#""health":"tcp:80: x"}"#,
            ),
        ),
        // With words of systemd that this version doesn't know.
        Form::today(
            "state/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/d.service",
            concat!(
                r#"{"generation":7,"target":"launched","hash":"3750b3e9","load":"merged","#,
                r#""active":"maintenance","sub":"hibernating","job":"try-restart","result":"collected","since":5}"#,
            ),
        ),
        // Before the units were probed.
        Form::today(
            "state/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/c.service",
            concat!(
                r#"{"generation":7,"target":"launched","hash":"3750b3e9","load":"loaded","#,
                r#""active":"activating","sub":"start","since":5,"status":"loading"}"#,
            ),
        ),
        // Before the reasons of failures.
        Form::today(
            "state/a.service/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"generation":7,"target":"launched","hash":"3750b3e9","load":"loaded","#,
                r#""active":"active","sub":"running","job":"start","result":"done","error":"e","#,
                r#""since":5}"#,
            ),
        ),
        // Under the key of format 1.
        Form::today(
            "state/b.service/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"generation":7,"target":"gone","hash":"3750b3e9","load":"not-found","#,
                r#""active":"inactive","sub":"dead","since":5}"#,
            ),
        ),
    ];

    /// Its texts are shown on terminals, whoever wrote the record.
    fn admit(mut report: UnitReport) -> Result<UnitReport, String> {
        report.failure = report.failure.map(|failure| Box::new(failure.bounded()));
        report.status = report.status.and_then(|text| status(&text));
        report.health = report.health.and_then(|text| status(&text));
        Ok(report)
    }

    fn change((key,): Self::Names, record: Option<Versioned<UnitReport>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Report(key.unit, key.host, key.form, record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_how_it_is_spelled() {
        let (host, unit) = ("3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a", "a.service");
        for (text, form) in
            [(format!("{host}/{unit}"), ReportKeyForm::HostFirst), (format!("{unit}/{host}"), ReportKeyForm::UnitFirst)]
        {
            let key = ReportKey { host: host.parse().unwrap(), unit: unit.parse().unwrap(), form };
            assert_eq!(text.parse(), Ok(key.clone()));
            assert_eq!(key.to_string(), text);
        }
        for foreign in [unit.to_owned(), host.to_owned(), format!("{host}/{host}"), format!("{unit}/{unit}")] {
            assert!(foreign.parse::<ReportKey>().is_err(), "{foreign}");
        }
    }
}
