//! Tests of what is told about keys.

use super::*;
use crate::check::finding::Level;
use crate::config::{Inputs, load};
use crate::lsn::{Lsn, Position};

fn settings(more: &[(&str, &str)]) -> Settings {
    let urls = [("RELAY_DATABASE_URL", "postgresql://a@b/c"), ("RELAY_REDIS_URL", "redis://d")];
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment = urls.iter().chain(more).map(owned).collect();
    load(&Inputs { environment, ..Inputs::default() }).unwrap().settings().unwrap()
}

#[test]
fn each_stream_has_dead_letters_and_a_checkpoint_for_each_slot() {
    let names = |settings: &Settings| {
        let topics = ["orders".to_owned(), "identity.user.v1".to_owned()];
        let keys = all(settings, &topics, None);
        keys.into_iter().map(|key| key.name).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&settings(&[])),
        [
            "identity.user.v1",
            "orders",
            "identity.user.v1.dlq",
            "orders.dlq",
            "walrelay:{identity.user.v1}:walrelay@SYSTEM",
            "walrelay:{orders}:walrelay@SYSTEM",
        ]
    );
    let more = names(&settings(&[("RELAY_SHARDS", "2"), ("RELAY_DLQ_STREAM_NAME", "dead")]));
    assert_eq!(more.len(), 2 + 1 + 4, "{more:?}");
}

#[test]
fn a_key_of_another_type_is_moved_out_of_the_way() {
    let key = all(&settings(&[]), &[], None).remove(0);
    assert_eq!(judge_type(&key, "none").level, Level::Ok);
    assert_eq!(judge_type(&key, "stream").level, Level::Ok);
    let finding = judge_type(&key, "string");
    assert_eq!(finding.level, Level::Failure);
    let fix = &finding.advice.as_ref().unwrap().fix;
    assert_eq!(fix, "RENAME identity.user.v1 identity.user.v1.string");
}

#[test]
fn a_checkpoint_is_judged_as_the_line_judges_it() {
    let history = History {
        timeline: 2,
        forks: vec![(1, Lsn::new(0x500))],
        wal_end: Lsn::new(0x1000),
        confirmed: Lsn::new(0x100),
    };
    let at = |lsn, timeline| Checkpoint {
        epoch: 1,
        position: Position { commit_lsn: Lsn::new(lsn), ordinal: 1 },
        event_id: "e".to_owned(),
        timeline: Some(timeline),
    };
    assert_eq!(judge("k", &at(0x900, 2), &history).level, Level::Ok);
    assert_eq!(judge("k", &at(0x900, 2), &history).found, "at 0/900, 2.0 KiB ahead of the slot");
    let forked = judge("k", &at(0x600, 1), &history);
    assert_eq!(forked.level, Level::Warning);
    let fix = &forked.advice.as_ref().unwrap().fix;
    assert_eq!(fix, "HSET k position 0000000000000500-00000000 event_id \"\"");
    assert_eq!(judge("k", &at(0x1000, 2), &history).level, Level::Warning, "past the end");
}
