//! Copies of a PostgreSQL server's data: a backup that is put back, and a streaming standby.
//!
//! In: a server that is stopped. Out: the same server with older data, or a second one that follows
//! the first. It must stay true that a standby has no slots of its primary, as after
//! `pg_basebackup`.

use super::postgres::{Postgres, copy};

impl Postgres {
    /// Keeps the data as it is. The server must be stopped.
    pub fn back_up(&self) {
        copy(&self.data(), &self.home().join("backup"));
    }

    /// Puts the data back as they were at [`Postgres::back_up`]. The server must be stopped.
    pub fn put_back(&self) {
        std::fs::remove_dir_all(self.data()).expect("the data directory");
        copy(&self.home().join("backup"), &self.data());
    }

    /// A standby with the data of this server, which must be stopped. It follows once both run.
    pub fn standby(&self) -> Self {
        let standby = self.sibling();
        copy(&self.data(), &standby.data());
        standby.forget_slots();
        std::fs::write(standby.data().join("standby.signal"), "").expect("standby.signal");
        standby
    }

    /// Takes all slots away, as a backup that was restored has none. The server must be stopped.
    pub fn forget_slots(&self) {
        let slots = self.data().join("pg_replslot");
        for slot in std::fs::read_dir(&slots).expect("pg_replslot").flatten() {
            std::fs::remove_dir_all(slot.path()).expect("a slot's directory");
        }
    }

    /// Makes a primary of a standby, on a timeline of its own.
    pub async fn promote(&self) {
        self.run("SELECT pg_promote()").await;
    }
}
