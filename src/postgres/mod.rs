//! Room 1, the wire: everything that knows PostgreSQL and nothing that knows an outbox or Redis.
//!
//! In: a connection URL. Out: an SQL client, or the stream of WAL messages of a slot, and typed
//! facts about the server. It must stay true that bytes from the server are bounds-checked here,
//! that a failure is classified here by its SQLSTATE, and that no position is confirmed from here:
//! the caller says what to confirm.

mod bookmark;
mod columns;
mod connect;
mod endpoint;
mod failure;
mod login;
mod notify;
mod oversized;
mod publication;
mod replication;
mod server;
mod session;
mod shard;
mod slot;
mod snapshot;
mod standing;
mod survey;
mod table_lock;
mod tls;
mod walsender;
mod wire;

pub use crate::quote;
pub use bookmark::{
    Standpoint, ages as wal_ages, create_now as create_bookmark_now, need_bookmark, need_free_slot,
    slot_of as bookmark_slot, standpoints,
};
pub use columns::{columns, describe as describe_table, names_and_types};
pub use connect::Target;
pub use failure::{from_sql, is_lock_conflict, is_undefined_column};
pub use notify::{install as install_notify, listen, sql as notify_sql};
pub use publication::{
    changed as publication_changed, check_version, create as create_publication,
    create_sql as create_publication_sql, find as find_publication, is_of_others,
};
pub use replication::{Frame, Replication};
pub use server::{Facts, facts, facts_without_wal, missing_replication_right};
pub use session::{SESSION, prefer_indexes, prefer_pages, set_up as set_up_session};
pub use shard::{condition as shard_condition, is_filter as is_shard_filter};
pub use slot::{
    Slot, copy as copy_slot, create as create_slot, create_sql as create_slot_sql,
    drop_idle as drop_slot, find as find_slot, free as free_slots, siblings as sibling_slots,
};
pub use snapshot::Exported;
pub use standing::Standing;
pub use survey::{Surveyed, survey};
pub use table_lock::{
    Holder, Tenure, holder as table_holder, try_lock as try_lock_table, try_lock_clearing,
};
pub use walsender::{Walsender, holds as holds_slot, walsender};
