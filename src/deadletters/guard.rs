//! Who may see dead events over HTTP, and who may change them.
//!
//! In: the headers of a request, what it came in by, the token. Out: a yes, or the refusal with
//! its reason. It must stay true that nothing is changed without the token, nor by a page of
//! somebody else's that a browser has open (`Origin`, `Sec-Fetch-Site`); that without a token
//! nobody sees them but this machine, by a name that is its own (a name that was made to point
//! here, DNS rebinding, is not); and that comparing takes as long for a near miss as for any other.

use std::hint::black_box;
use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules of one address.
#[derive(Debug)]
pub(super) struct Guard {
    pub token: Option<SecretString>,
    /// Whether only this machine reaches it.
    pub is_loopback: bool,
}

/// A no.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub reason: &'static str,
}

const fn refusal(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

const OFF: Refusal = refusal(
    StatusCode::FORBIDDEN,
    "retry and discard are off: set http_token, and start the relay again",
);
const NOT_HERE: Refusal = refusal(
    StatusCode::FORBIDDEN,
    "the pages are served to other machines, so these rows are shown to a token only: set \
     http_token, and start the relay again",
);
const OTHER_NAME: Refusal = refusal(
    StatusCode::FORBIDDEN,
    "asked by a name that is not this machine's: use 127.0.0.1 or localhost, or set http_token",
);
const FOREIGN: Refusal =
    refusal(StatusCode::FORBIDDEN, "asked by a page that does not come from this relay");
const NO_TOKEN: Refusal =
    refusal(StatusCode::UNAUTHORIZED, "this takes the relay's http_token as a bearer token");
const WRONG_TOKEN: Refusal =
    refusal(StatusCode::UNAUTHORIZED, "that is not the relay's http_token");
const NO_JSON: Refusal =
    refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json: {\"ids\": [...]}");

impl Guard {
    /// May dead and parked events be shown?
    pub fn may_look(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if let Some(token) = &self.token {
            return check_token(token, headers);
        }
        if !self.is_loopback {
            return Err(NOT_HERE);
        }
        let host = text(headers, &header::HOST).unwrap_or_default();
        if is_this_machine(host) { Ok(()) } else { Err(OTHER_NAME) }
    }

    /// May they be changed?
    pub fn may_change(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = self.token.as_ref().ok_or(OFF)?;
        if !is_same_origin(headers) {
            return Err(FOREIGN);
        }
        check_token(token, headers)?;
        // A form of another page cannot send this without being asked for permission first.
        let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(NO_JSON) }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn check_token(token: &SecretString, headers: &HeaderMap) -> Result<(), Refusal> {
    let given = text(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    let Some((_, given)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(NO_TOKEN);
    };
    if is_same(given.trim(), token.expose_secret()) { Ok(()) } else { Err(WRONG_TOKEN) }
}

/// Compares digests, every byte of them: neither length nor beginning of the token shows in time.
fn is_same(given: &str, token: &str) -> bool {
    let (given, token) = (Sha256::digest(given), Sha256::digest(token));
    let differing = given.iter().zip(token.iter()).fold(0, |found, (a, b)| found | (a ^ b));
    black_box(differing) == 0
}

/// What a browser says of the page that asks; whatever is no browser says nothing.
fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(&SEC_FETCH_SITE) {
        return site == "same-origin" || site == "none";
    }
    // Over plain HTTP from another machine browsers send no Sec-Fetch-Site.
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = text(headers, &header::HOST);
    origin.zip(host).is_some_and(|((_, origin), host)| origin.eq_ignore_ascii_case(host))
}

/// Is this `Host` header a loopback address, or a name that no name server answers for?
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery";

    fn guard(token: Option<&str>, is_loopback: bool) -> Guard {
        Guard { token: token.map(SecretString::from), is_loopback }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn without_a_token_only_this_machine_looks_by_its_own_name_and_nobody_changes() {
        let here = guard(None, true);
        for host in ["127.0.0.1:8080", "127.9.9.9", "localhost:1", "A.localhost", "[::1]:8080"] {
            assert_eq!(here.may_look(&headers(&[("host", host)])), Ok(()), "{host}");
            assert_eq!(here.may_change(&headers(&[("host", host)])), Err(OFF), "{host}");
        }
        for host in ["", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", "[::2]"] {
            assert_eq!(here.may_look(&headers(&[("host", host)])), Err(OTHER_NAME), "{host}");
        }
        let open = guard(None, false);
        assert_eq!(open.may_look(&headers(&[("host", "127.0.0.1")])), Err(NOT_HERE));
    }

    #[test]
    fn with_a_token_only_the_token_looks() {
        for is_loopback in [true, false] {
            let guard = guard(Some(TOKEN), is_loopback);
            let asked = |value: &str| guard.may_look(&headers(&[("authorization", value)]));
            assert_eq!(asked(&format!("Bearer {TOKEN}")), Ok(()));
            assert_eq!(asked(&format!("bearer  {TOKEN} ")), Ok(()));
            for wrong in ["Bearer correct-horse-batterz", "Bearer ", "Bearer correct-horse"] {
                assert_eq!(asked(wrong), Err(WRONG_TOKEN), "{wrong}");
            }
            for none in [TOKEN, "Basic correct-horse-battery", ""] {
                assert_eq!(asked(none), Err(NO_TOKEN), "{none}");
            }
            assert_eq!(guard.may_look(&headers(&[("host", "localhost")])), Err(NO_TOKEN));
        }
    }

    #[test]
    fn a_change_takes_the_token_json_and_a_page_of_this_relay() {
        let guard = guard(Some(TOKEN), true);
        let bearer = format!("Bearer {TOKEN}");
        let json = ("content-type", "application/json; charset=utf-8");
        let host = ("host", "relay:8080");
        let asked = |more: &[(&str, &str)]| {
            let own = [("authorization", bearer.as_str()), host];
            guard.may_change(&headers(&[&own[..], more].concat()))
        };
        assert_eq!(asked(&[json]), Ok(()));
        assert_eq!(asked(&[json, ("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(asked(&[json, ("origin", "http://relay:8080")]), Ok(()));
        let by_a_proxy = [("origin", "https://relay.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(asked(&[&by_a_proxy[..], &[json]].concat()), Ok(()));
        for foreign in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "http://evil.example"),
            ("origin", "http://relay:8081"),
            ("origin", "null"),
        ] {
            assert_eq!(asked(&[json, foreign]), Err(FOREIGN), "{foreign:?}");
        }
        assert_eq!(asked(&[]), Err(NO_JSON));
        assert_eq!(asked(&[("content-type", "text/plain")]), Err(NO_JSON));
        assert_eq!(guard.may_change(&headers(&[json, host])), Err(NO_TOKEN));
    }
}
