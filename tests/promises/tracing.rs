//! A binary without feature `otel` says so where spans are asked for, and goes on; what it does
//! with the feature is in `tests/otel`.

use crate::harness::relay::Settings;

#[tokio::test]
async fn without_the_feature_spans_that_are_asked_for_are_one_warning() {
    if cfg!(feature = "otel") {
        return;
    }
    let nobody = ("postgres://u@127.0.0.1:1/d", "redis://127.0.0.1:1");
    let settings = Settings::new(nobody.0, nobody.1)
        .with_variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@127.0.0.1:4318");
    let mut relay = settings.start();
    relay.until_output("trying again").await;
    relay.drain().await;
    let said = relay.output();
    assert_eq!(said.matches("built without them").count(), 1, "{said}");
    assert!(said.contains("--features otel") && !said.contains("hunter2"), "{said}");

    let declined = settings.with_variable("OTEL_TRACES_EXPORTER", "none");
    let mut relay = declined.start();
    relay.until_output("trying again").await;
    relay.drain().await;
    assert!(!relay.output().contains("built without them"), "{}", relay.output());
}
