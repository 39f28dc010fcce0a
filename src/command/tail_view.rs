//! One entry as one line, for people or for programs.
//!
//! In: an entry and the event that it is. Out: a line. It must stay true that nothing in it moves
//! the cursor or ends the line, whatever bytes the entry has: anybody may have written it. As JSON
//! the payload keeps every digit.

use std::fmt::Write as _;

use super::table::{fitted, printable, width};
use super::terminal::{Colour, Style, clock};
use crate::cli::TailOptions;
use crate::outbox::moment;
use crate::sink::{Entry, Event, Part};

/// From this width on ids are whole.
const WIDE: usize = 160;
const ID_WIDE: usize = 36;
const ID_NARROW: usize = 13;
const NAME_WIDTH: usize = 18;
/// Of a payload at least so much is shown.
const PAYLOAD_MIN: usize = 16;
/// A latency that is told in milliseconds.
const MILLIS_MAX: i64 = 100_000;

/// How entries are printed.
pub(super) struct Printer {
    json: bool,
    /// `None`: as wide as it is.
    width: Option<usize>,
    style: Style,
}

impl Printer {
    pub fn new(asked: &TailOptions) -> Self {
        let width = (!asked.full).then(width);
        Self { json: asked.json, width, style: Style::of_stdout() }
    }

    /// The line, with its end.
    pub fn line(&self, stream: &str, entry: &Entry, event: &Event) -> String {
        if self.json {
            json(stream, entry, event)
        } else {
            self.pretty(stream, entry, event, moment::now())
        }
    }

    /// `now`: microseconds since 1970.
    fn pretty(&self, stream: &str, entry: &Entry, event: &Event, now: i64) -> String {
        let part = |name| printable(event.get(name).unwrap_or("-")).into_owned();
        let id_width =
            if self.width.is_some_and(|width| width < WIDE) { ID_NARROW } else { ID_WIDE };
        let cut = |text: &str, to: usize| match self.width {
            Some(_) => fitted(text, to),
            None => format!("{text:<to$}"),
        };
        let stream = cut(&printable(stream), NAME_WIDTH);
        let kind = cut(&part("event_type"), NAME_WIDTH);
        let aggregate = cut(&part("aggregate_id"), id_width);
        let event_id = cut(&printable(event.event_id()), id_width);
        let latency = latency(entry, event).map_or_else(|| "-".to_owned(), latency_text);
        let time = time(entry, now);
        let head = format!("{time}  {stream}  {kind}  {aggregate}  {event_id}  {latency:>9}");
        let rest = rest(event);
        let used = head.chars().count() + 2;
        let rest = match self.width {
            Some(width) => {
                let room = width.saturating_sub(used).max(PAYLOAD_MIN);
                fitted(&rest, room).trim_end().to_owned()
            }
            None => rest,
        };
        let colour = if event.get("error_message").is_some() { Some(Colour::Red) } else { None };
        let rest = colour.map_or_else(|| rest.clone(), |colour| self.style.paint(colour, &rest));
        let time = self.style.paint(Colour::Dim, &time);
        format!("{time}  {stream}  {kind}  {aggregate}  {event_id}  {latency:>9}  {rest}\n")
    }
}

/// What makes it special, and its payload; of an entry that has none, all that it has.
fn rest(event: &Event) -> String {
    let mut text = String::new();
    if event.get("replayed").is_some() {
        text += "replayed ";
    }
    if let Some(error) = event.get("error_message") {
        // A String takes everything.
        let _always = write!(text, "{error}: ");
    }
    match event.get("payload") {
        Some(payload) => text += payload,
        None => {
            for (name, part) in &event.parts {
                let _always = write!(text, "{name}={} ", part.as_str());
            }
        }
    }
    printable(text.trim_end()).into_owned()
}

/// Whole milliseconds from occurred_at to the entry's id.
fn latency(entry: &Entry, event: &Event) -> Option<i64> {
    let occurred_at = event.get("occurred_at").or_else(|| event.get("created_at"))?;
    let occurred = moment::parse(occurred_at)?.div_euclid(1_000);
    Some(i64::try_from(entry.id.millis).ok()?.saturating_sub(occurred))
}

fn latency_text(millis: i64) -> String {
    match u64::try_from(millis) {
        Ok(whole) if millis >= MILLIS_MAX => clock(whole / 1_000),
        Ok(_) | Err(_) => format!("{millis} ms"),
    }
}

/// The time of day; with the day where that is not today.
fn time(entry: &Entry, now: i64) -> String {
    let added = moment::to_the_millisecond(micros(entry));
    let today = moment::to_the_millisecond(now);
    match (added.split_once('T'), today.split_once('T')) {
        (Some((day, time)), Some((today, _))) if day == today => time.to_owned(),
        _ => added,
    }
}

fn micros(entry: &Entry) -> i64 {
    i64::try_from(entry.id.millis).unwrap_or(i64::MAX).saturating_mul(1_000)
}

fn json(stream: &str, entry: &Entry, event: &Event) -> String {
    // Text: there is none that JSON cannot say.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let latency = latency(entry, event).map_or_else(|| "null".to_owned(), |ms| ms.to_string());
    let added_at = moment::to_the_millisecond(micros(entry));
    let mut text = format!(
        "{{\"stream\":{},\"id\":\"{}\",\"added_at\":\"{added_at}\",\"latency_ms\":{latency},\
         \"event\":{{",
        quoted(stream),
        entry.id,
    );
    for (at, (name, part)) in event.parts.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let value = match part {
            Part::Text(text) => quoted(text),
            Part::Json(json) => json.clone(),
        };
        let _always = write!(text, "{comma}{}:{value}", quoted(name));
    }
    tamed(&text) + "}}\n"
}

/// The same JSON on one line, without anything that a terminal would obey: outside of its texts
/// such letters are blanks, and inside they can be written in another way.
fn tamed(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '\n' | '\r' | '\t' => text.push(' '),
            letter if letter.is_control() => {
                let _always = write!(text, "\\u{:04x}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::EntryId;
    use serde_json::Value;

    const AT: u64 = 1_795_283_701_123;

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        let owned = |(name, value): &(&str, &[u8])| (name.as_bytes().to_vec(), value.to_vec());
        let id = EntryId { millis: AT, number: 4 };
        Entry { id, fields: fields.iter().map(owned).collect() }
    }

    fn pretty(entry: &Entry, width: Option<usize>) -> String {
        let printer = Printer { json: false, width, style: Style::PLAIN };
        printer.pretty("identity.user.v1", entry, &Event::of(entry), micros(entry))
    }

    fn usual(payload: &[u8]) -> Entry {
        entry(&[
            ("event_id", b"0f8fad5b-d9cb-469f-a165-70867728950e"),
            ("event_type", b"UserCreated"),
            ("occurred_at", b"2026-11-21T17:55:01.120999+00:00"),
            ("aggregate_id", b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("payload", payload),
        ])
    }

    #[test]
    fn a_line_fits_the_terminal_and_has_what_is_asked_at_three() {
        let line = pretty(&usual(&[b'x'; 500]), Some(120));
        assert_eq!(line.trim_end().chars().count(), 120, "{line}");
        for words in ["17:55:01.123Z", "UserCreated", "a0eebc99-9c0…", "0f8fad5b-d9c…", "3 ms"]
        {
            assert!(line.contains(words), "{words} is not in {line}");
        }
        let line = pretty(&usual(&[b'x'; 500]), Some(160));
        assert!(line.contains("0f8fad5b-d9cb-469f-a165-70867728950e"), "{line}");
        assert_eq!(line.trim_end().chars().count(), 160, "{line}");
        let line = pretty(&usual(&[b'x'; 500]), None);
        assert!(line.contains(&"x".repeat(500)), "{line}");
    }

    #[test]
    fn hostile_bytes_stay_in_their_line_and_move_nothing() {
        let hostile = b"\x1b[2J\r\n\x07\xc2\x9b31m\x7f\xff";
        let mut entry = usual(hostile);
        entry.fields.push((hostile.to_vec(), hostile.to_vec()));
        for (_, value) in &mut entry.fields {
            value.extend_from_slice(hostile);
        }
        let event = Event::of(&entry);
        let as_json = json("s\x1b\u{9b}", &entry, &event);
        for line in [pretty(&entry, Some(120)), pretty(&entry, None), as_json.clone()] {
            let inside = line.strip_suffix('\n').unwrap();
            assert!(!inside.chars().any(char::is_control), "{line:?}");
        }
        let read: Value = serde_json::from_str(&as_json).unwrap();
        assert_eq!(read["stream"], "s\u{1b}\u{9b}", "JSON still means every letter");
        assert!(read["event"]["payload"].as_str().unwrap().starts_with("\u{1b}[2J\r\n"));
        let spread = usual(b"{\n\t\"n\": 1.10, \"c\": \"\xc2\x9b\"}");
        let line = json("s", &spread, &Event::of(&spread));
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains("\"n\": 1.10, \"c\": \"\\u009b\""), "{line}");
    }

    #[test]
    fn a_latency_is_whole_milliseconds_between_two_clocks() {
        let of = |occurred_at: &str| {
            let entry = entry(&[("occurred_at", occurred_at.as_bytes())]);
            latency(&entry, &Event::of(&entry))
        };
        assert_eq!(of("2026-11-21T17:55:01.123999+00:00"), Some(0));
        assert_eq!(of("2026-11-21T18:55:01.123000+01:00"), Some(0));
        assert_eq!(of("2026-11-21T17:55:01.124+00:00"), Some(-1));
        assert_eq!(of("2026-11-21T17:50:01.123Z"), Some(300_000));
        assert_eq!((of("soon"), of("")), (None, None));
        assert_eq!([300_000, 99_999, -1].map(latency_text), ["5m00s", "99999 ms", "-1 ms"]);
    }

    #[test]
    fn an_entry_of_somebody_else_is_shown_with_all_it_has() {
        let foreign = entry(&[("a", b"1"), ("b", b"two")]);
        assert!(pretty(&foreign, None).contains("a=1 b=two"));
        let letter = entry(&[
            ("original_event_id", b"7"),
            ("payload", b"{}"),
            ("error_message", b"WRONGTYPE x"),
        ]);
        assert!(pretty(&letter, None).contains("WRONGTYPE x: {}"));
    }

    #[test]
    fn what_is_not_of_today_has_its_day() {
        let entry = usual(b"{}");
        assert_eq!(time(&entry, micros(&entry)), "17:55:01.123Z");
        let tomorrow = micros(&entry) + 86_400_000_000;
        assert_eq!(time(&entry, tomorrow), "2026-11-21T17:55:01.123Z");
    }
}
