//! The operations of reboots. Owns their list.

use serde_json::json;

use super::parts::{Operation, READ, Types, body, json_of, list, machine};
use crate::api::wire;
use crate::model::role::Operation as Need;

/// Path, method and operation of each.
pub(super) fn operations(types: &mut Types) -> Vec<(&'static str, &'static str, Operation)> {
    let kernel = json!({ "hosts": ["3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"], "why": "kernel" });
    vec![
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
