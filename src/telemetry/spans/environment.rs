//! Whether spans are asked for: by the variables that every program with OpenTelemetry reads
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).
//!
//! In: the environment. Out: the variable that names an endpoint, if spans are to go there. It must
//! stay true that nothing is exported that nobody asked for: no endpoint is the default.

/// The first of them that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// A variable's value; an empty one counts as none.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variable that asks for spans, and what it says.
pub(super) fn endpoint() -> Option<(&'static str, String)> {
    asked(variable)
}

fn asked(variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let is = |name, wanted: &str| {
        variable(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    ENDPOINTS.iter().find_map(|name| Some((*name, variable(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_asked_for_by_an_endpoint_unless_they_are_declined() {
        let asked = |set: &[(&str, &str)]| {
            let value = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            asked(value).map(|(name, _)| name)
        };
        let [of_traces, of_all] = ENDPOINTS;
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[(of_all, "http://a")]), Some(of_all));
        assert_eq!(asked(&[(of_all, "http://a"), (of_traces, "http://b")]), Some(of_traces));
        assert_eq!(asked(&[(of_all, "http://a"), ("OTEL_SDK_DISABLED", "True")]), None);
        assert_eq!(asked(&[(of_all, "http://a"), ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert_eq!(asked(&[(of_all, "http://a"), ("OTEL_TRACES_EXPORTER", "otlp")]), Some(of_all));
    }
}
