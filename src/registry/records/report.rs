//! `state/<unit>/<host>`: what a host reports of a unit. Bound to the host's lease.

use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::UnitReport;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "state/<unit>/<host>";
    const WRITER: Writer = Writer::Agent;
    type Names = (UnitName, MachineId);
    type Record = UnitReport;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "state/a.service/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"generation":7,"target":"launched","hash":"3750b3e9","load":"loaded","#,
                r#""active":"failed","sub":"failed","job":"start","result":"done","error":"e","#,
                r#""since":5,"missing":true,"restarts":3,"failure":{"result":"exit-code","exit":"exited 203/EXEC","#,
                r#""command":"/bin/a","retry_ms":100,"lines":["a: b"]}}"#,
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
        Form::today(
            "state/a.service/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"generation":7,"target":"gone","hash":"3750b3e9","load":"not-found","#,
                r#""active":"inactive","sub":"dead","since":5}"#,
            ),
        ),
    ];

    /// Its journal lines are shown on terminals, whoever wrote the record.
    fn admit(mut report: UnitReport) -> Result<UnitReport, String> {
        report.failure = report.failure.map(|failure| Box::new(failure.bounded()));
        Ok(report)
    }

    fn change((unit, host): Self::Names, record: Option<Versioned<UnitReport>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Report(unit, host, record.map(|record| record.value))))
    }
}
