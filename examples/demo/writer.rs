//! The application of the demo: people sign up, change their address, leave. Plain SQL, nothing
//! else.
//!
//! In: a connection. Out: committed transactions, each with its event beside the change it tells
//! of. It must stay true that `Committed::at` is taken when COMMIT has returned, and not before.

use std::time::Instant;

use tokio_postgres::{Client, Error, Statement};

/// A change and its event, in one statement: both are committed, or neither.
const SIGN_UP: &str = "
    WITH person AS (INSERT INTO identity.users (email) VALUES ($1::text) RETURNING id, email)
    INSERT INTO identity.outbox (event_type, aggregate_id, payload)
    SELECT 'UserCreated', id, jsonb_build_object('user_id', id, 'email', email) FROM person
    RETURNING event_id::text";

const CHANGE: &str = "
    WITH person AS (
        UPDATE identity.users SET email = $1::text
        WHERE id = (SELECT id FROM identity.users WHERE email LIKE '%@example.org'
                    ORDER BY random() LIMIT 1)
        RETURNING id, email)
    INSERT INTO identity.outbox (event_type, aggregate_id, payload)
    SELECT 'UserEmailChanged', id, jsonb_build_object('user_id', id, 'email', email) FROM person
    RETURNING event_id::text";

const IMPORT: &str = "
    WITH person AS (
        INSERT INTO identity.users (email)
        SELECT 'import-' || n || '@example.com' FROM generate_series(1, $1::int8) AS n
        RETURNING id, email)
    INSERT INTO identity.outbox (event_type, aggregate_id, payload)
    SELECT 'UserImported', id, jsonb_build_object('user_id', id, 'email', email) FROM person";

const NAMES: [&str; 16] = [
    "ada",
    "grace",
    "edsger",
    "barbara",
    "donald",
    "frances",
    "tony",
    "margaret",
    "dennis",
    "radia",
    "ken",
    "hedy",
    "niklaus",
    "katherine",
    "leslie",
    "sophie",
];

/// An event whose transaction is committed.
pub struct Committed {
    pub event_id: String,
    /// When the writer was told so.
    pub at: Instant,
}

pub struct Writer {
    client: Client,
    sign_up: Statement,
    change: Statement,
    people: usize,
}

impl Writer {
    pub async fn new(client: Client) -> Result<Self, Error> {
        let sign_up = client.prepare(SIGN_UP).await?;
        let change = client.prepare(CHANGE).await?;
        Ok(Self { client, sign_up, change, people: 0 })
    }

    /// One transaction with one event: somebody new, or a new address of somebody known.
    pub async fn commit(&mut self) -> Result<Committed, Error> {
        let event_id = self.change_something().await?;
        self.client.batch_execute("COMMIT").await?;
        Ok(Committed { event_id, at: Instant::now() })
    }

    /// The same, and then the application thinks better of it.
    pub async fn roll_back(&mut self) -> Result<(), Error> {
        self.change_something().await?;
        self.client.batch_execute("ROLLBACK").await
    }

    /// That many events in one transaction.
    pub async fn import(&mut self, people: i64) -> Result<(), Error> {
        self.client.execute(IMPORT, &[&people]).await.map(drop)
    }

    async fn change_something(&mut self) -> Result<String, Error> {
        let name = NAMES.get(self.people % NAMES.len()).copied().unwrap_or("nobody");
        let number = self.people;
        self.people += 1;
        let (statement, email) = if number > 4 && fastrand::u8(..3) == 0 {
            (&self.change, format!("{name}.{number}@example.net"))
        } else {
            (&self.sign_up, format!("{name}.{number}@example.org"))
        };
        self.client.batch_execute("BEGIN").await?;
        Ok(self.client.query_one(statement, &[&email]).await?.get(0))
    }
}
