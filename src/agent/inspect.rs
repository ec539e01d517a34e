//! A dump of a running agent's state, for people: of each unit its assignment, what systemd says, what was carried out
//! and what was reported.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::units::Units;

/// How long the loop may take to answer; one that takes longer is busy, or hangs, and that is worth knowing too.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks an agent.
#[derive(Debug, Clone)]
pub struct Inspector {
    questions: mpsc::Sender<Question>,
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Question {
    answer: oneshot::Sender<Value>,
}

impl Question {
    pub(super) fn answer(self, units: &Units) {
        // Whoever asked may have lost patience.
        let _ = self.answer.send(units.inspect());
    }
}

impl Inspector {
    pub(super) fn new(questions: mpsc::Sender<Question>) -> Self {
        Self { questions }
    }

    /// What the agent knows of its units, as JSON for people; a sentence when it doesn't answer.
    pub async fn look(&self) -> Value {
        let (answer, answered) = oneshot::channel();
        let ask = async {
            self.questions.send(Question { answer }).await.ok()?;
            answered.await.ok()
        };
        let answer = tokio::time::timeout(PATIENCE, ask).await.ok().flatten();
        answer.unwrap_or_else(|| {
            json!(format!("no answer within {} s: not registered, busy, or hung", PATIENCE.as_secs()))
        })
    }
}

impl Units {
    fn inspect(&self) -> Value {
        let unit = |name| {
            let unit = self.get(name)?;
            let systemd = &unit.systemd;
            Some(json!({
                "unit": name,
                "told": unit.entry,
                "file": unit.file,
                "systemd": { "load": systemd.load, "active": systemd.active, "sub": systemd.sub, "job": systemd.job },
                "done": unit.record,
                "held": unit.held.is_some(),
                "reported": unit.reported.as_ref().map(Option::is_some),
            }))
        };
        let units: Vec<Value> = self.names().iter().filter_map(unit).collect();
        json!({ "settled": self.is_settled(), "units": units })
    }
}
