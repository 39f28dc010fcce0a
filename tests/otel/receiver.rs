//! A collector of one test: takes OTLP over HTTP on a port of 127.0.0.1, or takes it and never
//! answers.
//!
//! In: requests. Out: their spans, and their bytes. It must stay true that it reads the wire by its
//! own hand: what it understands, another collector does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::wait::{self, PATIENCE};

/// What OTLP calls a span of kind PRODUCER.
pub const PRODUCER: u64 = 4;

/// A span as it came.
#[derive(Clone, Debug, Default)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: u64,
    /// Unix nanoseconds.
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    /// Of the service that sent it.
    pub service: String,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

/// The collector; it listens as long as its runtime.
pub struct Receiver {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// It answers.
    pub async fn start() -> Self {
        Self::at(0, true).await
    }

    /// It reads, and never answers.
    pub async fn start_silent() -> Self {
        Self::at(0, false).await
    }

    /// It answers, or not, at that port.
    pub async fn at(port: u16, answers: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&heard), answers));
            }
        });
        Self { port, requests }
    }

    /// What OTEL_EXPORTER_OTLP_ENDPOINT is to say.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.requests().iter().flat_map(|request| spans(&request.body)).collect()
    }

    /// Awaits so many spans.
    pub async fn until_spans(&self, wanted: usize) -> Vec<Span> {
        wait::until(&format!("{wanted} spans"), PATIENCE, async || {
            let spans = self.spans();
            (spans.len() >= wanted).then_some(spans)
        })
        .await
    }
}

async fn serve(mut stream: TcpStream, heard: Arc<Mutex<Vec<Request>>>, answers: bool) {
    let mut bytes = Vec::new();
    let head_ends = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_ends]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a length").trim().parse().unwrap();
    while bytes.len() < head_ends + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    heard.lock().unwrap().push(Request { head, body: bytes.split_off(head_ends) });
    if answers {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\
                       content-length: 0\r\n\r\n";
        stream.write_all(answer).await.ok();
    } else {
        // Until the other side gives up.
        stream.read_buf(&mut bytes).await.ok();
    }
}

/// The spans of an ExportTraceServiceRequest (opentelemetry/proto/trace/v1/trace.proto).
fn spans(request: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    for resource_spans in members(request, 1) {
        let resources = members(&resource_spans, 1);
        let resource: BTreeMap<_, _> =
            resources.iter().flat_map(|resource| attributes(resource, 1)).collect();
        for scope_spans in members(&resource_spans, 2) {
            for span in members(&scope_spans, 2) {
                let mut span = read(&span);
                span.service = resource.get("service.name").cloned().unwrap_or_default();
                found.push(span);
            }
        }
    }
    found
}

fn read(bytes: &[u8]) -> Span {
    let mut span =
        Span { attributes: attributes(bytes, 9).into_iter().collect(), ..Span::default() };
    for (number, field) in fields(bytes) {
        match (number, field) {
            (1, Field::Bytes(id)) => span.trace = hex(&id),
            (2, Field::Bytes(id)) => span.id = hex(&id),
            (4, Field::Bytes(id)) => span.parent = hex(&id),
            (5, Field::Bytes(name)) => span.name = String::from_utf8(name).unwrap(),
            (6, Field::Number(kind)) => span.kind = kind,
            (7, Field::Number(start)) => span.start = start,
            (8, Field::Number(end)) => span.end = end,
            _ => {}
        }
    }
    span
}

/// KeyValues whose values are strings.
fn attributes(bytes: &[u8], number: u64) -> Vec<(String, String)> {
    let text = |bytes: &[u8], number| {
        let found = members(bytes, number).into_iter().next().unwrap_or_default();
        String::from_utf8(found).unwrap()
    };
    let pair = |pair: Vec<u8>| {
        let value = members(&pair, 2).into_iter().next().unwrap_or_default();
        (text(&pair, 1), text(&value, 1))
    };
    members(bytes, number).into_iter().map(pair).collect()
}

fn members(bytes: &[u8], wanted: u64) -> Vec<Vec<u8>> {
    let member = |(number, field)| match field {
        Field::Bytes(bytes) => (number == wanted).then_some(bytes),
        Field::Number(_) => None,
    };
    fields(bytes).into_iter().filter_map(member).collect()
}

enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The fields of a message of protobuf, by their numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let mut take = |length: usize| {
            let (taken, rest) = bytes.split_at(length);
            bytes = rest;
            taken.to_vec()
        };
        let field = match tag & 7 {
            1 => Field::Number(u64::from_le_bytes(take(8).try_into().unwrap())),
            5 => Field::Number(u32::from_le_bytes(take(4).try_into().unwrap()).into()),
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (taken, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(taken.to_vec())
            }
            kind => panic!("protobuf has no fields of kind {kind}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().expect("the rest of a number");
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    number
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
