//! The page at `/`, its parts, and the headers that all answers carry.
//!
//! In: files that are compiled in. Out: their text. It must stay true that a browser which shows
//! the page runs nothing and asks nobody but this relay, whatever a row of the outbox says: there
//! is no script and no style in the markup, so the policy can forbid all of that.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// For `curl`, which wants no page.
const INDEX: &str = "walrelay\n\n/         a page to look at, in a browser\n\
                     /livez    is the process alive\n\
                     /readyz   does an event come through, or does it stand by\n\
                     /status   everything it knows, JSON\n/metrics  the numbers, OpenMetrics\n\
                     /dead     what could not be delivered, JSON\n";

const PAGE: &str = include_str!("assets/index.html");
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PARTS: [(&str, &str, &str); 5] = [
    ("/page/page.css", "text/css; charset=utf-8", include_str!("assets/page.css")),
    ("/page/page.js", SCRIPT, include_str!("assets/page.js")),
    ("/page/format.js", SCRIPT, include_str!("assets/format.js")),
    ("/page/graph.js", SCRIPT, include_str!("assets/graph.js")),
    ("/page/dead.js", SCRIPT, include_str!("assets/dead.js")),
];

/// Everything from here and nothing from elsewhere; data: is the icon, drawn in the state's colour.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What every answer says. `no-store`: an old number is worse than none, and a new version of the
/// relay must not meet the scripts of the last.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The page and its parts.
pub(super) fn routes() -> Router {
    let parts = PARTS.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], text)))
    });
    parts.route("/", get(page))
}

async fn page(headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    let vary = (header::VARY, "Accept");
    if accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        return ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), vary], PAGE).into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), vary], INDEX).into_response()
}

/// The answer with those headers.
pub(super) async fn guarded(mut response: Response) -> Response {
    for (name, value) in &HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_has_nothing_inline_and_nothing_from_elsewhere() {
        let bytes: usize = PARTS.iter().map(|(.., text)| text.len()).sum();
        assert!(bytes + PAGE.len() < 60_000, "{bytes} bytes");
        for inline in ["<style", "style=", "javascript:", " onclick", " onload", "<script>"] {
            assert!(!PAGE.contains(inline), "{inline}");
        }
        for (path, _, text) in PARTS.into_iter().chain([("/", "", PAGE)]) {
            for (at, _) in text.match_indices("://") {
                // The one that is a name and no address.
                let rest = text.get(at..at + 20).unwrap_or_default();
                assert!(rest.starts_with("://www.w3.org/2000/s"), "{path}: {rest}");
            }
            assert!(!text.contains("innerHTML"), "{path}");
        }
        for (path, ..) in PARTS {
            let name = path.trim_start_matches("/page/");
            let is_named = PARTS.iter().any(|(.., text)| text.contains(&format!("./{name}")));
            assert!(is_named || PAGE.contains(&format!("\"page/{name}\"")), "{path}");
        }
    }
}
