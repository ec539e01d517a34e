//! Limits of incoming requests: how long a client may take, how much it may send, and the answer if it exceeds them.
//! Owns that a refused client receives the refusal: what it is still sending is drained, within reason.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::error::Failure;
use super::places::Seat;
use super::state::Settings;

/// How many times the body limit is drained of a body that is too large, before the connection is closed.
const OVERRUN: usize = 16;

/// How much of a body is read at once if only its length is known.
const FIRST_BYTES: usize = 64 * 1024;

/// The complete request, within the limits, and the permit for the memory of its body. The time that a slow client
/// takes to send it must not be taken from the time for the answer.
pub(super) async fn whole(
    settings: &Settings,
    seat: &Seat,
    request: Request,
) -> Result<(Request, Option<OwnedSemaphorePermit>), Response> {
    let (parts, mut body) = request.into_parts();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let reading = async {
        if announced > settings.body_limit {
            return Err(refuse_large(settings, &parts.headers, body, announced).await);
        }
        let (mut bytes, mut held) = (Vec::with_capacity(announced.min(FIRST_BYTES)), None);
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| hang_up(Failure::bad_request(format!("can't read the request's body: {error}"))))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > settings.body_limit {
                let read = bytes.len() + data.len();
                drop(bytes);
                return Err(refuse_large(settings, &HeaderMap::new(), body, read).await);
            }
            if !seat.hold(&mut held, data.len()) {
                return Err(hang_up(Failure::unavailable(seat.no_room())));
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes, held))
    };
    let late = |_| {
        let message = format!("the request's body hasn't come within {:?}", settings.body_timeout);
        hang_up(Failure::new(StatusCode::REQUEST_TIMEOUT, message))
    };
    let (bytes, held) = tokio::time::timeout(settings.body_timeout, reading).await.map_err(late)??;
    Ok((Request::from_parts(parts, Body::from(bytes)), held))
}

/// Drain what the client is sending, so that it can read the answer instead of seeing a broken connection; `had` bytes
/// have been read or announced.
async fn refuse_large(settings: &Settings, headers: &HeaderMap, mut body: Body, had: usize) -> Response {
    let failure = Failure::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the request is larger than {} allows; send the units in several requests", bytes(settings.body_limit)),
    );
    let most = settings.body_limit.saturating_mul(OVERRUN);
    // A client that asked first (`Expect: 100-continue`) hasn't sent anything, and won't.
    if had > most || headers.contains_key(EXPECT) {
        return hang_up(failure);
    }
    let mut read = had;
    while read <= most {
        match body.frame().await {
            None => return failure.into_response(),
            Some(Err(_)) => break,
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len()),
        }
    }
    hang_up(failure)
}

/// `the limit of 4 MiB (4194304 bytes)`
fn bytes(limit: usize) -> String {
    const MIB: usize = 1024 * 1024;
    if limit.is_multiple_of(MIB) {
        format!("the limit of {} MiB ({limit} bytes)", limit / MIB)
    } else {
        format!("the limit of {limit} bytes")
    }
}

/// The answer is the connection's last one.
fn hang_up(failure: Failure) -> Response {
    ([(CONNECTION, "close")], failure).into_response()
}

/// The complete answer to a request whose head never arrived, as raw bytes: without a request, the framework can't
/// answer.
pub(super) fn late_head(limit: Duration) -> String {
    let message = format!("the request's head hasn't come within {limit:?}");
    let status = StatusCode::REQUEST_TIMEOUT;
    // A plain struct can always be encoded.
    let body = serde_json::to_string(&Failure::new(status, message).body()).unwrap_or_default();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n\
         {body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_said_as_people_count() {
        assert_eq!(bytes(4 * 1024 * 1024), "the limit of 4 MiB (4194304 bytes)");
        assert_eq!(bytes(1000), "the limit of 1000 bytes");
    }
}
