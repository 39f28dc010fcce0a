//! How often a line came up again, by the server that was lost or had failed it.
//!
//! In: whose fault the end of a line was, and that it is up again. Out: a counter for each server.
//! It must stay true that a line which is up again is counted once for each server that was at
//! fault, however many tries it took.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::registry::Registry;

use super::metrics::Labelled;

/// Who a line depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

impl Server {
    fn label(self) -> [(&'static str, &'static str); 1] {
        let name = match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        };
        [("server", name)]
    }
}

/// What one line knows of its servers.
#[derive(Debug, Default)]
pub struct Reconnects {
    postgres: AtomicBool,
    redis: AtomicBool,
    counted: Labelled,
}

impl Reconnects {
    fn is_lost(&self, server: Server) -> &AtomicBool {
        match server {
            Server::Postgres => &self.postgres,
            Server::Redis => &self.redis,
        }
    }

    /// For one of several lines: what it counts is counted here as well.
    pub(super) fn of_line(&self) -> Self {
        Self { counted: self.counted.clone(), ..Self::default() }
    }

    /// The line ended, or did not come up, because of this server.
    pub fn lost(&self, server: Server) {
        self.is_lost(server).store(true, Ordering::Relaxed);
    }

    /// The same, where nobody has been told to be at fault by now.
    pub fn lost_unless_known(&self, server: Server) {
        let is_known = |server| self.is_lost(server).load(Ordering::Relaxed);
        if !is_known(Server::Postgres) && !is_known(Server::Redis) {
            self.lost(server);
        }
    }

    /// It is up, with both; for the first time in this process, or again.
    pub fn back(&self, is_first: bool) {
        for server in [Server::Postgres, Server::Redis] {
            if self.is_lost(server).swap(false, Ordering::Relaxed) && !is_first {
                self.counted.get_or_create(&server.label()).inc();
            }
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for server in [Server::Postgres, Server::Redis] {
            drop(self.counted.get_or_create(&server.label()));
        }
        let help = "Times the line came up again after this server was lost or had failed it";
        registry.register("reconnects", help, self.counted.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_at_fault_is_counted_once_when_the_line_is_back() {
        let whole = Reconnects::default();
        let line = whole.of_line();
        let counted = |server: Server| whole.counted.get_or_create(&server.label()).get();
        line.lost(Server::Postgres);
        line.back(true);
        assert_eq!((counted(Server::Postgres), counted(Server::Redis)), (0, 0));
        line.lost(Server::Redis);
        line.lost(Server::Redis);
        line.lost_unless_known(Server::Postgres);
        line.back(false);
        line.back(false);
        assert_eq!((counted(Server::Postgres), counted(Server::Redis)), (0, 1));
        line.lost_unless_known(Server::Postgres);
        line.back(false);
        assert_eq!((counted(Server::Postgres), counted(Server::Redis)), (1, 1));
    }
}
