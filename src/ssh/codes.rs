//! libssh2's error codes that several files use.

use ssh2::ErrorCode;

/// The other side didn't answer in time.
pub(super) const TIMEOUT: ErrorCode = ErrorCode::Session(-9);

/// The operation would block (`EAGAIN`).
pub(super) const WOULD_BLOCK: ErrorCode = ErrorCode::Session(-37);

/// The host refuses a channel, or a request on it.
pub(super) const REFUSED: [ErrorCode; 2] = [ErrorCode::Session(-21), ErrorCode::Session(-22)];
