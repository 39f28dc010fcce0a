//! Frames, and what may come between them, however the bytes are cut.

use std::pin::pin;

use super::*;
use futures_util::poll;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

pub fn connected(bytes_max: usize) -> (Replication, DuplexStream) {
    connected_by(bytes_max, 1024 * 1024)
}

/// So many bytes are on their way at most.
fn connected_by(bytes_max: usize, buffer: usize) -> (Replication, DuplexStream) {
    let (ours, theirs) = duplex(buffer);
    let wire = Wire::new(Box::new(ours));
    (Replication::new(wire, bytes_max, Duration::from_millis(10), String::new()), theirs)
}

pub fn copy_data(body: &[u8]) -> Vec<u8> {
    let mut message = vec![backend::COPY_DATA_TAG];
    message.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend_from_slice(body);
    message
}

pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn frames_split_at_any_byte_arrive_whole_and_in_order() {
    run(async {
        let mut keepalive = vec![b'k'];
        keepalive.extend_from_slice(&77u64.to_be_bytes());
        keepalive.extend_from_slice(&[0; 8]);
        keepalive.push(1);
        let data = [&[b'w'][..], &[0; 24], b"hello"].concat();
        let bytes = [copy_data(&data), copy_data(&keepalive)].concat();
        for cut in 1..bytes.len() {
            let (mut replication, mut server) = connected(1024);
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                server.write_all(part).await.unwrap();
                replication.pump(true).await.unwrap();
                while let Some(frame) = replication.next_frame().unwrap() {
                    seen.push(format!("{frame:?}"));
                }
            }
            assert_eq!(seen.len(), 2, "cut at {cut}: {seen:?}");
            assert!(seen[0].contains("[104, 101, 108, 108, 111]"), "{}", seen[0]);
            assert!(seen[1].contains("Lsn(77)") && seen[1].contains("true"), "{}", seen[1]);
        }
    });
}

#[test]
fn a_server_that_is_silent_before_the_stream_is_given_up() {
    run(async {
        let (mut replication, _server) = connected(1024);
        let error = replication.identify().await.unwrap_err();
        assert!(error.to_string().contains("no answer in 10ms"), "{error}");
        let (mut replication, _server) = connected(1024);
        let error = replication.start("s", "p").await.unwrap_err();
        assert!(error.to_string().contains("no answer in 10ms"), "{error}");
        assert_eq!(error.class(), crate::error::Class::Transient);
    });
}

#[test]
fn a_stream_that_has_ended_says_why_behind_what_it_sent() {
    run(async {
        let (mut replication, mut server) = connected(1024);
        let frame = copy_data(&[&[b'w'][..], &[0; 24], b"hello"].concat());
        let fields = b"C42704\0Mpublication \"p\" does not exist\0\0";
        server.write_all(&frame).await.unwrap();
        server.write_all(&[b'E', 0, 0, 0, u8::try_from(fields.len() + 4).unwrap()]).await.unwrap();
        server.write_all(fields).await.unwrap();
        let error = replication.ending().await.unwrap();
        assert!(error.to_string().contains("SQLSTATE 42704"), "{error}");
    });
}

#[test]
fn what_the_server_sends_is_heard_of() {
    run(async {
        let (mut replication, mut server) = connected(1024);
        let before = replication.heard();
        tokio::time::sleep(Duration::from_millis(1)).await;
        server.write_all(b"d").await.unwrap();
        assert_eq!(replication.heard(), before);
        replication.pump(true).await.unwrap();
        assert!(replication.heard() > before);
    });
}

#[test]
fn nothing_is_read_while_a_frame_is_at_hand() {
    run(async {
        let frame = copy_data(&[&[b'w'][..], &[0; 24], &[1; 1_000]].concat());
        let (mut replication, mut server) = connected_by(4_096, 2 * frame.len());
        server.write_all(&frame.repeat(2)).await.unwrap();
        replication.pump(true).await.unwrap();
        server.write_all(&frame.repeat(2)).await.unwrap();
        let is_full =
            async |server: &mut DuplexStream| poll!(pin!(server.write(b"d"))).is_pending();
        for _ in 0..2 {
            // Two frames are at hand, then one.
            replication.queue_status(Lsn::new(9), Lsn::new(5), false);
            replication.pump(true).await.unwrap();
            server.read_exact(&mut [0; 39]).await.unwrap();
            assert!(is_full(&mut server).await, "more was read");
            assert!(replication.next_frame().unwrap().is_some());
        }
        replication.pump(true).await.unwrap();
        assert!(!is_full(&mut server).await, "nothing was read");
    });
}

#[test]
fn a_status_update_leaves_while_nothing_is_read() {
    run(async {
        let (mut replication, mut server) = connected(1024);
        replication.queue_status(Lsn::new(9), Lsn::new(5), true);
        let mut bytes = [0; 39];
        tokio::select! {
            result = replication.pump(false) => panic!("ended: {result:?}"),
            read = server.read_exact(&mut bytes) => { read.unwrap(); }
        }
        assert_eq!(bytes[..6], [b'd', 0, 0, 0, 38, b'r']);
        assert_eq!(bytes[6..14], 9u64.to_be_bytes());
        assert_eq!(bytes[14..22], 5u64.to_be_bytes());
        assert_eq!(bytes[22..30], 5u64.to_be_bytes());
        assert_eq!(bytes[38], 1);
    });
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes: Vec<u8>) {
        let (mut replication, mut server) = connected(4096);
        run(async {
            server.write_all(&bytes).await.unwrap();
            server.write_all(&[0]).await.unwrap();
            replication.pump(true).await.unwrap();
            for _ in 0..bytes.len() {
                if !matches!(replication.next_frame(), Ok(Some(_))) { break }
            }
        });
    }
}
