//! The URL of PostgreSQL, taken apart once.
//!
//! In: a URL as people have it, also with a driver's name in the scheme (`postgresql+asyncpg://`).
//! Out: the normalised URL, the parameters of the connection, and the TLS wishes that
//! tokio-postgres does not know (verify-ca, verify-full, certificates). It must stay true that no
//! reason for a refusal quotes a part of the URL that could be a piece of the password: so an `@`
//! may stand only between the credentials and the host. Not here: connecting, reading certificates.

use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

/// Parameters that other drivers keep in the URL and that mean nothing to a server.
const DRIVER_ONLY: &[&str] = &[
    "async_fallback",
    "gssencmode",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "statement_cache_size",
];

/// How much TLS is asked for; the words are libpq's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it, without checking its certificate.
    #[default]
    Prefer,
    /// TLS, with an unchecked certificate.
    NoVerify,
    /// TLS, with a certificate from a trusted authority.
    VerifyCa,
    /// TLS, with a trusted certificate for exactly this host.
    VerifyFull,
}

/// The TLS part of the URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslrootcert`: trusted authorities (PEM), instead of the system's.
    pub root_cert: Option<PathBuf>,
    /// `sslcert`: the client's certificate (PEM).
    pub client_cert: Option<PathBuf>,
    /// `sslkey`: the client's key (PEM).
    pub client_key: Option<PathBuf>,
}

/// A database URL, taken apart.
#[derive(Clone, Debug)]
pub struct DatabaseUrl {
    /// The URL again, with the scheme `postgresql` and libpq's parameter names.
    pub normalised: SecretString,
    /// Hosts, ports, user, password, database, options. Its `sslmode` is the nearest it knows.
    pub connection: tokio_postgres::Config,
    /// TLS as asked for.
    pub tls: Tls,
}

impl DatabaseUrl {
    /// Takes a URL apart. The reason for a refusal never quotes what may be secret.
    pub fn parse(url: &SecretString) -> Result<Self, String> {
        let url = url.expose_secret().trim();
        let rest = after_scheme(url).ok_or("does not begin with postgresql:// or postgres://")?;
        check_at_signs(rest)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut tls = Tls::default();
        let mut shared = Vec::new();
        let mut own = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or("has a parameter without a value")?;
            match parameter(&mut tls, key, value)? {
                Whose::Server => shared.push(pair.to_owned()),
                Whose::Ours(pair) => own.push(pair),
                Whose::Nobody => {}
            }
        }
        let base = format!("postgresql://{place}");
        own.extend_from_slice(&shared);
        shared.push(format!("sslmode={}", tls.mode.nearest()));
        let connection = tokio_postgres::Config::from_str(&with_query(&base, &shared))
            // Its reasons name a parameter at most. Behind `password=s3&cret=x` that may be a piece
            // of the password.
            .map_err(|error| match std::error::Error::source(&error) {
                Some(cause) if !has_password(query) => format!("cannot be used: {cause}"),
                _ => "cannot be used".to_owned(),
            })?;
        if connection.get_hosts().is_empty() && connection.get_hostaddrs().is_empty() {
            return Err("names no host".to_owned());
        }
        // libpq pairs them, and a wrong pair would be a wrong server.
        let (hosts, addresses) = (connection.get_hosts().len(), connection.get_hostaddrs().len());
        if hosts > 0 && addresses > 0 && hosts != addresses {
            return Err(format!("has {addresses} addresses in hostaddr for {hosts} host(s)"));
        }
        let ports = connection.get_ports().len();
        if ports > 1 && ports != hosts.max(addresses) {
            return Err(format!("has {ports} ports for {} host(s)", hosts.max(addresses)));
        }
        if connection.get_user().is_none_or(str::is_empty) {
            return Err("names no user".to_owned());
        }
        Ok(Self { normalised: with_query(&base, &own).into(), connection, tls })
    }

    /// The normalised URL with the password replaced.
    #[must_use]
    pub fn redacted(&self) -> String {
        let url = self.normalised.expose_secret();
        let rest = after_scheme(url).unwrap_or_default();
        let shown = match rest.split_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((name, _)) => format!("{name}:***@{host}"),
                None => rest.to_owned(),
            },
            None => rest.to_owned(),
        };
        format!("postgresql://{}", hide_parameters(&shown, &["password", "sslpassword"]))
    }
}

/// What follows the scheme, whatever driver the scheme names.
fn after_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let family = scheme.split('+').next().unwrap_or_default();
    matches!(family, "postgres" | "postgresql").then_some(rest)
}

/// One `@`, and before the path: else nobody can tell the password from the host.
fn check_at_signs(rest: &str) -> Result<(), String> {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if rest.matches('@').count() == authority.matches('@').count().min(1) {
        return Ok(());
    }
    Err("cannot be told apart: inside a user name, a password or a parameter, write @ as %40, \
         / as %2F, ? as %3F and : as %3A"
        .to_owned())
}

enum Whose {
    Server,
    Ours(String),
    Nobody,
}

/// Who reads this parameter; TLS wishes are taken down.
fn parameter(tls: &mut Tls, key: &str, value: &str) -> Result<Whose, String> {
    let path = |value: &str| (!value.is_empty()).then(|| PathBuf::from(decode(value)));
    match key {
        // `ssl` is asyncpg's name for it.
        "sslmode" | "ssl" => {
            tls.mode = SslMode::parse(value).ok_or_else(|| {
                format!(
                    "has a {key} that is none of disable, allow, prefer, require, verify-ca, \
                     verify-full"
                )
            })?;
            return Ok(Whose::Ours(format!("sslmode={}", tls.mode.name())));
        }
        "sslrootcert" => tls.root_cert = path(value),
        "sslcert" => tls.client_cert = path(value),
        "sslkey" => tls.client_key = path(value),
        _ if DRIVER_ONLY.contains(&key) => return Ok(Whose::Nobody),
        _ => return Ok(Whose::Server),
    }
    Ok(Whose::Ours(format!("{key}={value}")))
}

/// Undoes percent encoding; a broken escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let code = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let (Some(byte), Some(tail)) = (code, after.get(2..)) {
            bytes.push(byte);
            rest = tail;
        } else {
            bytes.push(b'%');
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn with_query(base: &str, pairs: &[String]) -> String {
    if pairs.is_empty() { base.to_owned() } else { format!("{base}?{}", pairs.join("&")) }
}

fn has_password(query: &str) -> bool {
    query.split('&').any(|pair| decode(pair).starts_with("password="))
}

/// Replaces the values of these parameters in the query of a URL.
pub fn hide_parameters(url: &str, secret: &[&str]) -> String {
    let Some((before, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let hide = |pair: &str| match pair.split_once('=') {
        // The clients undo percent encoding in a name too.
        Some((key, _)) if secret.contains(&decode(key).as_str()) => format!("{key}=***"),
        _ => pair.to_owned(),
    };
    let shown: Vec<String> = query.split('&').map(hide).collect();
    format!("{before}?{}", shown.join("&"))
}

impl SslMode {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "disable" | "false" => Self::Disable,
            // libpq's `allow` tries without TLS first; a relay gains nothing from that.
            "allow" | "prefer" => Self::Prefer,
            "no-verify" => Self::NoVerify,
            "verify-ca" => Self::VerifyCa,
            "require" | "true" | "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// libpq's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::NoVerify => "no-verify",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// tokio-postgres knows three modes; verifying is the business of the TLS configuration.
    fn nearest(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::NoVerify | Self::VerifyCa | Self::VerifyFull => "require",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::Host;

    fn parse(url: &str) -> Result<DatabaseUrl, String> {
        DatabaseUrl::parse(&url.to_owned().into())
    }

    #[test]
    fn a_url_with_a_drivers_name_means_the_same_without() {
        for url in [
            "postgres://relay:secret@db:5433/app",
            "postgresql://relay:secret@db:5433/app",
            "postgresql+asyncpg://relay:secret@db:5433/app",
            "postgres+psycopg2://relay:secret@db:5433/app?prepared_statement_cache_size=0",
            " PostgreSQL://relay:secret@db:5433/app\n",
        ] {
            let parsed = parse(url).unwrap();
            let normalised = parsed.normalised.expose_secret();
            assert_eq!(normalised, "postgresql://relay:secret@db:5433/app", "{url}");
            assert_eq!(parsed.redacted(), "postgresql://relay:***@db:5433/app");
            assert_eq!(parsed.connection.get_hosts(), [Host::Tcp("db".into())]);
            assert_eq!(parsed.connection.get_ports(), [5433]);
            assert_eq!(parsed.connection.get_password(), Some(b"secret".as_slice()));
            assert_eq!(parsed.connection.get_dbname(), Some("app"));
        }
    }

    #[test]
    fn tls_wishes_are_taken_down_and_normalised() {
        let parsed = parse(
            "postgresql+asyncpg://u:p@h/d?ssl=verify-full&sslrootcert=%2Fca%20x.pem\
             &application_name=x",
        )
        .unwrap();
        assert_eq!(parsed.tls.mode, SslMode::VerifyFull);
        assert_eq!(parsed.tls.root_cert, Some("/ca x.pem".into()));
        assert_eq!(parsed.connection.get_ssl_mode(), tokio_postgres::config::SslMode::Require);
        assert_eq!(parsed.connection.get_application_name(), Some("x"));
        let normalised = parsed.normalised.expose_secret().to_owned();
        let query = "?sslmode=verify-full&sslrootcert=%2Fca%20x.pem&application_name=x";
        assert_eq!(normalised, format!("postgresql://u:p@h/d{query}"));
        let again = parse(&normalised).unwrap();
        assert_eq!((again.normalised.expose_secret(), again.tls), (&*normalised, parsed.tls));
        assert_eq!(parse("postgres://u@h/d").unwrap().tls, Tls::default());
    }

    #[test]
    fn sockets_are_named_in_the_host_or_in_a_parameter() {
        for url in ["postgres://u@%2Frun%2Fpg:5433/d", "postgres://u@/d?host=/run/pg&port=5433"] {
            let parsed = parse(url).unwrap();
            assert_eq!(parsed.connection.get_hosts(), [Host::Unix("/run/pg".into())], "{url}");
            assert_eq!(parsed.connection.get_ports(), [5433], "{url}");
        }
    }

    #[test]
    fn a_refusal_gives_the_reason_and_never_a_piece_of_the_password() {
        for (url, reason) in [
            ("", "does not begin with"),
            ("host=h password=s3cret", "does not begin with"),
            ("mysql://u:s3cret@h/d", "does not begin with"),
            ("postgres://u:s3@cret@h/d", "%40"),
            ("postgres://u:s3/cret@h/d", "%2F"),
            ("postgres://u:s3?cret@h/d", "%3F"),
            ("postgres://u:s3cret@/d", "names no host"),
            ("postgres://h/d?password=s3cret", "names no user"),
            ("postgres://u:s3cret@h:port/d", "port"),
            ("postgres://u:s3cret@h/d?hostaddr=10.0.0.1,10.0.0.2", "2 addresses in hostaddr for 1"),
            ("postgres://u:s3cret@h/d?port=1,2", "3 ports for 1 host"),
            ("postgres://u:s3cret@h/d?sslmode=maybe", "verify-full"),
            ("postgres://u:s3cret@h/d?nonsense=1", "nonsense"),
            ("postgres://u:s3cret@h/d?nonsense", "without a value"),
            ("postgres://h/d?user=u&password=a&s3cret=b", "cannot be used"),
        ] {
            let refusal = parse(url).unwrap_err();
            assert!(refusal.contains(reason), "{url}: {refusal}");
            for piece in ["s3", "cret"] {
                assert!(!refusal.contains(piece), "{url}: {refusal}");
            }
        }
    }

    #[test]
    fn a_password_in_a_parameter_is_hidden_too() {
        let parsed = parse("postgres://h/d?user=u&password=s3cret").unwrap();
        assert_eq!(parsed.redacted(), "postgresql://h/d?user=u&password=***");
        let parsed = parse("postgres://u@h/d?pass%77ord=s3cret").unwrap();
        assert!(!parsed.redacted().contains("s3cret"), "{}", parsed.redacted());
    }
}
