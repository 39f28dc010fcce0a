//! One pass: both servers at the same time, what lies between them, then what is on our own disk.
//!
//! In: settings. Out: all findings, PostgreSQL's first. It must stay true that neither server's
//! trouble hides the other's findings, and that the pass ends in time, whatever the servers do.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::acl::{self, Acl};
use super::finding::{Area, Finding, Subject, on_postgres, on_redis};
use super::postgres::{self, Known};
use super::{clock, keys, redis, schemas};
use crate::config::Settings;
use crate::sink::{self, Failure, Sink, Timeouts};

/// Times connect_timeout, beside one for each host of database_url: enough for every server that
/// answers at all.
const DEADLINE: u32 = 3;

/// Looks at both servers, and changes nothing.
pub async fn run(settings: &Settings) -> Vec<Finding> {
    let hosts = settings.database_url.connection.get_hosts().len().max(1);
    let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
    let bound = settings.connect_timeout.saturating_mul(DEADLINE.saturating_add(hosts));
    let deadline = Instant::now() + bound;
    let (mut of_postgres, mut of_redis) = (Vec::new(), Vec::new());
    let (known, sink) = tokio::join!(
        timeout_at(deadline, Box::pin(postgres::examine(settings, &mut of_postgres))),
        timeout_at(deadline, Box::pin(reach(settings, &mut of_redis))),
    );
    let mut known = known.unwrap_or_else(|_| {
        of_postgres.push(late(on_postgres("the pass"), bound));
        Known::default()
    });
    match sink {
        Ok(Some(sink)) => {
            let between = Box::pin(between(&sink, settings, &mut known, &mut of_redis));
            match timeout_at(deadline, between).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => of_redis.push(unreachable(settings, &failure)),
                Err(_) => of_redis.push(late(on_redis("the pass"), bound)),
            }
        }
        Ok(None) => {}
        Err(_) => of_redis.push(late(on_redis("the pass"), bound)),
    }
    // What was found in the second half may be of either.
    of_postgres.append(&mut of_redis);
    let (mut all, rest): (Vec<_>, Vec<_>) =
        of_postgres.into_iter().partition(|finding| finding.area == Area::Postgres);
    all.extend(rest);
    all.extend(schemas::examine(settings));
    all
}

fn late(subject: Subject, bound: Duration) -> Finding {
    let why = "what was not asked by then is not known";
    let fix = "RELAY_CONNECT_TIMEOUT=30s   # or find out why the server is so slow";
    subject.failure(format!("not finished within {bound:?}"), why, fix)
}

/// A connection to Redis, and what the server is.
async fn reach(settings: &Settings, findings: &mut Vec<Finding>) -> Option<Sink> {
    // No answer to a small question takes longer than a connection may.
    let reply = settings.redis_timeout.min(settings.connect_timeout);
    let timeouts = Timeouts { connect: settings.connect_timeout, reply };
    let examined = async {
        let sink = Sink::connect_to_look(&settings.redis_url, timeouts).await?;
        let subject = on_redis(format!("server {}", sink::label(&settings.redis_url)));
        findings.push(subject.ok(format!("reachable as {}", acl::user(settings))));
        let (before, seconds) = (clock::now(), redis::visible(sink.clock().await)?);
        if let Some(seconds) = seconds {
            findings.push(clock::judge(on_redis("clock"), seconds, before, clock::now()));
        }
        let server = redis::ask(&sink).await?;
        findings.extend(server.judge(settings));
        // A cluster is refused: of its keys nothing is asked.
        Ok::<_, Failure>((!server.is_cluster()).then_some(sink))
    };
    match examined.await {
        Ok(sink) => sink,
        Err(failure) => {
            findings.push(unreachable(settings, &failure));
            None
        }
    }
}

fn unreachable(settings: &Settings, failure: &Failure) -> Finding {
    let label = sink::label(&settings.redis_url);
    let fix = match failure.code.as_str() {
        "WRONGPASS" | "NOAUTH" | "AUTH" => {
            format!("RELAY_REDIS_URL=redis://USER:PASSWORD@{label}/0   # with those of the ACL")
        }
        _ => format!("redis-cli -u redis://{label} PING"),
    };
    let why = "without Redis nothing is published, and nothing more of it can be checked";
    on_redis(format!("server {label}")).failure(failure.to_string(), why, fix)
}

/// What takes both: which keys there are, and whether they speak of this PostgreSQL.
async fn between(
    sink: &Sink,
    settings: &Settings,
    known: &mut Known,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let keys = keys::all(settings, &known.topics, Some(known));
    let acl = Acl { user: acl::user(settings), settings, keys: &keys };
    findings.extend(acl.examine(sink).await?);
    findings.extend(keys::types(sink, &keys).await?);
    findings.extend(keys::checkpoints(sink, &keys, known).await?);
    findings.extend(keys::strangers(sink, settings, &keys).await?);
    Ok(())
}
