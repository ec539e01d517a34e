//! Dumps a running agent's state for people: for each unit its assignment, systemd's state, what was carried out and
//! what was reported.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::model::name::UnitName;
use crate::plan::host::{HostState, Unit};

/// How long the loop may take to answer. If it takes longer it is busy or hangs, which is worth reporting too.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle to a running agent.
#[derive(Debug, Clone)]
pub struct Inspector {
    questions: mpsc::Sender<Question>,
}

/// A pending request for a dump.
#[derive(Debug)]
pub(super) struct Question {
    answer: oneshot::Sender<Value>,
}

impl Question {
    pub(super) fn answer(self, state: &HostState) {
        // The requester may have stopped waiting.
        let _ = self.answer.send(describe(state));
    }
}

impl Inspector {
    pub(super) fn new(questions: mpsc::Sender<Question>) -> Self {
        Self { questions }
    }

    /// What the agent knows of its units, as JSON for people; a sentence if it doesn't answer.
    pub async fn look(&self) -> Value {
        let (answer, answered) = oneshot::channel();
        let ask = async {
            self.questions.send(Question { answer }).await.ok()?;
            answered.await.ok()
        };
        let answer = tokio::time::timeout(INSPECT_TIMEOUT, ask).await.ok().flatten();
        answer.unwrap_or_else(|| {
            json!(format!("no answer within {} s: not registered, busy, or hung", INSPECT_TIMEOUT.as_secs()))
        })
    }
}

/// All that is known of each unit.
fn describe(state: &HostState) -> Value {
    let unit = |(name, unit): (&UnitName, &Unit)| {
        let systemd = &unit.state;
        json!({
            "unit": name,
            "told": unit.assignment,
            "file": unit.hash(),
            "systemd": {
                "load": systemd.load, "active": systemd.active, "sub": systemd.sub, "job": systemd.job,
            },
            "done": unit.executed,
            "held": unit.held_until.is_some(),
            "ready": unit.is_ready(),
            "reported": unit.reported.as_ref().map(Option::is_some),
        })
    };
    json!({ "settled": state.is_settled(), "units": state.units().map(unit).collect::<Vec<Value>>() })
}
