//! The counter of each answer to a request that publishes.

use crate::http::response::Status;
use crate::metrics::stats::Stat;

/// The counter of a request that publishes and is answered with this status.
pub(crate) fn post_stat(status: Status) -> Stat {
    match status {
        Status::Ok => Stat::PostsMany,
        Status::Accepted => Stat::PostsAccepted,
        Status::Unauthorized => Stat::PostsUnauthorized,
        Status::Forbidden => Stat::PostsForbidden,
        Status::RequestTimeout => Stat::PostsTimeout,
        Status::ContentTooLarge => Stat::PostsTooLarge,
        Status::UriTooLong => Stat::PostsPathTooLong,
        Status::UnsupportedMediaType => Stat::PostsMediaType,
        Status::ExpectationFailed => Stat::PostsExpectation,
        Status::UnprocessableContent => Stat::PostsReused,
        Status::TooManyRequests => Stat::PostsRate,
        Status::NotImplemented => Stat::PostsCoding,
        Status::ServiceUnavailable => Stat::PostsUnavailable,
        Status::BadRequest
        | Status::SwitchingProtocols
        | Status::NoContent
        | Status::NotFound
        | Status::MethodNotAllowed
        | Status::UpgradeRequired
        | Status::HeaderFieldsTooLarge
        | Status::InternalServerError
        | Status::VersionNotSupported => Stat::PostsBadRequest,
    }
}
