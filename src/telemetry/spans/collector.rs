//! The HTTP of OTLP: one request, one connection, one answer, within a time.
//!
//! In: requests of OpenTelemetry's exporter, one after the other. Out: answers. It must stay true
//! that every wait and what is read of an answer are bounded, that a certificate is always checked,
//! and that what is said of a failure holds nothing of the request.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::environment::variable;
use super::exporter::milliseconds;

/// What the specification gives OTEL_EXPORTER_OTLP_TIMEOUT, in milliseconds.
const TIMEOUT_MS: usize = 10_000;
/// An answer is some bytes; of a longer one nothing is wanted.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Where collectors expect gRPC.
const PORT_OF_GRPC: u16 = 4317;

/// A collector; clones share what they met last.
#[derive(Clone)]
pub(super) struct Collector {
    name: String,
    /// Of https.
    tls: Option<TlsConnector>,
    timeout: Duration,
    may_speak_grpc: bool,
    failure: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Collector {
    /// The collector at this endpoint. What is wrong with it, without what may be secret in it.
    pub fn new(endpoint: &str) -> Result<Self, String> {
        let unusable = || "the endpoint must be http://host:port or https://host:port".to_owned();
        let uri: Uri = endpoint.trim().parse().map_err(|_| unusable())?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(unusable());
        };
        let tls = match scheme {
            "http" => None,
            "https" => Some(tls()?),
            _ => return Err(unusable()),
        };
        let port = uri.port_u16().map_or_else(String::new, |port| format!(":{port}"));
        let of_traces = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
        let of_all = milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT_MS);
        let timeout = variable(of_traces).map_or(of_all, |_| milliseconds(of_traces, TIMEOUT_MS));
        Ok(Self {
            name: format!("{scheme}://{host}{port}"),
            tls,
            timeout,
            may_speak_grpc: uri.port_u16() == Some(PORT_OF_GRPC) || is_grpc_wanted(),
            failure: Arc::default(),
        })
    }

    /// Scheme, host and port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether port or environment say gRPC.
    pub fn may_speak_grpc(&self) -> bool {
        self.may_speak_grpc
    }

    /// Why there was no answer, the last time there was none.
    pub fn take_failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn exchange(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        let host = uri.host().ok_or("no host")?;
        let default_port = if self.tls.is_some() { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let authority = uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        request.headers_mut().insert(HOST, HeaderValue::try_from(authority)?);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let path = uri.path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
        // In a URL an address of IPv6 stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port)).await?;
        match &self.tls {
            None => ask(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned())?;
                ask(tls.connect(name, stream).await?, request).await
            }
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchanged = tokio::time::timeout(self.timeout, self.exchange(request)).await;
        let exchanged = exchanged.unwrap_or_else(|_| {
            Err(HttpError::from(format!("no answer within {:?}", self.timeout)))
        });
        let failure = exchanged.as_ref().err().map(ToString::to_string);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        exchanged
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this function, whatever the collector does.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(request.map(Full::new)).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// The machine's certificate authorities, or those of a file.
fn tls() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let names = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
    if let Some(path) = names.into_iter().find_map(variable) {
        let unreadable = |error: &dyn std::fmt::Display| {
            format!("cannot read certificates from {path}: {error}")
        };
        let found = CertificateDer::pem_file_iter(Path::new(&path));
        for certificate in found.map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.add(certificate).map_err(|error| unreadable(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err("there are no trusted certificate authorities: install ca-certificates, or \
                    name a file with OTEL_EXPORTER_OTLP_CERTIFICATE"
            .to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn is_grpc_wanted() -> bool {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    names.into_iter().find_map(variable).is_some_and(|protocol| protocol.trim() == "grpc")
}
