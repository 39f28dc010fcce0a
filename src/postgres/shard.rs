//! Which rows are a shard's: one condition, for the publication and for every statement of ours.
//!
//! In: a [`Shard`]. Out: SQL text on a row of the outbox. It must stay true that each row meets the
//! condition of exactly one shard of a division, whatever its aggregate is, and that publication
//! and statements ask the same.

use crate::config::{Outbox, Shard};

const SHARD: &str = include_str!("../../sql/queries/shard.sql");

/// The condition; `true` for one line that takes all rows.
#[must_use]
pub fn condition(shard: Shard, outbox: &Outbox) -> String {
    if shard.is_whole() {
        return "true".to_owned();
    }
    let lines = SHARD.lines().filter(|line| !line.starts_with("--"));
    let sql = outbox.sql(&lines.collect::<Vec<_>>().join(" "));
    sql.replace("{of}", &shard.of.to_string())
        .replace("{remainder}", &shard.number.saturating_sub(1).to_string())
}

/// Whether a publication's row filter, as the server prints it, is the shard's condition. The
/// server adds parentheses and leaves out what it need not say.
#[must_use]
pub fn is_filter(shard: Shard, outbox: &Outbox, printed: &str) -> bool {
    bare(printed) == bare(&condition(shard, outbox))
}

fn bare(condition: &str) -> String {
    // Quotes are where a name needs them, which ours have always.
    let text = condition.to_ascii_lowercase().replace("pg_catalog.", "");
    text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '(' | ')' | '"')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableName;

    #[test]
    fn a_filter_is_known_as_the_server_prints_it_and_no_other_is() {
        let table = TableName { schema: "a".into(), name: "b".into() };
        let (outbox, shard) = (Outbox::from(table), |number, of| Shard { number, of });
        let is_filter = |shard, printed| is_filter(shard, &outbox, printed);
        let printed = "(((hash_record(ROW(aggregate_id)) & 2147483647) % 4) = 2)";
        assert!(is_filter(shard(3, 4), printed));
        assert!(!is_filter(shard(2, 4), printed) && !is_filter(shard(3, 5), printed));
        assert!(!is_filter(shard(3, 4), "((id % 4) = 2)") && !is_filter(shard(3, 4), ""));
        assert_eq!(condition(Shard::WHOLE, &outbox), "true");
    }
}
