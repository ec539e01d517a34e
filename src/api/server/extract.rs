//! What the handlers of both versions share: allowed methods, query parameters, the type of a body. Owns the messages
//! of these refusals; must never know a resource.

use axum::extract::Query;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::MethodRouter;
use serde::de::DeserializeOwned;

use super::caller::only_for;
use super::error::Failure;
use crate::model::role::Operation;

/// A route: its methods, and for each the operation that the client's socket must permit (403). Any other method is
/// answered with 405 and a sentence that names `allowed`, in CoreOS fleet's words.
pub(super) fn allow_methods<S: Clone + Send + Sync + 'static>(
    methods: impl IntoIterator<Item = (Operation, MethodRouter<S>)>,
    allowed: &'static str,
) -> MethodRouter<S> {
    let refuse = move || async move {
        let message = format!("only {allowed} supported against this resource");
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
    };
    let methods = methods.into_iter().map(|(operation, methods)| only_for(operation, methods));
    methods.fold(MethodRouter::new(), MethodRouter::merge).fallback(refuse)
}

/// The query's parameters, in their order.
///
/// # Errors
/// 400 when the query isn't percent-encoded UTF-8.
pub(super) fn query(uri: &Uri) -> Result<Vec<(String, String)>, Failure> {
    Query::try_from_uri(uri).map(|Query(pairs)| pairs).map_err(|error| Failure::bad_request(error.to_string()))
}

/// The body of a request, `what` in the words of the refusal.
///
/// # Errors
/// 415 as [`must_be_json`], 400 if it isn't that.
pub(super) fn json_body<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8], what: &str) -> Result<T, Failure> {
    must_be_json(headers)?;
    serde_json::from_slice(body).map_err(|error| Failure::bad_request(format!("can't read {what}: {error}")))
}

/// Refuse a body that isn't declared as JSON. A browser sends other types for any web page without asking the server
/// first, so this is a protection against forged cross-site requests.
///
/// # Errors
/// 415 unless there is exactly one `Content-Type`, and it is `application/json`.
pub(super) fn must_be_json(headers: &HeaderMap) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    let kinds: Vec<_> = headers.get_all(CONTENT_TYPE).iter().collect();
    let [kind] = kinds[..] else { return refuse(format!("expected 1 Content-Type, got {}", kinds.len())) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return refuse("only acceptable Content-Type is application/json".into());
    }
    Ok(())
}
