//! Which names a worker answers to. Without a token, a page in somebody's browser could reach a
//! worker on loopback under a name of its own (DNS rebinding), so only this machine's are taken.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::error::{ApiError, ErrorCode, shorten};

/// Refuses requests that don't name exactly one host.
pub async fn require_host(request: Request, next: Next) -> Result<Response, ApiError> {
    named_host(&request)?;
    Ok(next.run(request).await)
}

/// The same, and the host must be `localhost` or an address.
pub async fn require_own_host(request: Request, next: Next) -> Result<Response, ApiError> {
    match named_host(&request)? {
        Some(host) if !is_own(&host) => {
            let got = shorten(&host);
            let message =
                format!("host: got {got}, allowed without a token are localhost and addresses");
            Err(ApiError::new(ErrorCode::ForbiddenHost, message))
        }
        _ => Ok(next.run(request).await),
    }
}

/// The host that the request is for; `None` in HTTP/1.0, which has no such header.
fn named_host(request: &Request) -> Result<Option<String>, ApiError> {
    let header = host_header(request.headers(), request.version())?;
    // A target with a host in it is for that one, whatever the header says.
    let target = request.uri().authority();
    Ok(target.or(header.as_ref()).map(|it| it.host().to_owned()))
}

fn host_header(headers: &HeaderMap, version: Version) -> Result<Option<Authority>, ApiError> {
    let mut values = headers.get_all(header::HOST).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => {
            let host: Option<Authority> = value.to_str().ok().and_then(|host| host.parse().ok());
            match host.filter(|host| !host.as_str().contains('@')) {
                Some(host) => Ok(Some(host)),
                None => {
                    let got = shorten(&String::from_utf8_lossy(value.as_bytes()));
                    Err(invalid(&format!("\"{got}\"")))
                }
            }
        }
        (None, _) if version < Version::HTTP_11 => Ok(None),
        (None, _) => Err(invalid("none")),
        (Some(_), Some(_)) => Err(invalid("several")),
    }
}

fn invalid(got: &str) -> ApiError {
    let message = format!("host: got {got}, one host is required");
    ApiError::new(ErrorCode::InvalidHost, message)
}

fn is_own(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_give_are_own() {
        for own in [
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "10.1.2.3",
            "[::1]",
            "[fe80::1]",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhos",
            "127.0.0.1.",
            "",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn exactly_one_host_is_named() {
        let host = |values: &[&str], version| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::HOST, value.parse().unwrap());
            }
            host_header(&headers, version).map(|host| host.map(|host| host.host().to_owned()))
        };
        let named = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(
            host(&["localhost:18081"], Version::HTTP_11),
            named("localhost")
        );
        assert_eq!(host(&["[::1]:5"], Version::HTTP_11), named("[::1]"));
        assert_eq!(host(&[], Version::HTTP_10), Ok(None));
        for wrong in [
            &[][..],
            &["a", "a"],
            &[""],
            &["a b"],
            &["user@a"],
            &["a/b"],
            &["http://a"],
        ] {
            assert!(host(wrong, Version::HTTP_11).is_err(), "{wrong:?}");
        }
    }
}
