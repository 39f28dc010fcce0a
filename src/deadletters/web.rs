//! /dead, /dead/retry and /dead/discard: what `walrelay dlq` does, for the page.
//!
//! In: requests that `guard` let through. Out: JSON, never a payload. It must stay true that
//! PostgreSQL is asked by one of them at a time, on a session of its own that ends with the answer,
//! and that each has its answer within [`ANSWER`], whether PostgreSQL answers or not.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};

use super::change::{Change, Choice, change};
use super::desk::{Desk, Filter, Outbox, Patience};
use super::guard::{Guard, Refusal};
use super::list::{Event, Listing, Rows, list};
use crate::config::{DatabaseUrl, Settings};
use crate::error::{Class, Error, Result};
use crate::telemetry::table_of;

/// Longest wait for PostgreSQL, the turn and the connection included. Statements end before.
const ANSWER: Duration = Duration::from_secs(8);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// So many requests wait for their turn; more are sent away.
const WAITING_MAX: usize = 8;
/// Rows of each kind in an answer.
const ROWS_MAX: u32 = 50;
/// Letters of an error in an answer: a table full of long ones must stay a page.
const ERROR_LETTERS_MAX: usize = 1_000;
/// Events in one request, and the bytes of their names.
const IDS_MAX: usize = 1_000;
const BODY_BYTES_MAX: usize = 64 << 10;

struct Counter {
    url: DatabaseUrl,
    timeout: Duration,
    /// By the name of its section, where there are sections.
    outboxes: Vec<(Option<String>, Outbox)>,
    guard: Guard,
    waiting: Semaphore,
    turn: Mutex<()>,
}

/// The routes, for `all` tables of a process.
pub fn routes(all: &[Settings], process: &Settings) -> Router {
    let outbox = |settings: &Settings| {
        let (table, stream) = (settings.outbox_table.clone(), settings.stream_name.clone());
        (settings.table.clone(), Outbox { table, stream })
    };
    let is_loopback = process.http_address.is_loopback();
    let counter = Counter {
        url: process.database_url.clone(),
        timeout: process.connect_timeout.min(CONNECT),
        outboxes: all.iter().map(outbox).collect(),
        guard: Guard { token: process.http_token.clone(), is_loopback },
        waiting: Semaphore::new(WAITING_MAX),
        turn: Mutex::new(()),
    };
    Router::new()
        .route("/dead", get(look))
        .route("/dead/retry", post(retry))
        .route("/dead/discard", post(discard))
        .with_state(Arc::new(counter))
}

async fn look(State(counter): State<Arc<Counter>>, uri: Uri, headers: HeaderMap) -> Response {
    if let Err(refusal) = counter.guard.may_look(&headers) {
        return refused(&refusal);
    }
    answer(counter.in_turn(counter.look(uri.query())).await)
}

async fn retry(State(counter): State<Arc<Counter>>, request: Request) -> Response {
    counter.change(Change::Retry, request).await
}

async fn discard(State(counter): State<Arc<Counter>>, request: Request) -> Response {
    counter.change(Change::Discard, request).await
}

/// What a change is asked for with: row ids or event ids, the former also as numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    ids: Vec<Name>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Number(i64),
    Text(String),
}

impl Counter {
    /// On the table that `query` asks for, or that is the only one.
    async fn desk(&self, query: Option<&str>) -> Result<Desk<'_>> {
        let outbox = self.outbox(query)?;
        Box::pin(Desk::open(&self.url, self.timeout, outbox, Patience::Page)).await
    }

    fn outbox(&self, query: Option<&str>) -> Result<&Outbox> {
        let found = match (table_of(query), self.outboxes.as_slice()) {
            (None, [(_, outbox)]) => Some(outbox),
            (None, _) => None,
            (Some(asked), all) => {
                let mut named = all.iter().filter(|(name, _)| name.as_deref() == Some(asked));
                named.next().map(|(_, outbox)| outbox)
            }
        };
        found.ok_or_else(|| {
            let names: Vec<&str> =
                self.outboxes.iter().filter_map(|(name, _)| name.as_deref()).collect();
            Error::usage("which table is meant is not said, or it is none of this relay's")
                .hint(format!("ask with ?table=NAME; tables: {}", names.join(", ")))
        })
    }

    async fn look(&self, query: Option<&str>) -> Result<Value> {
        let (desk, all) = (self.desk(query).await?, Filter::default());
        let dead = list(&desk, &all, Rows::Dead, ROWS_MAX).await?;
        let parked = list(&desk, &all, Rows::Parked, ROWS_MAX).await?;
        Ok(document(&dead, &parked, self.guard.token.is_some()))
    }

    async fn change(&self, what: Change, request: Request) -> Response {
        if let Err(refusal) = self.guard.may_change(request.headers()) {
            return refused(&refusal);
        }
        let query = request.uri().query().map(str::to_owned);
        let changing = self.do_change(what, query.as_deref(), request.into_body());
        answer(self.in_turn(changing).await)
    }

    async fn do_change(&self, what: Change, query: Option<&str>, body: Body) -> Result<Value> {
        let ids = read(body).await?;
        let mut desk = self.desk(query).await?;
        let changed = change(&mut desk, what, Choice::Named(&ids)).await?;
        tracing::info!(events = changed, ids = %ids.join(" "), "{}", match what {
            Change::Retry => "dead events are due again, by the page",
            Change::Discard => "dead events were discarded, by the page",
        });
        Ok(json!({ "changed": changed }))
    }

    /// One at a time, and not for ever. What is given up here ends with its session, which rolls
    /// back whatever was not committed.
    async fn in_turn(&self, work: impl Future<Output = Result<Value>>) -> Result<Value> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Error::transient("too many are asking at once").hint("ask again"));
        };
        let working = async {
            let _turn = self.turn.lock().await;
            work.await
        };
        tokio::time::timeout(ANSWER, working).await.unwrap_or_else(|_| {
            let what = format!("PostgreSQL has not answered within {} s", ANSWER.as_secs());
            Err(Error::transient(what).hint("look again before you repeat a change"))
        })
    }
}

async fn read(body: Body) -> Result<Vec<String>> {
    let wrong = || Error::usage("the body must be {\"ids\": [...]}, row ids or event ids");
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| wrong())?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|_| wrong())?;
    if asked.ids.is_empty() || asked.ids.len() > IDS_MAX {
        return Err(Error::usage(format!("1 to {IDS_MAX} ids can be changed at once")));
    }
    let text = |name| match name {
        Name::Number(id) => id.to_string(),
        Name::Text(text) => text,
    };
    Ok(asked.ids.into_iter().map(text).collect())
}

fn document(dead: &Listing, parked: &Listing, actions: bool) -> Value {
    let rows = dead.events.iter().map(|event| row(event, Rows::Dead));
    let rows = rows.chain(parked.events.iter().map(|event| row(event, Rows::Parked)));
    json!({
        "actions": actions,
        "dead": dead.total,
        "parked": parked.total,
        "rows": rows.collect::<Vec<_>>(),
    })
}

/// The id as text: a browser's numbers are exact up to 2^53 only.
fn row(event: &Event, rows: Rows) -> Value {
    let mut document = event.document();
    let error = event.error.as_ref();
    let error: Option<String> = error.map(|text| text.chars().take(ERROR_LETTERS_MAX).collect());
    if let Some(fields) = document.as_object_mut() {
        fields.insert("id".to_owned(), event.id.clone().into());
        fields.insert("state".to_owned(), rows.name().into());
        fields.insert("error".to_owned(), error.into());
    }
    document
}

fn answer(done: Result<Value>) -> Response {
    let (status, document) = match done {
        Ok(document) => (StatusCode::OK, document),
        Err(error) => {
            let status = match error.class() {
                Class::Usage => StatusCode::BAD_REQUEST,
                Class::Definite => StatusCode::CONFLICT,
                Class::Transient | Class::SlotInUse => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, json!({ "error": error.to_string(), "hint": error.next_step() }))
        }
    };
    in_json(status, &document)
}

fn refused(refusal: &Refusal) -> Response {
    let mut response = in_json(refusal.status, &json!({ "error": refusal.reason }));
    if refusal.status == StatusCode::UNAUTHORIZED {
        let scheme = header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

fn in_json(status: StatusCode, document: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, format!("{document}\n")).into_response()
}
