//! What `messages = true` asks for: a server that passes messages on, a role that may park them as
//! rows, and a slot that is not lost: a message is in the WAL and nowhere else.
//!
//! In: settings, a session, what the server says. Out: findings. Whether the application writes
//! messages at all nobody can tell from here: with the setting off there is nothing to find.

use super::finding::{Finding, on_postgres};
use super::server::Server;
use super::session::Session;
use crate::config::Settings;
use crate::error::Result;
use crate::relay;

/// pgoutput passes messages on.
const VERSION_MESSAGES: i32 = 140_000;

pub(super) async fn ask(
    session: &Session,
    settings: &Settings,
    server: &Server,
) -> Result<Option<(String, String)>> {
    let has_messages = server.version_num >= VERSION_MESSAGES;
    let asked = relay::message_obstacle(session.client(), &settings.outbox_table, has_messages);
    session.within(asked).await
}

/// `obstacle` is what stands against it, and what to do.
pub(super) fn judge(obstacle: Option<(String, String)>, server: &Server) -> Vec<Finding> {
    let subject = || on_postgres("setting messages");
    if let Some((what, fix)) = obstacle {
        let why = "messages = true, and the relay does not start like this";
        return vec![subject().failure(what, why, fix)];
    }
    let mut findings = vec![subject().ok("true: what identity.emit_message writes is published")];
    if server.keep_bytes.is_some() {
        findings.push(subject().warning(
            "max_slot_wal_keep_size is set",
            "a slot that falls behind so far is lost, and with it every message it had not sent: \
             there is no row to publish instead",
            "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf();   # and watch \
             the disk",
        ));
    }
    findings
}

/// What `mode = auto` would do is nothing that delivers them.
pub(super) fn polled(obstacle: &str) -> Finding {
    on_postgres("setting messages").failure(
        format!("true, and the relay would poll: {obstacle}"),
        "a message is in the WAL and in no table, where polling looks: the relay does not start",
        "RELAY_MESSAGES=false   # or make logical replication possible",
    )
}
