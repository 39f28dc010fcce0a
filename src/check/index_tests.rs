//! Tests of what is told about indexes and room.

use super::*;
use crate::check::finding::Level;
use crate::config::{Inputs, load};

fn settings() -> Settings {
    let environment =
        [("RELAY_DATABASE_URL", "postgresql://a@b/c"), ("RELAY_REDIS_URL", "redis://d")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let inputs = Inputs { environment: environment.into(), ..Inputs::default() };
    load(&inputs).unwrap().settings().unwrap()
}

fn index(name: &str, keys: &[&str], columns: &[&str]) -> Index {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Index {
        schema: "identity".into(),
        name: name.into(),
        method: "btree".into(),
        is_valid: true,
        keys: owned(keys),
        columns: owned(columns),
        ..Index::default()
    }
}

fn judged(indexes: &[Index], version_num: i32) -> Vec<Finding> {
    let (settings, table) = (settings(), Table::default());
    let all = Indexes { settings: &settings, table: &table, version_num, all: indexes };
    all.judge().into_iter().filter(|finding| finding.level != Level::Ok).collect()
}

#[test]
fn an_index_on_what_a_mark_changes_is_named_and_replaced_by_what_it_served() {
    let id = index("outbox_pkey", &["id"], &["id"]);
    let partial = index("outbox_unpublished", &["created_at"], &["created_at", "published"]);
    let judged_all = judged(&[id.clone(), partial.clone()], 150_000);
    let [finding] = judged_all.as_slice() else { panic!("{judged_all:?}") };
    assert_eq!(finding.object, "index outbox_unpublished on identity.outbox");
    assert_eq!(
        finding.advice.as_ref().unwrap().fix,
        "DROP INDEX CONCURRENTLY identity.outbox_unpublished;\n\
         CREATE INDEX CONCURRENTLY outbox_unpublished ON identity.outbox (created_at);"
    );
    let flag = index("outbox_published_idx", &["published", "id"], &["published", "id"]);
    let judged_flag = judged(&[id.clone(), flag], 150_000);
    let fix = &judged_flag[0].advice.as_ref().unwrap().fix;
    assert_eq!(fix, "DROP INDEX CONCURRENTLY identity.outbox_published_idx;", "id has one");
    let brin = Index { method: "brin".into(), ..partial };
    assert_eq!(judged(&[id.clone(), brin.clone()], 160_000), []);
    assert_eq!(judged(&[id, brin], 150_000).len(), 1);
}

#[test]
fn what_rows_are_found_by_must_have_an_index() {
    let judged = judged(&[], 150_000);
    let fix = &judged[0].advice.as_ref().unwrap().fix;
    assert!(fix.ends_with(" INDEX CONCURRENTLY outbox_id ON identity.outbox (id);"), "{fix}");
}

#[test]
fn pages_need_room_in_every_partition() {
    let leaf = |name: &str, fillfactor| Leaf {
        table: TableName { schema: "identity".into(), name: name.into() },
        fillfactor,
    };
    let found = judge_room(&settings(), &[leaf("outbox_a", 50), leaf("outbox_b", 100)]).unwrap();
    let fix = &found.advice.as_ref().unwrap().fix;
    assert_eq!(fix, "ALTER TABLE identity.outbox_b SET (fillfactor = 50);");
    assert_eq!(judge_room(&settings(), &[leaf("outbox", 50)]).unwrap().level, Level::Ok);
}
