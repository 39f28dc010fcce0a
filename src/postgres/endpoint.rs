//! Where a server may be: the hosts of database_url, one by one, and each address of a host.
//!
//! In: the connection parameters. Out: endpoints to try, in order, and at last one failure that
//! tells of all of them. It must stay true that both connections walk this same list: else SQL and
//! the stream mean different servers by the same URL.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::failure::from_io;
use crate::error::{Class, Error};

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The name, which the server's certificate must bear; or the directory of the socket.
    pub host: Host,
    /// Where that name is. `hostaddr` says so, or it is looked up.
    pub address: Option<IpAddr>,
    pub port: u16,
}

impl Endpoint {
    /// Every host with its port and address, as libpq pairs them: one port serves all, else one
    /// each; `hostaddr` spares the look-up of its host, and stands in for one that is missing.
    pub fn all(config: &Config) -> Vec<Self> {
        let (ports, hosts) = (config.get_ports(), config.get_hosts());
        let addresses = config.get_hostaddrs();
        (0..hosts.len().max(addresses.len()))
            .filter_map(|index| {
                let address = addresses.get(index).copied();
                let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
                let host = match (hosts.get(index), address) {
                    (Some(host @ Host::Tcp(_)), _) | (Some(host), None) => host.clone(),
                    (_, Some(address)) => Host::Tcp(address.to_string()),
                    (None, None) => return None,
                };
                Some(Self { host, address, port })
            })
            .collect()
    }

    /// The file of a socket.
    pub fn socket(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Unix(directory) => Some(directory.join(format!(".s.PGSQL.{}", self.port))),
            Host::Tcp(_) => None,
        }
    }

    /// The same endpoint at each of its addresses.
    async fn resolve(&self) -> io::Result<Vec<Self>> {
        let Host::Tcp(name) = &self.host else { return Ok(vec![self.clone()]) };
        if self.address.is_some() {
            return Ok(vec![self.clone()]);
        }
        let mut found: Vec<Self> = Vec::new();
        for address in tokio::net::lookup_host((name.as_str(), self.port)).await? {
            let endpoint = Self { address: Some(address.ip()), ..self.clone() };
            if !found.contains(&endpoint) {
                found.push(endpoint);
            }
        }
        if found.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        Ok(found)
    }
}

impl fmt::Display for Endpoint {
    /// `host:port`, with brackets where the host is an IPv6 address; or the socket's file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.socket()) {
            (_, Some(path)) => write!(f, "{}", path.display()),
            (Host::Tcp(host), _) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            (Host::Tcp(host), _) => write!(f, "{host}:{}", self.port),
            (Host::Unix(_), None) => Ok(()),
        }
    }
}

/// A walk over the endpoints until one is right.
pub(super) struct Search {
    hosts: VecDeque<Endpoint>,
    addresses: VecDeque<Endpoint>,
    /// What went wrong, host by host.
    failures: Vec<Vec<Error>>,
    is_choice: bool,
    timeout: Duration,
}

impl Search {
    /// Looking up a name takes at most `timeout`.
    pub fn new(config: &Config, timeout: Duration) -> Self {
        let hosts: VecDeque<Endpoint> = Endpoint::all(config).into();
        let is_choice = hosts.len() > 1;
        Self { hosts, addresses: VecDeque::new(), failures: Vec::new(), is_choice, timeout }
    }

    /// Whether there is more than one place, of which only the primary is right.
    pub fn is_choice(&self) -> bool {
        self.is_choice
    }

    /// The next endpoint, with its address.
    pub async fn next(&mut self) -> Option<Endpoint> {
        loop {
            if let Some(endpoint) = self.addresses.pop_front() {
                return Some(endpoint);
            }
            let host = self.hosts.pop_front()?;
            self.failures.push(Vec::new());
            match tokio::time::timeout(self.timeout, host.resolve()).await {
                Ok(Ok(addresses)) => {
                    self.is_choice |= addresses.len() > 1;
                    self.addresses = addresses.into();
                }
                Ok(Err(error)) => self.failed(from_io(&connecting_to(&host), error)),
                Err(_) => self.failed(silent(&connecting_to(&host), self.timeout)),
            }
        }
    }

    /// The endpoint that [`Search::next`] gave is not right.
    pub fn failed(&mut self, error: Error) {
        if let Some(of_host) = self.failures.last_mut() {
            of_host.push(error);
        }
    }

    /// Why none was right. Of one host's addresses a definite failure is what counts, for they are
    /// one server; among several hosts time may help as long as it may help one of them.
    pub fn into_error(self) -> Error {
        let is_final = |error: &Error| matches!(error.class(), Class::Definite | Class::Usage);
        let is_hopeless = self.failures.iter().all(|of_host| of_host.iter().any(is_final));
        let mut failures: Vec<Error> = self.failures.into_iter().flatten().collect();
        if failures.len() < 2 {
            let none = || Error::definite("database_url names no host");
            return failures.pop().unwrap_or_else(none);
        }
        let mut said: Vec<String> = failures.iter().map(ToString::to_string).collect();
        said.dedup();
        let what = said.join("; ");
        let error = if is_hopeless { Error::definite(what) } else { Error::transient(what) };
        let finals = failures.iter().filter(|error| is_final(error));
        match finals.chain(&failures).find_map(Error::next_step) {
            Some(step) => error.hint(step),
            None => error,
        }
    }
}

pub(super) fn connecting_to(endpoint: &Endpoint) -> String {
    format!("cannot connect to PostgreSQL at {endpoint}")
}

/// A server that does not answer.
pub(super) fn silent(doing: &str, timeout: Duration) -> Error {
    Error::transient(format!("{doing}: no answer in {timeout:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(config: &str) -> Vec<Endpoint> {
        Endpoint::all(&config.parse().unwrap())
    }

    fn tcp(host: &str, address: Option<&str>, port: u16) -> Endpoint {
        let address = address.map(|address| address.parse().unwrap());
        Endpoint { host: Host::Tcp(host.to_owned()), address, port }
    }

    #[test]
    fn hosts_addresses_and_ports_are_paired_as_libpq_does() {
        let plain = all("host=a,b port=1,2");
        assert_eq!(plain, [tcp("a", None, 1), tcp("b", None, 2)]);
        assert_eq!(all("host=a,b port=7"), [tcp("a", None, 7), tcp("b", None, 7)]);
        let addressed = all("host=a,b hostaddr=10.0.0.1,::1");
        let wanted = [tcp("a", Some("10.0.0.1"), 5432), tcp("b", Some("::1"), 5432)];
        assert_eq!(addressed, wanted, "hostaddr is where it is, host is who it must prove to be");
        assert_eq!(all("hostaddr=10.0.0.1 port=6"), [tcp("10.0.0.1", Some("10.0.0.1"), 6)]);
        assert_eq!(all("host=/run/pg")[0].to_string(), "/run/pg/.s.PGSQL.5432");
        assert_eq!(all("hostaddr=::1")[0].to_string(), "[::1]:5432");
    }

    fn search(config: &str, failures: Vec<Error>) -> Error {
        let mut search = Search::new(&config.parse().unwrap(), Duration::from_secs(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for failure in failures {
                search.next().await.unwrap();
                search.failed(failure);
            }
            assert_eq!(search.next().await, None);
        });
        search.into_error()
    }

    #[test]
    fn one_failure_tells_of_all_hosts_and_waits_while_one_may_come_back() {
        let down = || Error::transient("a is down");
        let wrong = || Error::definite("b knows no such role").hint("create it");
        let error = search("hostaddr=127.0.0.1,127.0.0.2", vec![down(), wrong()]);
        assert_eq!(error.to_string(), "a is down; b knows no such role");
        assert_eq!((error.class(), error.next_step()), (Class::Transient, Some("create it")));
        let error = search("hostaddr=127.0.0.1,127.0.0.2", vec![wrong(), wrong()]);
        assert_eq!(error.class(), Class::Definite);
        assert_eq!(error.to_string(), "b knows no such role", "each thing once");
        assert_eq!(search("hostaddr=127.0.0.1", vec![wrong()]).class(), Class::Definite);
    }
}
