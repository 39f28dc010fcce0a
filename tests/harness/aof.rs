//! What an operator does after a crash of Redis: an append-only file that ends inside a transaction
//! is cut back to before it.
//!
//! Redis and Valkey that were killed in the middle of a write load such a file rightly, and yet
//! leave the MULTI and its first commands in it, and write on behind them: at the next start these
//! are executed together with what follows (<https://github.com/valkey-io/valkey/pull/4342>). That
//! is theirs to mend; `redis-check-aof --fix` does what this does, BGREWRITEAOF makes it needless.

use std::fs::{self, File};
use std::path::Path;

/// Mends the files in `folder`, if there are any yet.
pub fn mend(folder: &Path) {
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files {
        let path = file.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "aof") {
            let bytes = fs::read(&path).expect("an append-only file");
            if let Some(end) = sound_end(&bytes) {
                let file = File::options().write(true).open(&path).expect("the same file");
                file.set_len(u64::try_from(end).expect("an offset")).expect("a shorter file");
            }
        }
    }
}

/// Where the file is to end, if it ends inside a transaction.
fn sound_end(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut began) = (0, None);
    while let Some((next, name)) = command(bytes, at) {
        if name.eq_ignore_ascii_case(b"MULTI") {
            began = began.or(Some(at));
        } else if name.eq_ignore_ascii_case(b"EXEC") {
            began = None;
        }
        at = next;
    }
    began
}

/// The end and the name of the command at `at`, if it is all there.
fn command(bytes: &[u8], at: usize) -> Option<(usize, &[u8])> {
    let (mut at, parts) = number(bytes, at, b'*')?;
    let mut name = None;
    for _ in 0..parts {
        let (from, length) = number(bytes, at, b'$')?;
        let part = bytes.get(from..from + length)?;
        at = from + length + 2;
        name = name.or(Some(part));
    }
    (at <= bytes.len()).then_some((at, name?))
}

/// The number behind `mark`, and where its line ends.
fn number(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(at..)?.strip_prefix(&[mark])?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((at + 1 + end + 2, number))
}
