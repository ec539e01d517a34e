//! The operations of hosts, and of what holds for all of them. Owns their list.

use serde_json::json;

use super::parts::{Operation, READ, Types, body, json_of, list, machine, offline, one};
use crate::api::wire;
use crate::model::role::Operation as Need;

/// Path, method and operation of each.
pub(super) fn operations(types: &mut Types) -> Vec<(&'static str, &'static str, Operation)> {
    let cordon = json!({ "ask": "cordon", "hosts": ["3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"], "why": "new disk" });
    let kernel = json!({ "hosts": ["3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"], "why": "kernel" });
    vec![
        (
            "/fleet/v2/machines",
            "get",
            Operation {
                needs: Need::Discover,
                ..list(
                    "machines",
                    "Hosts that are alive, and those that are gone and weren't forgotten.",
                    vec![offline()],
                    types.answer::<wire::MachineList>(),
                )
            },
        ),
        (
            "/fleet/v2/machines",
            "post",
            Operation {
                id: "askHosts",
                summary: "Ask something of hosts, all or none: no new unit is placed on a host that is cordoned.",
                needs: Need::Administer,
                parameters: vec![],
                request: body(types.request::<wire::AskHosts>(), cordon),
                done: vec![(
                    200,
                    "Asked. The leader acts on it after the answer.",
                    json_of(types.answer::<wire::AskedHosts>()),
                )],
                refused: &[400, 404, 408, 409, 413, 415, 500, 503],
            },
        ),
        (
            "/fleet/v2/machines/{id}",
            "delete",
            Operation {
                id: "forget",
                summary: "Forget a host that is gone, its dynamic metadata, and what was asked of it. Refused for one \
                          that is registered.",
                needs: Need::Administer,
                parameters: vec![machine()],
                request: None,
                done: vec![(204, "Forgotten.", None)],
                refused: &[400, 404, 409, 500, 503],
            },
        ),
        (
            "/fleet/v2/machines/{id}/drain",
            "get",
            Operation {
                parameters: vec![machine()],
                ..one(
                    "drain",
                    "What becomes of the units on a host that is drained.",
                    types.answer::<wire::DrainView>(),
                )
            },
        ),
        (
            "/fleet/v2/machines/{id}/restore",
            "get",
            Operation {
                parameters: vec![machine()],
                ..one(
                    "restoreOfHost",
                    "What becomes of the units that come back to a host after a drain.",
                    types.answer::<wire::RestoreView>(),
                )
            },
        ),
        (
            "/fleet/v2/machines/{id}/metadata",
            "delete",
            Operation {
                id: "forgetMetadata",
                summary: "Delete all dynamic metadata of a host, registered or not: its configuration counts again.",
                needs: Need::Administer,
                parameters: vec![machine()],
                request: None,
                done: vec![(204, "Deleted.", None)],
                refused: &[400, 404, 500, 503],
            },
        ),
        (
            "/fleet/v2/resources",
            "get",
            list(
                "resources",
                "How much memory and CPU each host offers, and how much units take of it with Memory= and CPU=.",
                vec![],
                types.answer::<wire::ResourceList>(),
            ),
        ),
        (
            "/fleet/v2/store",
            "get",
            Operation {
                refused: &[400],
                ..list(
                    "store",
                    "The members of etcd, as this host reaches them: their databases and alarms, or what is wrong; and \
                     what this fleetd says of itself.",
                    vec![],
                    types.answer::<wire::StoreView>(),
                )
            },
        ),
        (
            "/fleet/v2/settings",
            "get",
            list("settings", "The settings of the whole cluster.", vec![], types.answer::<wire::SettingList>()),
        ),
        (
            "/fleet/v2/settings",
            "post",
            Operation {
                id: "changeSettings",
                summary: "Change settings of the whole cluster, all or none.",
                needs: Need::Administer,
                parameters: vec![],
                request: body(types.request::<wire::ChangeSettings>(), json!({ "set": { "placement": "pack" } })),
                done: vec![(
                    200,
                    "Changed. The leader acts on it after the answer.",
                    json_of(types.answer::<wire::SettingList>()),
                )],
                refused: &[400, 408, 409, 413, 415, 500, 503],
            },
        ),
        (
            "/fleet/v2/reboots",
            "get",
            Operation {
                refused: READ,
                ..list("reboots", "The hosts that are to reboot.", vec![], types.answer::<wire::RebootList>())
            },
        ),
        (
            "/fleet/v2/reboots",
            "post",
            Operation {
                id: "askReboots",
                summary: "Ask hosts to reboot, one after the other, each without its units: all or none.",
                needs: Need::Administer,
                parameters: vec![],
                request: body(types.request::<wire::AskReboots>(), kernel),
                done: vec![(200, "Asked. The hosts act on it.", json_of(types.answer::<wire::AskedReboots>()))],
                refused: &[400, 408, 409, 413, 415, 500, 503],
            },
        ),
        (
            "/fleet/v2/reboots/{id}",
            "delete",
            Operation {
                id: "cancelReboot",
                summary: "A host is to reboot no longer: it waits no more, or gives up its slot and takes units again.",
                needs: Need::Administer,
                parameters: vec![machine()],
                request: None,
                done: vec![(204, "Cancelled.", None)],
                refused: &[400, 404, 409, 500, 503],
            },
        ),
    ]
}
