//! The JSON of the HTTP API, shared by server and clients. Types only; imports `model` and nothing else of ours.

mod drains;
mod errors;
mod explain;
mod machines;
mod moves;
mod plans;
mod rebalance;
mod reboots;
mod resources;
mod rollouts;
pub mod services;
mod settings;
mod state;
mod status;
mod store;
mod units;
pub mod v1;
mod whatif;

pub use crate::model::progress::{Operation, Progress};
pub use crate::model::unit::Outcome;
pub use drains::{DrainView, DrainWhat, DrainedUnit, RestoreView, ReturnWhat, ReturningUnit};
pub use errors::{ErrorBody, ErrorDetail, Problem};
pub use explain::{
    Explanation, Explanations, HostsAgainst, ObstacleView, OptionLine, PlaceView, RemedyStep, RemedyView,
    Standing as StandingOfUnit,
};
pub use machines::{
    AskHosts, AskedHost, AskedHosts, DrainOptions, HostAsk, MachineList, MachineRef, MachineView, Offline,
};
pub use moves::{MoveUnits, MoveWhat, MovesView, MovingUnit};
pub use plans::{Plan, PlanAsk, PlanRequest, PlannedEffect, PlannedRollout, PlannedUnit};
pub use rebalance::{BetterHost, HostUnits, RebalanceView};
pub use reboots::{AskReboots, AskedReboots, RebootList, RebootStage, RebootView};
pub use resources::{Amount, HostResources, ResourceList};
pub use rollouts::{
    AskRollout, AskView, FileOutcomeView, OvertakenView, RidingUnit, RolloutHook, RolloutLine, RolloutList,
    RolloutMember, RolloutRider, RolloutView,
};
pub use settings::{ChangeSettings, SettingList, SettingView};
pub use status::{ClusterView, LeaderView, OpenRollout};
pub use store::{AlarmKind, DaemonView, DaemonWait, StoreAlarm, StoreMemberView, StoreView, WaitKind};
pub use units::{
    Applied, AppliedUnit, Apply, ApplyUnit, BODY_LIMIT, DamagedUnit, FormerRevision, HostOrder, HostReasons,
    PresentRevision, ReplacingBatch, RetryView, SetList, SetView, StateView, UnitDetail, UnitHistory, UnitList,
    UnitView, WatchLine,
};
pub use whatif::{AddedHosts, SupposedGlobal, SupposedLoss, SupposedMove, SupposedWait, WhatIf, WhatIfRequest};
