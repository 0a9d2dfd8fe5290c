//! Who may ask: a bearer token, where one is set. Holds the token, and never shows it.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use crate::error::{ApiError, ErrorCode};

/// The environment variable that the token comes from.
pub const TOKEN_VARIABLE: &str = "WORKER_API_TOKEN";

/// The token that every request must carry. Without `Debug`, so that no log can show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken(String);

impl ApiToken {
    /// Takes what a header can carry, and nothing else.
    pub fn new(token: &str) -> Result<Self, &'static str> {
        match token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true if !token.is_empty() => Ok(Self(token.to_owned())),
            true => Err("it is empty"),
            false => Err("it holds something other than visible ASCII characters"),
        }
    }

    /// Compares in a time that tells nothing but the lengths.
    fn is_carried_by(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some((scheme, token)) = value.as_bytes().split_at_checked("Bearer ".len()) else {
            return false;
        };
        let scheme_fits = scheme.eq_ignore_ascii_case(b"Bearer ");
        scheme_fits & bool::from(token.ct_eq(self.0.as_bytes()))
    }
}

/// Refuses requests without the token, before anything else about them is looked at.
pub async fn require_token(
    State(token): State<ApiToken>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match token.is_carried_by(request.headers()) {
        true => Ok(next.run(request).await),
        false => Err(ApiError::new(
            ErrorCode::Unauthorized,
            "this worker takes requests with its token only: Authorization: Bearer TOKEN",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_in_one_header_opens() {
        let token = ApiToken::new("s3cret").ok().unwrap();
        let carried = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            token.is_carried_by(&headers)
        };
        assert!(carried(&["Bearer s3cret"]));
        assert!(carried(&["bearer s3cret"]));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3crett",
            "Basic s3cret",
            "s3cret",
        ] {
            assert!(!carried(&[wrong]), "{wrong}");
        }
        assert!(!carried(&[]));
        assert!(!carried(&["Bearer s3cret", "Bearer s3cret"]));
    }

    #[test]
    fn a_token_that_no_header_carries_is_refused_at_the_start() {
        for bad in ["", "a b", "a\n", "é"] {
            assert!(ApiToken::new(bad).is_err(), "{bad:?}");
        }
    }
}
