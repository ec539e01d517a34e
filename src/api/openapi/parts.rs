//! What the description is put together from: the types' schemas, operations, parameters. Owns how they look in OpenAPI
//! 3.1.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::model::name::{MAX_LEN, NAME_PATTERN};
use crate::model::role::Operation as Need;
use crate::model::service::{self, MAX_INSTANCE, MAX_SERVICE};

/// Components, collected from the types that operations name.
pub(super) struct Types {
    /// Of what is answered.
    answers: SchemaGenerator,
    /// Of what is sent: what has a default may be left out.
    requests: SchemaGenerator,
    more: serde_json::Map<String, Value>,
}

impl Types {
    pub(super) fn new() -> Self {
        let settings = |settings: SchemaSettings| {
            settings.with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            answers: settings(SchemaSettings::draft2020_12().for_serialize()).into_generator(),
            requests: settings(SchemaSettings::draft2020_12().for_deserialize()).into_generator(),
            more: serde_json::Map::new(),
        }
    }

    pub(super) fn answer<T: JsonSchema>(&mut self) -> Schema {
        self.answers.subschema_for::<T>()
    }

    pub(super) fn request<T: JsonSchema>(&mut self) -> Schema {
        self.requests.subschema_for::<T>()
    }

    /// As `T`, with `null` for whatever isn't said.
    pub(super) fn nullable<T: JsonSchema>(&mut self, name: &str) -> Value {
        let whole = self.requests.root_schema_for::<T>();
        let mut schema = json!({ "type": "object", "description": "As it is answered; `null` is as good as nothing." });
        for (key, property) in whole.as_value()["properties"].as_object().into_iter().flatten() {
            let ignored = json!({ "type": "string", "description": "Ignored: fleet's clients send back what they were \
                answered." });
            let property = if matches!(&**key, "currentState" | "machineID") { &ignored } else { property };
            schema["properties"][key] = json!({ "anyOf": [property, { "type": "null" }] });
        }
        // What it refers to.
        self.request::<T>();
        self.more.insert(name.into(), schema);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// All of them. A type that is both sent and answered must look the same.
    pub(super) fn finish(mut self) -> Value {
        let mut all = self.answers.take_definitions(true);
        all.extend(self.more);
        for (name, schema) in self.requests.take_definitions(true) {
            let known = all.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*known, schema, "{name} is sent and answered, and differs: describe two types");
        }
        all.into()
    }
}

/// What a body holds: a media type and its schema.
pub(super) type Body = Option<(&'static str, Value)>;

/// One operation.
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// What the client's socket must permit.
    pub(super) needs: Need,
    pub(super) parameters: Vec<Value>,
    pub(super) request: Option<Value>,
    /// Statuses, what they mean, and their bodies.
    pub(super) done: Vec<(u16, &'static str, Body)>,
    pub(super) refused: &'static [u16],
}

impl Operation {
    pub(super) fn value(self, error: &Schema) -> Value {
        let mut responses = serde_json::Map::new();
        for (status, description, body) in self.done {
            let mut response = json!({ "description": description });
            if let Some((kind, schema)) = body {
                response["content"] = json!({ kind: { "schema": schema } });
            }
            responses.insert(status.to_string(), response);
        }
        // What may happen to any request that has a body or asks the cluster.
        for status in self.refused.iter().chain(&[403]) {
            let description = match status {
                400 => "The request is wrong, and the message says how.",
                403 => "The socket doesn't permit it, and the message says which role does.",
                404 => "There is none of that name.",
                408 => "The request didn't come in time.",
                409 => "Something is missing, or others change the same units all the time.",
                413 => "The request is larger than 4 MiB.",
                415 => "The `Content-Type` isn't `application/json`.",
                500 => "The store refuses.",
                503 => "The cluster can't be asked now, and the message says why.",
                other => panic!("status {other} has no description"),
            };
            let content = json!({ "application/json": { "schema": error } });
            responses.insert(status.to_string(), json!({ "description": description, "content": content }));
        }
        let roles: Vec<String> = self.needs.roles().iter().map(ToString::to_string).collect();
        let mut operation =
            json!({ "operationId": self.id, "summary": self.summary, "x-roles": roles, "responses": responses });
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(request) = self.request {
            operation["requestBody"] = request;
        }
        operation
    }
}

/// What reading may be refused with.
pub(super) const READ: &[u16] = &[400, 500, 503];
const READ_ONE: &[u16] = &[400, 404, 500, 503];
/// What a change may be refused with.
pub(super) const CHANGE: &[u16] = &[400, 408, 409, 413, 415, 500, 503];

/// Read all that the parameters select.
pub(super) fn list(id: &'static str, summary: &'static str, parameters: Vec<Value>, schema: Schema) -> Operation {
    let done = vec![(200, "As it is now.", json_of(schema))];
    Operation { id, summary, needs: Need::Read, parameters, request: None, done, refused: READ }
}

/// Read the one that the path names.
pub(super) fn one(id: &'static str, summary: &'static str, schema: Schema) -> Operation {
    Operation { refused: READ_ONE, ..list(id, summary, vec![name()], schema) }
}

pub(super) fn name() -> Value {
    let schema = json!({ "type": "string", "pattern": NAME_PATTERN, "maxLength": MAX_LEN });
    let description = "The unit's name.";
    json!({
        "name": "name", "in": "path", "required": true, "schema": schema, "description": description,
        "example": "web@1.service",
    })
}

pub(super) fn machine() -> Value {
    let schema = json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" });
    let description = "The host's machine id.";
    json!({
        "name": "id", "in": "path", "required": true, "schema": schema, "description": description,
        "example": "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
    })
}

pub(super) fn query(name: &str, description: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": { "type": "string" }, "description": description })
}

pub(super) fn globs() -> Value {
    let schema = json!({ "type": "array", "items": { "type": "string" } });
    let description = "Only units whose name matches one of these patterns (`*`, `?`, `[a-z]`).";
    json!({ "name": "name", "in": "query", "schema": schema, "description": description, "example": ["web@*"] })
}

pub(super) fn offline() -> Value {
    let schema = json!({ "const": "true" });
    let description =
        "Answer without the store, from what this host knows by itself; `offline` in the answer marks it.";
    json!({ "name": "offline", "in": "query", "schema": schema, "description": description })
}

pub(super) fn service() -> Value {
    let schema = json!({ "type": "string", "pattern": service::NAME_PATTERN, "maxLength": MAX_SERVICE });
    let description = "The service's name.";
    json!({
        "name": "name", "in": "path", "required": true, "schema": schema, "description": description,
        "example": "web",
    })
}

pub(super) fn instance() -> Value {
    let schema = json!({ "type": "string", "pattern": service::NAME_PATTERN, "maxLength": MAX_INSTANCE });
    let description = "The instance's name.";
    json!({
        "name": "instance", "in": "path", "required": true, "schema": schema, "description": description,
        "example": "web-1",
    })
}

/// NDJSON of a schema's values.
pub(super) fn lines(line: Schema) -> Option<(&'static str, Value)> {
    Some(("application/x-ndjson", json!({ "type": "string", "x-line": line })))
}

pub(super) fn token() -> Value {
    query("nextPageToken", "The `nextPageToken` of the page before.")
}

pub(super) fn json_of(schema: impl Into<Value>) -> Option<(&'static str, Value)> {
    Some(("application/json", schema.into()))
}

pub(super) fn body(schema: impl Into<Value>, example: Value) -> Option<Value> {
    let schema: Value = schema.into();
    Some(json!({ "required": true, "content": { "application/json": { "schema": schema, "example": example } } }))
}
