//! The side of PostgreSQL: rows of the range, page by page, and single ones.
//!
//! In: a session, a range. Out: rows with what has become of each. It must stay true that every
//! page is a statement of its own, so that nothing is held back, and that a row is turned into its
//! event by the same code that publishes it.

use futures_util::TryStreamExt;
use std::borrow::Cow;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::asked::{Asked, Watch};
use super::settled::{Ground, State};
use crate::config::{self, Settings};
use crate::error::{Error, Result};
use crate::outbox::{Defaults, Envelope, OccurredAt, Selection, Unfit, moment};
use crate::postgres::{from_sql, names_and_types, prefer_pages};
use crate::rate::Limit;

const BOUNDS: &str = include_str!("../../sql/queries/verify_bounds.sql");
const MOMENT: &str = include_str!("../../sql/queries/verify_moment.sql");
const PROBE: &str = include_str!("../../sql/queries/verify_probe.sql");
const ROWS: &str = include_str!("../../sql/queries/verify_rows.sql");
const ROWS_BY_ID: &str = include_str!("../../sql/queries/verify_rows_by_id.sql");
const FIND_EVENTS: &str = include_str!("../../sql/queries/verify_find_events.sql");
const FIND_TABLE: &str = include_str!("../../sql/queries/find_table.sql");

/// Rows of a page: a few milliseconds.
const PAGE_ROWS: i64 = 1_000;
/// Halvings of a range of ids: all there are.
const PROBES_MAX: u32 = 64;
/// A session on the outbox.
pub(super) struct Outbox {
    pub client: Client,
    pub ground: Ground,
    pub selection: Selection,
    table: config::Outbox,
    stream: String,
    doing: String,
    page: Statement,
    by_id: Statement,
    by_id_bare: Statement,
    find_events: String,
}

/// Which rows.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// First and last id; none where the table is empty.
    pub ids: Option<(i64, i64)>,
    since: Option<String>,
    until: Option<String>,
    /// The same in milliseconds since 1970.
    pub since_ms: Option<u64>,
    pub until_ms: Option<u64>,
    /// What the clock of PostgreSQL said before anything was read.
    pub began: String,
}

impl Outbox {
    /// Takes over the session.
    pub async fn open(client: Client, settings: &Settings, is_dated: bool) -> Result<Self> {
        prefer_pages(&client).await?;
        let table = &settings.outbox_table;
        let doing = format!("cannot read the rows of table {table}");
        let failed = |error| from_sql(&doing, error);
        let names: [&(dyn ToSql + Sync); 2] = [&table.schema, &table.name];
        let rows = client.query(FIND_TABLE, &names).await.map_err(failed)?;
        if rows.is_empty() {
            return Err(Error::definite(format!("table {table} does not exist"))
                .hint("run `walrelay setup`, or correct outbox_table"));
        }
        let selection = Selection::from_columns(table, &names_and_types(&rows))?;
        let has = |part: &str| selection.parts().has(part);
        if is_dated && !has("created_at") {
            let what = format!("table {table} has no column created_at: rows have no time");
            return Err(Error::usage(what).hint("--from-id and --to-id limit the range as well"));
        }
        let ground = Ground::new(&has, settings.after_publish);
        let fill = |sql: &str| {
            let sql = sql
                .replace("{state}", &ground.state)
                .replace("{retried}", &ground.retried)
                .replace("{in_range}", if has("created_at") { IN_RANGE } else { ALWAYS });
            table.sql(&sql)
        };
        let whole = selection.list();
        // What is out of range is not printed: that is most of the cost of a row.
        let ranged =
            |payload: &str| format!("CASE WHEN {} THEN {payload} END", table.sql(IN_RANGE));
        let list = if is_dated { selection.list_with_payload(ranged) } else { whole.clone() };
        let prepare = async |sql: &str, list: &str| {
            client.prepare(&fill(sql).replace("{list}", list)).await.map_err(failed)
        };
        let page = prepare(ROWS, &list).await?;
        let by_id = prepare(ROWS_BY_ID, &whole).await?;
        let by_id_bare = prepare(ROWS_BY_ID, &selection.list_without_payload()).await?;
        let find_events =
            fill(FIND_EVENTS).replace("{event_ids}", &table.events_in(selection.parts(), 1));
        let stream = settings.stream_name.clone();
        Ok(Self {
            client,
            ground,
            selection,
            table: table.clone(),
            stream,
            doing,
            page,
            by_id,
            by_id_bare,
            find_events,
        })
    }

    pub fn failed(&self, error: tokio_postgres::Error) -> Error {
        from_sql(&self.doing, error)
    }

    /// The rows that somebody asked for. Read before anything else: what is added later is none of
    /// them.
    pub async fn range(&self, settings: &Settings, asked: &Asked) -> Result<Range> {
        let table = &settings.outbox_table;
        let since = self.moment("--since", asked.since.as_deref()).await?;
        let until = self.moment("--until", asked.until.as_deref()).await?;
        let bounds = self.client.query_one(&table.sql(BOUNDS), &[]).await;
        let bounds = bounds.map_err(|error| self.failed(error))?;
        let ids: Option<(i64, i64)> = bounds.get::<_, Option<i64>>("first").zip(bounds.get("last"));
        let mut ids = ids.map(|(first, last)| {
            let from = asked.from_id.unwrap_or(first).max(first);
            (from, asked.to_id.unwrap_or(last).min(last))
        });
        ids = ids.filter(|(first, last)| first <= last);
        if let (Some((first, last)), Some(since)) = (ids, &since) {
            ids = Some((self.skip(table, (first, last), since).await?, last));
        }
        let ms = |at: &Option<String>| {
            let text = OccurredAt::from_postgres(at.as_ref()?.as_bytes()).ok()?;
            let micros = moment::parse(std::str::from_utf8(text.as_bytes()).ok()?)?;
            u64::try_from(micros.div_euclid(1_000)).ok()
        };
        let (since_ms, until_ms) = (ms(&since), ms(&until));
        Ok(Range { ids, since, until, since_ms, until_ms, began: bounds.get("began") })
    }

    /// A moment, or an age, as somebody typed it.
    async fn moment(&self, flag: &str, typed: Option<&str>) -> Result<Option<String>> {
        let Some(typed) = typed else { return Ok(None) };
        let age = config::duration(typed).ok().map(|age| age.as_secs_f64());
        let text = if age.is_some() { None } else { Some(typed) };
        let asked = self.client.query_one(MOMENT, &[&text, &age]).await;
        let is_nonsense = |error: &tokio_postgres::Error| {
            error.code().is_some_and(|code| code.code().starts_with("22"))
        };
        match asked {
            Ok(row) => Ok(row.get("moment")),
            Err(error) if is_nonsense(&error) => {
                Err(Error::usage(format!("{flag} {typed:?} is neither a moment nor an age"))
                    .hint("such as \"2026-07-01 10:00\" (UTC, or with an offset) or 2h"))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The first id behind rows that are older than `since` by far: ids rise with time, about.
    async fn skip(&self, table: &config::Outbox, ids: (i64, i64), since: &str) -> Result<i64> {
        let sql = table.sql(PROBE);
        let (mut low, mut high) = ids;
        for _ in 0..PROBES_MAX {
            let middle = low.midpoint(high);
            if middle <= low {
                break;
            }
            let found = self.client.query_opt(&sql, &[&middle, &since]).await;
            match found.map_err(|error| self.failed(error))? {
                Some(row) if row.get("is_before") => low = row.get::<_, i64>("id").min(high),
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Shows all rows of the range, in steps.
    pub async fn read(
        &self,
        range: &Range,
        limit: &Limit,
        watch: &mut impl Watch,
        mut show: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        let Some((first, last)) = range.ids else { return Ok(()) };
        let span = last.saturating_sub(first).saturating_add(1);
        watch.begin("rows", u64::try_from(span).ok());
        let (mut after, mut done) = (first.saturating_sub(1), 0);
        while after < last {
            let (count, end) = self.page(after, last, range, &mut show).await?;
            if count == 0 {
                break;
            }
            after = end;
            done += u64::try_from(count).unwrap_or(0);
            watch.reach(done);
            limit.after(count).await;
        }
        Ok(())
    }

    /// Shows the next rows behind `after`, and says how many they were and which was the last.
    async fn page(
        &self,
        after: i64,
        last: i64,
        range: &Range,
        mut show: impl FnMut(&Row) -> Result<()>,
    ) -> Result<(usize, i64)> {
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&after, &last, &PAGE_ROWS, &range.since, &range.until];
        let rows = self.client.query_raw(&self.page, parameters).await;
        let rows = rows.map_err(|error| self.failed(error))?;
        let mut rows = std::pin::pin!(rows);
        let (mut count, mut end) = (0, after);
        while let Some(row) = rows.try_next().await.map_err(|error| self.failed(error))? {
            count += 1;
            let id = self.row(&row).id();
            end = id.ok_or_else(|| Error::definite(format!("{}: an id is NULL", self.doing)))?;
            if row.get("is_in_range") {
                show(&row)?;
            }
        }
        Ok((count, end))
    }

    /// Those rows, as they are now; without their payloads where those do not matter.
    pub async fn rows(&self, ids: &[i64], has_payload: bool) -> Result<Vec<Row>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let statement = if has_payload { &self.by_id } else { &self.by_id_bare };
        self.client.query(statement, &[&ids]).await.map_err(|error| self.failed(error))
    }

    /// Which of these events have a row.
    pub async fn having_rows(&self, event_ids: &[String]) -> Result<Vec<String>> {
        if event_ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.client.query(&self.find_events, &[&event_ids]).await;
        let rows = rows.map_err(|error| self.failed(error))?;
        Ok(rows.iter().map(|row| row.get("event_id")).collect())
    }

    /// The row as the decoder would see it.
    pub fn row<'a>(&self, row: &'a Row) -> crate::outbox::Row<'a> {
        self.selection.read(|place| row.get::<_, Option<&str>>(place))
    }

    /// The event that the row is.
    pub fn envelope<'a>(
        &'a self,
        row: &crate::outbox::Row<'a>,
    ) -> std::result::Result<Envelope<'a>, Unfit> {
        Envelope::new(row, &self.defaults())
    }

    /// The stream that the row names.
    pub fn stream<'a>(&'a self, row: &crate::outbox::Row<'a>) -> Option<Cow<'a, str>> {
        match Envelope::stream_of(row, &self.defaults()).ok()? {
            Cow::Borrowed(name) => std::str::from_utf8(name).ok().map(Cow::Borrowed),
            Cow::Owned(name) => String::from_utf8(name).ok().map(Cow::Owned),
        }
    }

    fn defaults(&self) -> Defaults<'_> {
        Defaults {
            stream: self.stream.as_bytes(),
            outbox: &self.table,
            commit_time: 0,
            event_bytes_max: usize::MAX,
            contract: None,
        }
    }

    /// What has become of the row.
    pub fn state(row: &Row) -> State {
        State::of(row.get("state"))
    }
}

/// $4 and $5: the moments of the range.
const IN_RANGE: &str = "(($4::text IS NULL OR o.created_at >= $4::text::timestamptz) \
     AND ($5::text IS NULL OR o.created_at < $5::text::timestamptz))";
/// Without a column for it there is no range of time.
const ALWAYS: &str = "($4::text IS NULL AND $5::text IS NULL)";
