//! The operations of services. Owns their list.

use serde_json::json;

use super::parts::{CHANGE, Operation, READ, Types, body, globs, instance, json_of, lines, list, one, query, service};
use crate::api::wire::services;
use crate::model::role::Operation as Need;

/// Path, method and operation of each.
pub(super) fn operations(types: &mut Types) -> Vec<(&'static str, &'static str, Operation)> {
    let line = types.answer::<services::ServiceLine>();
    let announcement = json!({ "address": "10.88.0.1", "port": 8080, "unit": "web@1.service" });
    vec![
        (
            "/fleet/v2/services",
            "get",
            Operation {
                needs: Need::Discover,
                ..list(
                    "services",
                    "Services that are announced, at one revision of the store.",
                    vec![globs()],
                    types.answer::<services::ServiceList>(),
                )
            },
        ),
        (
            "/fleet/v2/services/{name}",
            "get",
            Operation {
                parameters: vec![service()],
                needs: Need::Discover,
                ..one("service", "One service, with its instances.", types.answer::<services::ServiceView>())
            },
        ),
        (
            "/fleet/v2/services/{name}/{instance}",
            "put",
            Operation {
                id: "announce",
                summary: "Announce an instance of a service, or go on with its announcement.",
                needs: Need::Announce,
                parameters: vec![service(), instance()],
                request: body(types.request::<services::Announce>(), announcement),
                done: vec![(200, "Announced.", json_of(types.answer::<services::Announced>()))],
                refused: CHANGE,
            },
        ),
        (
            "/fleet/v2/services/{name}/{instance}",
            "delete",
            Operation {
                id: "withdraw",
                summary: "Withdraw an announcement.",
                needs: Need::Announce,
                parameters: vec![
                    service(),
                    instance(),
                    query("lease", "Only the announcement that was answered with this lease."),
                    query("owner", "Only the announcement of this owner."),
                ],
                request: None,
                done: vec![(204, "Withdrawn.", None)],
                refused: &[400, 404, 408, 409, 413, 500, 503],
            },
        ),
        (
            "/fleet/v2/services/{name}/{instance}/keep-alive",
            "post",
            Operation {
                id: "keepAlive",
                summary: "Renew an announcement.",
                needs: Need::Announce,
                parameters: vec![service(), instance()],
                request: body(types.request::<services::KeepAlive>(), json!({ "lease": "1" })),
                done: vec![(200, "Renewed.", json_of(types.answer::<services::Announced>()))],
                refused: &[400, 404, 408, 413, 415, 500, 503],
            },
        ),
        (
            "/fleet/v2/watch/services",
            "get",
            Operation {
                id: "watchServices",
                summary: "Instances of services as they change, without end: one `ServiceLine` a line.",
                needs: Need::Discover,
                parameters: vec![globs()],
                request: None,
                done: vec![(200, "Lines of JSON; an empty one says that the stream lives.", lines(line))],
                refused: READ,
            },
        ),
    ]
}
