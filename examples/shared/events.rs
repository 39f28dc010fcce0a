//! What every event passes, without a server: decode, envelope, batch.
//!
//! In: nothing. Out: the messages that a walsender sends for rows of the usual outbox, and the
//! steps of the line on them, each with those before it. It must stay true that the steps are the
//! library's own, in the order of `relay/line.rs`. For the micro-benchmarks and for counting
//! instructions.

use std::error::Error;
use std::hint::black_box;

use walrelay::config::{EntryFormat, Outbox, TableName};
use walrelay::lsn::{Lsn, Position};
use walrelay::outbox::{Defaults, Envelope, Plan};
use walrelay::pgoutput::{Message, decode};
use walrelay::sink::{Batch, EntryWriter, Hint, Sealed, Varying, checkpoint_key};

/// Events of a batch: the default of `batch_size`.
pub const BATCH: usize = 256;
const RELATION_OID: u32 = 16_400;
const STREAM: &str = "identity.user.v1";
/// As in the rows of `make bench`.
const PAYLOAD_BYTES: usize = 360;

type Done<T> = Result<T, Box<dyn Error>>;

/// Name, type and value of each column that `walrelay setup` creates; `{n}` is the row's number.
const COLUMNS: [(&str, u32, Option<&str>); 20] = [
    ("id", 20, Some("{n}")),
    ("event_id", 2950, Some("0c6f8a52-1f7e-4b11-9d55-{hex}")),
    ("event_type", 25, Some("UserCreated")),
    ("aggregate_type", 25, Some("user")),
    ("aggregate_id", 2950, Some("6f1c2d3e-0000-4000-8000-{hex}")),
    ("payload", 3802, Some("{payload}")),
    ("created_at", 1184, Some("2026-11-21 04:38:15.123456+00")),
    ("published", 16, Some("f")),
    ("attempts", 23, Some("0")),
    ("next_attempt_at", 1184, None),
    ("published_at", 1184, None),
    ("error_message", 25, None),
    ("topic", 25, Some(STREAM)),
    ("tenant_id", 2950, None),
    ("correlation_id", 25, None),
    ("traceparent", 25, None),
    ("schema_version", 25, None),
    ("dead_lettered_at", 1184, None),
    ("started_attempts", 23, Some("0")),
    ("wal_position", 25, None),
];

/// One batch of rows, as they come over the wire.
pub struct Events {
    outbox: Outbox,
    plan: Plan,
    messages: Vec<Vec<u8>>,
}

impl Events {
    pub fn new() -> Done<Self> {
        let outbox: Outbox = TableName { schema: "identity".into(), name: "outbox".into() }.into();
        let described = relation()?;
        let Message::Relation(relation) = decode(&described)? else {
            return Err("not a Relation message".into());
        };
        let plan = Plan::new(&relation, &outbox)?.ok_or("not the outbox")?;
        let messages = (1..=BATCH).map(insert).collect::<Done<_>>()?;
        Ok(Self { outbox, plan, messages })
    }

    /// pgoutput's messages to Inserts.
    pub fn decode(&self) -> Done<()> {
        for message in &self.messages {
            black_box(decode(black_box(message))?);
        }
        Ok(())
    }

    /// The same, and envelopes.
    pub fn envelopes(&self) -> Done<()> {
        self.each(|envelope| {
            black_box(envelope);
        })
    }

    /// The same, and the batch that takes them to Redis.
    pub fn batch(&self, format: EntryFormat, writer: &mut EntryWriter) -> Done<Sealed> {
        let checkpoint = checkpoint_key(STREAM, "walrelay@7000000000000000000");
        let commit_lsn = Lsn::new(0x16_B374_D848);
        let (mut batch, mut ordinal) = (None, 0);
        self.each(|envelope| {
            ordinal += 1;
            let bytes = BATCH * (envelope.bytes() + 80);
            let batch = batch.get_or_insert_with(|| {
                let hint = Hint { format, varying: Varying::default(), events: BATCH, bytes };
                Batch::new(SHA, (STREAM, &checkpoint), envelope, hint)
            });
            // As the line asks before each; these events share what they can.
            black_box(batch.fits(envelope).is_ok());
            batch.push(envelope, Position { commit_lsn, ordinal }, writer);
        })?;
        let batch = batch.ok_or("no event")?;
        Ok(batch.seal(7, Position { commit_lsn, ordinal: 0 }, 0))
    }

    fn each(&self, mut take: impl FnMut(&Envelope<'_>)) -> Done<()> {
        let defaults = Defaults {
            stream: STREAM.as_bytes(),
            outbox: &self.outbox,
            commit_time: 0,
            event_bytes_max: 16 << 20,
            contract: None,
        };
        for message in &self.messages {
            let Message::Insert(insert) = decode(black_box(message))? else {
                return Err("not an Insert message".into());
            };
            let row = self.plan.read(&insert.tuple)?;
            if row.is_born_settled_or_parked() || row.id().is_none() {
                return Err("not an event".into());
            }
            take(&Envelope::new(&row, &defaults)?);
        }
        Ok(())
    }
}

/// Of the publish script, in length.
const SHA: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

/// <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>
fn relation() -> Done<Vec<u8>> {
    let mut out = vec![b'R'];
    out.extend(RELATION_OID.to_be_bytes());
    out.extend(b"identity\0outbox\0d");
    out.extend(u16::try_from(COLUMNS.len())?.to_be_bytes());
    for (name, type_oid, _) in COLUMNS {
        out.push(u8::from(name == "id"));
        out.extend(name.as_bytes());
        out.push(0);
        out.extend(type_oid.to_be_bytes());
        out.extend((-1_i32).to_be_bytes());
    }
    Ok(out)
}

fn insert(n: usize) -> Done<Vec<u8>> {
    let mut out = vec![b'I'];
    out.extend(RELATION_OID.to_be_bytes());
    out.push(b'N');
    out.extend(u16::try_from(COLUMNS.len())?.to_be_bytes());
    let payload = format!(r#"{{"pad": "{}"}}"#, "0123456789abcdef".repeat(PAYLOAD_BYTES / 16));
    for (_, _, value) in COLUMNS {
        let Some(value) = value else {
            out.push(b'n');
            continue;
        };
        let value = value.replace("{n}", &n.to_string());
        let value = value.replace("{hex}", &format!("{n:012x}")).replace("{payload}", &payload);
        out.push(b't');
        out.extend(u32::try_from(value.len())?.to_be_bytes());
        out.extend(value.as_bytes());
    }
    Ok(out)
}
