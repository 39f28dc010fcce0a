//! From database_url to connections: one for SQL (tokio-postgres) and one for replication (ours).
//!
//! In: the URL, taken apart once by `config`, so that both connections mean the same by it. Out:
//! connections. Every wait here has the bound `connect_timeout`. Passwords never leave this file.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_postgres::config::{ChannelBinding, Host};
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, Search, connecting_to, silent};
use super::failure::{from_io, from_sql, standby};
use super::login::Login;
use super::replication::Replication;
use super::tls;
use super::wire::{Duplex, Wire};
use crate::config::{DatabaseUrl, SslMode};
use crate::error::{Error, Result};

const IS_STANDBY: &str = include_str!("../../sql/queries/is_standby.sql");

/// What the name of our connections in pg_stat_activity and pg_stat_replication begins with; the
/// rest is drawn for each process, so that it knows its own.
const APPLICATION_NAME: &str = "walrelay";

/// A peer that is gone is noticed after idle + retries x interval, about a minute, while nothing is
/// sent; and as soon when something is. Without the second bound a write to a dead peer is repeated
/// for a quarter of an hour, and keepalives are not sent meanwhile. A peer that is frozen answers
/// both: its kernel is alive.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where PostgreSQL is and how to log in there.
#[derive(Clone)]
pub struct Target {
    /// As in the URL.
    config: Config,
    /// The same without hosts: an endpoint is put in to connect.
    base: Config,
    tls: SslMode,
    client_config: Arc<rustls::ClientConfig>,
    timeout: Duration,
}

impl Target {
    /// Reads the certificate files that `url` names: an unreadable one is a usage error, now and
    /// not later. Every endpoint gets `timeout`, unless the URL has a `connect_timeout` itself.
    pub fn new(url: &DatabaseUrl, timeout: Duration) -> Result<Self> {
        let config = url.connection.clone();
        let timeout = *config.get_connect_timeout().unwrap_or(&timeout);
        let base = without_hosts(&config, timeout);
        let client_config = Arc::new(tls::client_config(&url.tls)?);
        Ok(Self { config, base, tls: url.tls.mode, client_config, timeout })
    }

    /// The name of our connections, in `pg_stat_activity` and `pg_stat_replication`.
    #[must_use]
    pub fn application_name(&self) -> &str {
        self.base.get_application_name().unwrap_or(APPLICATION_NAME)
    }

    /// The first host, port and database, for people: never the password. Which of several hosts
    /// it is that serves us, a connection knows ([`Replication::label`]).
    #[must_use]
    pub fn label(&self) -> String {
        match Endpoint::all(&self.config).first() {
            Some(endpoint) => format!("{endpoint}/{}", self.database()),
            None => self.database().to_owned(),
        }
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        self.config.get_dbname().or(self.config.get_user()).unwrap_or("postgres")
    }

    /// An SQL connection. Its driver ends when the client is dropped or the link breaks; a broken
    /// link shows as an error of the next statement.
    pub async fn sql(&self) -> Result<Client> {
        self.sql_with(None).await
    }

    /// The same; `bell` is rung for each notification that the session hears (LISTEN), once for
    /// all that come before somebody waits for it.
    pub async fn sql_listening(&self, bell: Arc<Notify>) -> Result<Client> {
        self.sql_with(Some(bell)).await
    }

    async fn sql_with(&self, bell: Option<Arc<Notify>>) -> Result<Client> {
        let mut search = Search::new(&self.config, self.timeout);
        while let Some(endpoint) = search.next().await {
            let connecting = self.sql_at(&endpoint, search.is_choice(), bell.clone());
            match tokio::time::timeout(self.timeout, connecting).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => search.failed(error),
                Err(_) => search.failed(silent(&connecting_to(&endpoint), self.timeout)),
            }
        }
        Err(search.into_error())
    }

    /// A connection in logical replication mode; frames over `message_bytes_max` are refused.
    pub async fn replication(&self, message_bytes_max: usize) -> Result<Replication> {
        let mut search = Search::new(&self.config, self.timeout);
        while let Some(endpoint) = search.next().await {
            let connecting = self.log_in(&endpoint, search.is_choice());
            match tokio::time::timeout(self.timeout, connecting).await {
                Ok(Ok(wire)) => {
                    let label = format!("{endpoint}/{}", self.database());
                    return Ok(Replication::new(wire, message_bytes_max, self.timeout, label));
                }
                Ok(Err(error)) => search.failed(error),
                Err(_) => search.failed(silent(&connecting_to(&endpoint), self.timeout)),
            }
        }
        Err(search.into_error())
    }

    async fn sql_at(
        &self,
        endpoint: &Endpoint,
        is_choice: bool,
        bell: Option<Arc<Notify>>,
    ) -> Result<Client> {
        let doing = connecting_to(endpoint);
        let mut config = self.base.clone();
        match &endpoint.host {
            Host::Tcp(name) => config.host(name),
            Host::Unix(directory) => config.host_path(directory),
        };
        if let Some(address) = endpoint.address {
            config.hostaddr(address);
        }
        config.port(endpoint.port);
        let tls = MakeRustlsConnect::new((*self.client_config).clone());
        let (client, mut connection) =
            config.connect(tls).await.map_err(|error| from_sql(&doing, error))?;
        tokio::spawn(async move {
            // Notices are dropped: a trigger on the outbox may print a row in one.
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match (message, &bell) {
                    (Ok(AsyncMessage::Notification(_)), Some(bell)) => bell.notify_one(),
                    (Ok(_), _) => {}
                    (Err(error), _) => {
                        let error = from_sql("SQL connection ended", error);
                        tracing::debug!("{error}");
                        break;
                    }
                }
            }
            // Whoever waits for it finds out that the session is gone.
            if let Some(bell) = bell {
                bell.notify_one();
            }
        });
        if is_choice {
            let row = client.query_one(IS_STANDBY, &[]).await;
            refuse_standby(endpoint, row.map_err(|error| from_sql(&doing, error))?.get(0))?;
        }
        Ok(client)
    }

    async fn log_in(&self, endpoint: &Endpoint, is_choice: bool) -> Result<Wire> {
        let (socket, host) = open(endpoint).await?;
        let (socket, binding, is_tls) = self.encrypt(socket, host, endpoint).await?;
        let mut wire = Wire::new(socket);
        let mut parameters = vec![
            ("user", self.config.get_user().unwrap_or_default()),
            ("database", self.database()),
            ("replication", "database"),
            ("application_name", self.application_name()),
            ("client_encoding", "UTF8"),
            // The walsender prints values by its session's settings: the entry must not depend on
            // what somebody set for the role or the database.
            ("datestyle", "ISO, MDY"),
            ("timezone", "UTC"),
            ("extra_float_digits", "3"),
            ("bytea_output", "hex"),
            // To create a slot is to wait for the locks of open transactions.
            ("lock_timeout", "0"),
        ];
        if let Some(options) = self.config.get_options() {
            parameters.push(("options", options));
        }
        let wish = self.config.get_channel_binding();
        let login = Login {
            parameters,
            user: self.config.get_user().unwrap_or_default(),
            password: self.config.get_password(),
            binding: binding.filter(|_| wish != ChannelBinding::Disable),
            must_bind: wish == ChannelBinding::Require,
            is_tls,
        };
        wire.log_in(&login).await?;
        if is_choice {
            let rows = wire.query(IS_STANDBY, &connecting_to(endpoint)).await?;
            let answer = rows.first().and_then(|row| row.first()?.as_deref());
            refuse_standby(endpoint, answer == Some("t"))?;
        }
        Ok(wire)
    }

    /// Socket, channel binding, and whether it is encrypted. Unix sockets never are.
    async fn encrypt(
        &self,
        socket: Box<dyn Duplex>,
        host: Option<String>,
        endpoint: &Endpoint,
    ) -> Result<(Box<dyn Duplex>, Option<Vec<u8>>, bool)> {
        let doing = format!("cannot start TLS with PostgreSQL at {endpoint}");
        let Some(host) = host.filter(|_| self.tls != SslMode::Disable) else {
            return Ok((socket, None, false));
        };
        let mut wire = Wire::new(socket);
        let is_offered = wire.request_tls().await.map_err(|error| from_io(&doing, error))?;
        let socket = wire.into_socket();
        if !is_offered {
            return match self.tls {
                SslMode::Prefer | SslMode::Disable => Ok((socket, None, false)),
                SslMode::NoVerify | SslMode::VerifyCa | SslMode::VerifyFull => {
                    Err(Error::definite(format!("{doing}: the server has it switched off"))
                        .hint("set ssl = on there, or sslmode=prefer in database_url"))
                }
            };
        }
        let name = ServerName::try_from(host).map_err(|error| {
            Error::usage("database_url: the host is no valid server name").because(error)
        })?;
        let stream = TlsConnector::from(Arc::clone(&self.client_config))
            .connect(name, socket)
            .await
            .map_err(|error| from_io(&doing, error))?;
        let certificates = stream.get_ref().1.peer_certificates();
        let binding = certificates
            .and_then(|chain| chain.first())
            .and_then(|certificate| tls::end_point_binding(certificate));
        Ok((Box::new(stream), binding, true))
    }
}

/// What all endpoints share. A list of hosts cannot be taken out of a `Config`, nor would it give
/// each host a bound of its own.
fn without_hosts(config: &Config, timeout: Duration) -> Config {
    let mut base = Config::new();
    if let Some(user) = config.get_user() {
        base.user(user);
    }
    if let Some(password) = config.get_password() {
        base.password(password);
    }
    if let Some(database) = config.get_dbname() {
        base.dbname(database);
    }
    if let Some(options) = config.get_options() {
        base.options(options);
    }
    base.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .application_name(format!("{APPLICATION_NAME}-{:08x}", fastrand::u32(..)))
        .connect_timeout(timeout)
        .tcp_user_timeout(USER_TIMEOUT)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES);
    base
}

/// The socket, and the host's name for its certificate.
async fn open(endpoint: &Endpoint) -> Result<(Box<dyn Duplex>, Option<String>)> {
    let doing = connecting_to(endpoint);
    let failed = |error| from_io(&doing, error);
    match (&endpoint.host, endpoint.socket()) {
        (_, Some(path)) => {
            let socket = UnixStream::connect(path).await.map_err(failed)?;
            Ok((Box::new(socket), None))
        }
        (Host::Tcp(name), None) => {
            let socket = match endpoint.address {
                Some(address) => TcpStream::connect((address, endpoint.port)).await,
                None => TcpStream::connect((name.as_str(), endpoint.port)).await,
            };
            let socket = socket.map_err(failed)?;
            tune(&socket).map_err(failed)?;
            Ok((Box::new(socket), Some(name.clone())))
        }
        (Host::Unix(_), None) => Err(Error::definite(doing)),
    }
}

/// Of several places only the primary is right: a standby has the slot only as a copy, and takes
/// no marks.
fn refuse_standby(endpoint: &Endpoint, is_standby: bool) -> Result<()> {
    if is_standby {
        return Err(standby(&format!("the server at {endpoint} is a standby")));
    }
    Ok(())
}

fn tune(socket: &TcpStream) -> std::io::Result<()> {
    // Status updates are tiny and awaited: Nagle would hold them back.
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target> {
        let url = DatabaseUrl::parse(&url.to_owned().into()).unwrap();
        Target::new(&url, Duration::from_secs(1))
    }

    #[test]
    fn a_label_never_shows_the_password() {
        let label = target("postgresql://app:hunter2@db.example:6543/shop?sslmode=disable");
        assert_eq!(label.unwrap().label(), "db.example:6543/shop");
        let label = target("postgresql://app:hunter2@%2Fvar%2Frun/shop").unwrap().label();
        assert_eq!(label, "/var/run/.s.PGSQL.5432/shop");
        assert_eq!(target("postgresql://app@[::1]/shop").unwrap().label(), "[::1]:5432/shop");
    }

    #[test]
    fn both_connections_give_a_dead_peer_up_within_a_minute() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            tune(&socket).unwrap();
            let set = SockRef::from(&socket).tcp_user_timeout().unwrap();
            assert_eq!(set, Some(USER_TIMEOUT));
        });
        let target = target("postgresql://app@db/shop").unwrap();
        assert_eq!(target.base.get_tcp_user_timeout(), Some(&USER_TIMEOUT));
        assert_eq!(KEEPALIVE_IDLE + KEEPALIVE_INTERVAL * KEEPALIVE_RETRIES, USER_TIMEOUT);
    }

    #[test]
    fn an_unreadable_certificate_is_a_usage_error_without_the_password() {
        let url = "postgresql://app:hunter2@db/shop?sslrootcert=/nowhere.pem&sslmode=verify-ca";
        let error = target(url).err().expect("the file is not there");
        assert_eq!(error.exit_code(), crate::error::EXIT_USAGE, "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
