//! Names and texts inside SQL: the only file that puts quotes around them.
//!
//! In: names as PostgreSQL stores them. Out: SQL that means exactly that name, whatever is in it.
//! Values go as parameters instead; these are for the places where PostgreSQL takes none (DDL,
//! START_REPLICATION).
//! <https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>

/// `my"table` becomes `"my""table"`.
#[must_use]
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `it's` becomes `'it''s'`. A backslash stays itself: that is so in the replication grammar, and
/// in SQL while standard_conforming_strings is on, which every session of ours sets.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `"schema"."name"`.
#[must_use]
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_one_name() {
        assert_eq!(ident(r#"a"; DROP TABLE x; --"#), r#""a""; DROP TABLE x; --""#);
        assert_eq!(literal("'; DROP TABLE x; --"), "'''; DROP TABLE x; --'");
        assert_eq!(literal(r"a\'"), r"'a\'''");
        assert_eq!(qualified("My Schema", "out.box"), r#""My Schema"."out.box""#);
    }
}
