//! From database_url to connections: one for SQL (tokio-postgres) and one for replication (ours).
//!
//! In: the URL, taken apart once by `config`, so that both connections mean the same by it. Out:
//! connections. Every wait here has the bound `connect_timeout`. Passwords never leave this file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{ChannelBinding, Host};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::TlsConnector;

use super::failure::{from_io, from_sql};
use super::login::Login;
use super::replication::Replication;
use super::tls;
use super::wire::{Duplex, Wire};
use crate::config::{DatabaseUrl, SslMode};
use crate::error::{Error, Result};

const IS_STANDBY: &str = include_str!("../../sql/queries/is_standby.sql");

/// The name that our connections carry in pg_stat_activity and pg_stat_replication.
pub const APPLICATION_NAME: &str = "walrelay";

/// A dead peer is noticed after idle + retries x interval, about a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Where PostgreSQL is and how to log in there.
#[derive(Clone)]
pub struct Target {
    config: Config,
    tls: SslMode,
    client_config: Arc<rustls::ClientConfig>,
    timeout: Duration,
}

impl Target {
    /// Reads the certificate files that `url` names: an unreadable one is a usage error, now and
    /// not later.
    pub fn new(url: &DatabaseUrl, timeout: Duration) -> Result<Self> {
        let mut config = url.connection.clone();
        let connect_timeout = *config.get_connect_timeout().unwrap_or(&timeout);
        config
            .application_name(APPLICATION_NAME)
            .connect_timeout(connect_timeout)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        let client_config = Arc::new(tls::client_config(&url.tls)?);
        Ok(Self { config, tls: url.tls.mode, client_config, timeout })
    }

    /// The first host, port and database, for people: never the password.
    #[must_use]
    pub fn label(&self) -> String {
        let database = self.database();
        match self.endpoints().into_iter().next() {
            Some(Endpoint::Tcp(host, port)) if host.contains(':') => {
                format!("[{host}]:{port}/{database}")
            }
            Some(Endpoint::Tcp(host, port)) => format!("{host}:{port}/{database}"),
            Some(Endpoint::Unix(path)) => format!("{path}/{database}"),
            None => database.to_owned(),
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
        let doing = format!("cannot connect to PostgreSQL at {}", self.label());
        let tls = MakeRustlsConnect::new((*self.client_config).clone());
        let connecting = tokio::time::timeout(self.timeout, self.config.connect(tls));
        let (client, connection) = connecting
            .await
            .map_err(|_| Error::transient(format!("{doing}: no answer in {:?}", self.timeout)))?
            .map_err(|error| from_sql(&doing, error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "SQL connection ended");
            }
        });
        Ok(client)
    }

    /// A connection in logical replication mode; frames over `message_bytes_max` are refused.
    pub async fn replication(&self, message_bytes_max: usize) -> Result<Replication> {
        let doing = format!("cannot connect to PostgreSQL at {}", self.label());
        let mut failure = Error::transient(format!("{doing}: no host in database_url"));
        for endpoint in self.endpoints() {
            match tokio::time::timeout(self.timeout, self.log_in(&endpoint)).await {
                Ok(Ok(wire)) => return Ok(Replication::new(wire, message_bytes_max)),
                Ok(Err(error)) => failure = error,
                Err(_) => {
                    let what = format!("{doing}: no answer in {:?}", self.timeout);
                    failure = Error::transient(what);
                }
            }
        }
        Err(failure)
    }

    async fn log_in(&self, endpoint: &Endpoint) -> Result<Wire> {
        let (socket, host) = self.open(endpoint).await?;
        let (socket, binding, is_tls) = self.encrypt(socket, host).await?;
        let mut wire = Wire::new(socket);
        let mut parameters = vec![
            ("user", self.config.get_user().unwrap_or_default()),
            ("database", self.database()),
            ("replication", "database"),
            ("application_name", APPLICATION_NAME),
            ("client_encoding", "UTF8"),
            // The walsender prints values by its session's settings: the entry must not depend on
            // what somebody set for the role or the database.
            ("datestyle", "ISO, MDY"),
            ("timezone", "UTC"),
            ("extra_float_digits", "3"),
            ("bytea_output", "hex"),
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
        self.refuse_standby(&mut wire).await?;
        Ok(wire)
    }

    /// With several hosts the right one is the primary, as the SQL connection finds it.
    async fn refuse_standby(&self, wire: &mut Wire) -> Result<()> {
        if self.endpoints().len() < 2 {
            return Ok(());
        }
        let doing = "cannot ask the server whether it is a standby";
        let rows = wire.query(IS_STANDBY, doing).await?;
        match rows.first().and_then(|row| row.first()?.as_deref()) {
            Some("t") => Err(Error::transient("the server is a standby")),
            _ => Ok(()),
        }
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<(Box<dyn Duplex>, Option<String>)> {
        let doing = format!("cannot connect to PostgreSQL at {}", self.label());
        match endpoint {
            Endpoint::Tcp(host, port) => {
                let socket = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|error| from_io(&doing, error))?;
                tune(&socket).map_err(|error| from_io(&doing, error))?;
                Ok((Box::new(socket), Some(host.clone())))
            }
            Endpoint::Unix(path) => {
                let socket =
                    UnixStream::connect(path).await.map_err(|error| from_io(&doing, error))?;
                Ok((Box::new(socket), None))
            }
        }
    }

    /// Socket, channel binding, and whether it is encrypted. Unix sockets never are.
    async fn encrypt(
        &self,
        socket: Box<dyn Duplex>,
        host: Option<String>,
    ) -> Result<(Box<dyn Duplex>, Option<Vec<u8>>, bool)> {
        let doing = format!("cannot start TLS with PostgreSQL at {}", self.label());
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

    /// Every host with its port, as libpq pairs them: one port serves all, else one each.
    /// `hostaddr` alone stands in for a missing host.
    fn endpoints(&self) -> Vec<Endpoint> {
        let ports = self.config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.config.get_hosts();
        if hosts.is_empty() {
            let addresses = self.config.get_hostaddrs().iter().enumerate();
            return addresses
                .map(|(index, address)| Endpoint::Tcp(address.to_string(), port(index)))
                .collect();
        }
        hosts
            .iter()
            .enumerate()
            .map(|(index, host)| match host {
                Host::Tcp(name) => Endpoint::Tcp(name.clone(), port(index)),
                Host::Unix(path) => Endpoint::Unix(socket_path(path, port(index))),
            })
            .collect()
    }
}

enum Endpoint {
    Tcp(String, u16),
    Unix(String),
}

fn socket_path(directory: &Path, port: u16) -> String {
    directory.join(format!(".s.PGSQL.{port}")).to_string_lossy().into_owned()
}

fn tune(socket: &TcpStream) -> std::io::Result<()> {
    // Status updates are tiny and awaited: Nagle would hold them back.
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
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
    fn an_unreadable_certificate_is_a_usage_error_without_the_password() {
        let url = "postgresql://app:hunter2@db/shop?sslrootcert=/nowhere.pem&sslmode=verify-ca";
        let error = target(url).err().expect("the file is not there");
        assert_eq!(error.exit_code(), crate::error::EXIT_USAGE, "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
