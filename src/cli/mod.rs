//! The command line: one definition feeds parser, help, completions and man page.
//!
//! In: arguments. Out: [`Arguments`]. No setting has a default here, and none is checked here: that
//! is the business of `config`. A command with options of its own has a file of its own.

mod arguments;
mod dlq;
mod verify;

pub use arguments::{Arguments, Command, Common};
pub use dlq::{Dlq, DlqChoice, DlqFilter};
pub use verify::{Verify, VerifyRepair};
