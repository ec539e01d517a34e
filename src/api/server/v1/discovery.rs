//! v1 in the format of Google's API discovery service, which client generators read. A test compares it with the
//! OpenAPI description.

use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::api::server::error::Failure;

const DOCUMENT: &str = include_str!("discovery.json");

/// Other methods are answered with 400 and not 405, as by CoreOS fleet.
pub(in crate::api::server) async fn discovery(method: Method) -> Result<impl IntoResponse, Failure> {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Err(Failure::bad_request("only HTTP GET supported against this resource"));
    }
    Ok(([(CONTENT_TYPE, "application/json")], DOCUMENT))
}
