//! Room on the disk, asked for before it is used up.
//!
//! In: how many bytes a measurement will write. Out: an error that says how many are missing. It
//! must stay true that the bench never fills the disk that others work on.

use std::error::Error;
use std::process::Command;

use crate::figures::gigabytes;

/// What must be left when all is written.
const RESERVE_BYTES: usize = 2_000_000_000;

/// An error, unless so many bytes can be written to where temporary files go.
pub fn need(bytes: usize) -> Result<(), Box<dyn Error>> {
    let at = std::env::temp_dir();
    let done = Command::new("df").args(["--output=avail", "-B1"]).arg(&at).output()?;
    let text = String::from_utf8(done.stdout)?;
    let free: usize = text.lines().nth(1).unwrap_or_default().trim().parse()?;
    if free < bytes + RESERVE_BYTES {
        return Err(format!(
            "{} has {} free, and this would write up to {}: take fewer rows, or set TMPDIR to a \
             larger disk",
            at.display(),
            gigabytes(free),
            gigabytes(bytes),
        )
        .into());
    }
    Ok(())
}
