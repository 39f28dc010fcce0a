//! Logging in: the start-up message, and whichever proof the server asks for.
//!
//! In: a connection, and who we are. Out: the same connection, ready for a query. It must stay true
//! that a password never goes out in clear text on a link that is not encrypted, and that nothing
//! weaker than `channel_binding=require` is agreed to where that was asked for.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "postgres_protocol::Message is non-exhaustive: a wildcard is needed in any case"
)]

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{self, Message};
use postgres_protocol::message::frontend;

use super::failure::{ServerError, from_io};
use super::wire::Wire;
use crate::error::{Error, Result};

/// Who logs in, and with what.
pub(super) struct Login<'a> {
    pub parameters: Vec<(&'a str, &'a str)>,
    pub user: &'a str,
    pub password: Option<&'a [u8]>,
    /// The digest of the server's certificate, on a TLS link.
    pub binding: Option<Vec<u8>>,
    /// Whether the log-in must be bound to that digest (`channel_binding=require`): nobody between
    /// us and the server can then pass it on, whatever certificate he has.
    pub must_bind: bool,
    pub is_tls: bool,
}

impl Wire {
    /// Start-up message, authentication, and all that follows up to the first ReadyForQuery.
    pub async fn log_in(&mut self, login: &Login<'_>) -> Result<()> {
        let doing = "cannot log in to PostgreSQL";
        let io = |error| from_io(doing, error);
        frontend::startup_message(login.parameters.iter().copied(), self.outbox()).map_err(io)?;
        self.flush().await.map_err(io)?;
        self.authenticate(login).await?;
        loop {
            match self.message().await.map_err(io)? {
                Message::ReadyForQuery(_) => return Ok(()),
                Message::BackendKeyData(body) => self.pid = body.process_id(),
                Message::ErrorResponse(body) => {
                    return Err(ServerError::parse(body.fields()).map_err(io)?.into_error(doing));
                }
                _ => {}
            }
        }
    }

    async fn authenticate(&mut self, login: &Login<'_>) -> Result<()> {
        let doing = "cannot log in to PostgreSQL";
        let io = |error| from_io(doing, error);
        let password = || {
            login.password.ok_or_else(|| {
                Error::definite(format!("{doing}: the server asks for a password"))
                    .hint("put it into database_url")
            })
        };
        let mut is_bound = false;
        loop {
            match self.message().await.map_err(io)? {
                Message::AuthenticationOk if is_bound || !login.must_bind => return Ok(()),
                Message::AuthenticationOk
                | Message::AuthenticationCleartextPassword
                | Message::AuthenticationMd5Password(_)
                    if login.must_bind =>
                {
                    return Err(unbound("the server asks for a weaker proof than SCRAM"));
                }
                Message::AuthenticationCleartextPassword if login.is_tls => {
                    frontend::password_message(password()?, self.outbox()).map_err(io)?;
                }
                Message::AuthenticationCleartextPassword => {
                    return Err(Error::definite(format!(
                        "{doing}: the server asks for the password in clear text on a link that \
                         is not encrypted"
                    ))
                    .hint("use scram-sha-256 in pg_hba.conf, or sslmode=require in database_url"));
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(login.user.as_bytes(), password()?, body.salt());
                    frontend::password_message(hash.as_bytes(), self.outbox()).map_err(io)?;
                }
                Message::AuthenticationSasl(body) => {
                    is_bound = self.scram(password()?, login, &body).await?;
                }
                Message::ErrorResponse(body) => {
                    return Err(ServerError::parse(body.fields()).map_err(io)?.into_error(doing));
                }
                Message::NoticeResponse(_) => {}
                // Above all ReadyForQuery: a server that never asked who we are is not believed.
                _ => {
                    return Err(Error::definite(format!(
                        "{doing}: the server asks for a method other than SCRAM, MD5 or password"
                    ))
                    .hint("use scram-sha-256 for this role in pg_hba.conf"));
                }
            }
            self.flush().await.map_err(io)?;
        }
    }

    /// SCRAM-SHA-256, with channel binding when the link and the server have it; says whether
    /// (<https://www.postgresql.org/docs/current/sasl-authentication.html>).
    async fn scram(
        &mut self,
        password: &[u8],
        login: &Login<'_>,
        offer: &backend::AuthenticationSaslBody,
    ) -> Result<bool> {
        let doing = "cannot log in to PostgreSQL";
        let io = |error| from_io(doing, error);
        let offered: Vec<String> =
            offer.mechanisms().map(|m| Ok(m.to_owned())).collect().map_err(io)?;
        let has = |name: &str| offered.iter().any(|mechanism| mechanism == name);
        let (mechanism, binding) = match &login.binding {
            Some(digest) if has(sasl::SCRAM_SHA_256_PLUS) => {
                let binding = sasl::ChannelBinding::tls_server_end_point(digest.clone());
                (sasl::SCRAM_SHA_256_PLUS, binding)
            }
            Some(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            None => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        let is_bound = mechanism == sasl::SCRAM_SHA_256_PLUS;
        if login.must_bind && !is_bound {
            return Err(unbound(match (login.is_tls, &login.binding) {
                (false, _) => "the link is not encrypted",
                (true, None) => "the server's certificate is signed in a way that names no digest",
                (true, Some(_)) => "the server does not offer SCRAM-SHA-256-PLUS",
            }));
        }
        if !has(mechanism) {
            return Err(Error::definite(format!("{doing}: the server does not offer {mechanism}")));
        }
        let mut scram = sasl::ScramSha256::new(password, binding);
        frontend::sasl_initial_response(mechanism, scram.message(), self.outbox()).map_err(io)?;
        self.flush().await.map_err(io)?;
        match self.message().await.map_err(io)? {
            Message::AuthenticationSaslContinue(body) => scram.update(body.data()).map_err(io)?,
            other => return Err(unexpected(doing, other)),
        }
        frontend::sasl_response(scram.message(), self.outbox()).map_err(io)?;
        self.flush().await.map_err(io)?;
        match self.message().await.map_err(io)? {
            Message::AuthenticationSaslFinal(body) => {
                scram.finish(body.data()).map_err(io)?;
                Ok(is_bound)
            }
            other => Err(unexpected(doing, other)),
        }
    }
}

fn unbound(why: &str) -> Error {
    Error::definite(format!(
        "cannot log in to PostgreSQL: database_url has channel_binding=require, and {why}"
    ))
    .hint(
        "use TLS on both sides and scram-sha-256 for this role in pg_hba.conf, or \
         channel_binding=prefer in database_url",
    )
}

/// An error response becomes itself; anything else is a protocol error.
fn unexpected(doing: &str, message: Message) -> Error {
    match message {
        Message::ErrorResponse(body) => match ServerError::parse(body.fields()) {
            Ok(error) => error.into_error(doing),
            Err(error) => from_io(doing, error),
        },
        _ => Error::transient(format!("{doing}: the server broke the protocol")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};
    use tokio::io::{AsyncWriteExt, duplex};

    /// What becomes of a log-in to a server that sends this Authentication request.
    fn answer(request: u32, rest: &[u8], binding: Option<Vec<u8>>, must_bind: bool) -> Result<()> {
        let mut message = BytesMut::new();
        message.put_u8(b'R');
        message.put_u32(u32::try_from(rest.len() + 8).unwrap());
        message.put_u32(request);
        message.put_slice(rest);
        message.put_slice(b"Z\0\0\0\x05I");
        let login = Login {
            parameters: vec![("user", "relay")],
            user: "relay",
            password: Some(b"secret"),
            is_tls: binding.is_some(),
            binding,
            must_bind,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = duplex(64 * 1024);
            theirs.write_all(&message).await.unwrap();
            Wire::new(Box::new(ours)).log_in(&login).await
        })
    }

    #[test]
    fn channel_binding_that_is_required_accepts_nothing_without() {
        let offer = b"SCRAM-SHA-256\0\0";
        let proofs: [(u32, &[u8]); 4] = [(0, b""), (3, b""), (5, b"salt"), (10, offer)];
        for (request, rest) in proofs {
            let error = answer(request, rest, Some(vec![1; 32]), true).unwrap_err();
            assert!(error.to_string().contains("channel_binding=require"), "{request}: {error}");
            assert_eq!(error.class(), crate::error::Class::Definite, "{request}: {error}");
        }
        let both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let error = answer(10, both, None, true).unwrap_err();
        assert!(error.to_string().contains("not encrypted"), "{error}");
        answer(0, b"", None, false).expect("trust is enough when nothing else was asked for");
    }
}
