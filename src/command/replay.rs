//! `walrelay replay`: what was typed becomes an order, and what was done an answer.
//!
//! In: settings and options. Out: the answer on standard output, words about the work on standard
//! error. Not here: how events are found and written (`crate::replay`).

use std::fmt::Write as _;
use std::io::Write;
use std::time::Instant;

use super::bookmark::tell;
use super::dlq::say;
use super::table::printable;
use super::terminal::Progress;
use crate::cli::Replay;
use crate::config::{self, Settings};
use crate::error::{Error, Result};
use crate::replay::{self, Filter, Order, Outcome, Range, Seen, Source, Told, When};

/// Does what was asked, and writes the answer to `out`.
pub async fn run(settings: &Settings, asked: &Replay, out: &mut impl Write) -> Result<()> {
    let order = order(settings, asked)?;
    warn(settings, &order);
    let (mut progress, mut unit_now, mut first) = (None::<Progress>, "", 0);
    let began = Instant::now();
    let mut told = |told: Told<'_>| match told {
        Told::Note(text) => tell(&format!("{text}\n")),
        Told::Reached { read, of, unit, events } => {
            if unit_now != unit {
                progress = Some(Progress::new(unit, of));
                (unit_now, first) = (unit, events);
            }
            if let Some(progress) = &mut progress {
                let rate = || (events - first) / began.elapsed().as_secs().max(1);
                progress.reach_with(read, || format!("; {events} events, {}/s", rate()));
            }
        }
    };
    let done = Box::pin(replay::run(settings, &order, &mut told)).await;
    if let Some(progress) = progress {
        progress.end();
    }
    let done = done?;
    say(out, &if order.is_dry_run { counted(&order, &done) } else { replayed(&order, &done) })?;
    if done.orphans > 0 {
        tell(&format!(
            "{} had no row any more: what a dead letter does not say (aggregate_type, \
             schema_version, correlation_id, traceparent) is missing in the entry\n",
            events(done.orphans)
        ));
    }
    if done.tally.unfit > 0 && !order.is_dry_run {
        let unfit = done.tally.unfit;
        return Err(Error::definite(format!(
            "not all was replayed: of what is in the range {unfit} could not become events"
        ))
        .hint("the first ten are told above, each with the reason"));
    }
    Ok(())
}

fn order(settings: &Settings, asked: &Replay) -> Result<Order> {
    let source = source(settings, asked)?;
    if let Some(stream) = &asked.stream {
        let named = config::stream_name(stream);
        named.map_err(|reason| Error::usage(format!("--stream {stream:?} {reason}")))?;
    }
    Ok(Order {
        until: Range::parse(&source, asked.until.as_deref())?,
        source,
        filter: Filter { types: asked.types.clone(), aggregate: asked.aggregate.clone() },
        target: asked.stream.clone(),
        rate: asked.rate,
        is_again: asked.again,
        is_dry_run: asked.dry_run,
    })
}

fn source(settings: &Settings, asked: &Replay) -> Result<Source> {
    if let Some(typed) = &asked.bookmark {
        let name = typed.strip_prefix(config::BOOKMARK_PREFIX).unwrap_or(typed);
        let name = config::bookmark_name(name)
            .map_err(|reason| Error::usage(format!("--bookmark {typed:?} {reason}")))?;
        return Ok(Source::Bookmark(name));
    }
    if let Some(text) = &asked.from_lsn {
        let lsn = text.trim().parse();
        return lsn
            .map(Source::Lsn)
            .map_err(|error| Error::usage(format!("--from-lsn {text:?}")).because(error));
    }
    if let Some(text) = &asked.since {
        return Ok(Source::Since(When::parse("--since", text)?));
    }
    if let Some(stream) = &asked.dlq {
        let own = || settings.dlq_stream_name.clone();
        let default = || own().unwrap_or_else(|| format!("{}.dlq", settings.stream_name));
        let stream = if stream.is_empty() { default() } else { stream.clone() };
        return Ok(Source::Letters(stream));
    }
    if asked.id.is_empty() { Ok(Source::Aggregate) } else { Ok(Source::Ids(asked.id.clone())) }
}

/// What somebody may not have meant.
fn warn(settings: &Settings, order: &Order) {
    if order.is_dry_run {
        return;
    }
    let is_live = match &order.target {
        None => "the events go into the streams that they belong to",
        Some(target) if *target == settings.stream_name => "this is the stream of the live line",
        Some(_) => return,
    };
    tell(&format!(
        "warning: {is_live}: consumers see them a second time, with replayed = true (--stream \
         TARGET sends them elsewhere)\n"
    ));
}

/// Where it was looked, for people.
fn looked(order: &Order, done: &Outcome) -> String {
    let (from, until) = &done.range;
    match &order.source {
        Source::Bookmark(name) => format!("bookmark {name}, {from} to {until}"),
        Source::Lsn(_) => format!("the WAL, {from} to {until}"),
        Source::Since(_) => format!("the table, {from} to {until}"),
        Source::Ids(ids) if ids.len() == 1 => "the table, 1 id".to_owned(),
        Source::Ids(ids) => format!("the table, {} ids", ids.len()),
        Source::Aggregate => format!("the table, until {until}"),
        Source::Letters(stream) => format!("dead letter stream {stream}, until {until}"),
    }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

fn replayed(order: &Order, done: &Outcome) -> String {
    let into = order.target.as_ref().map_or_else(
        || "into the streams that they belong to".to_owned(),
        |target| format!("into stream {}", printable(target)),
    );
    let earlier = match done.before {
        0 => String::new(),
        before => format!(", {before} of them by earlier runs"),
    };
    format!("replayed {} {into}{earlier} ({})\n", events(done.events), looked(order, done))
}

fn counted(order: &Order, done: &Outcome) -> String {
    let tally = &done.tally;
    let mut text = format!("would replay {} ({})\n", events(tally.events), looked(order, done));
    // A String takes everything.
    for (stream, count) in &tally.streams {
        let _always = writeln!(text, "  into stream {}: {count}", printable(stream));
    }
    for (which, seen) in [("first", &tally.first), ("last", &tally.last)] {
        let Some(seen) = seen else { continue };
        let Seen { place, event_id, event_type, aggregate, occurred_at } = seen;
        let line = format!(
            "{which}: {place}, event {event_id}, type {event_type}, aggregate {aggregate}, \
             {occurred_at}"
        );
        let _always = writeln!(text, "  {}", printable(&line));
    }
    if tally.unfit > 0 {
        let _always = writeln!(text, "  beside those {} could not become events", tally.unfit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_was_done_and_by_whom() {
        let order = Order {
            source: Source::Bookmark("b".into()),
            until: Range::Now,
            filter: Filter::default(),
            target: Some("rebuild".into()),
            rate: None,
            is_again: false,
            is_dry_run: false,
        };
        let mut done = Outcome {
            events: 1,
            before: 0,
            range: ("0/1".into(), "0/9".into()),
            tally: replay::Tally::default(),
            orphans: 0,
        };
        let text = replayed(&order, &done);
        assert_eq!(text, "replayed 1 event into stream rebuild (bookmark b, 0/1 to 0/9)\n");
        (done.events, done.before) = (9, 4);
        assert!(replayed(&order, &done).contains("9 events into stream rebuild, 4 of them by"));
        assert!(counted(&order, &done).starts_with("would replay 0 events (bookmark b"));
    }
}
