//! How many events were published although they break their schema: its part of /metrics.
//!
//! In: the counts that the contract keeps. Out: a counter for each schema, from the beginning on;
//! none where no event is held against any.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::status::Status;

const HELP: &str = "Events published although they break their schema (schema_validation = warn)";

pub(super) fn register(registry: &mut Registry, status: &Status) {
    let Some(contract) = status.contract() else { return };
    let counters: Family<[(&'static str, String); 1], Counter> = Family::default();
    for (schema, count) in contract.told() {
        counters.get_or_create(&[("schema", schema.to_owned())]).inc_by(count);
    }
    registry.register("schema_violations", HELP, counters);
}
