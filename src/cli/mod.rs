//! The command line: one definition feeds parser, help, completions and man page.
//!
//! In: arguments. Out: [`Arguments`]. No setting has a default here, and none is checked here: that
//! is the business of `config`. A command with options of its own has a file of its own.

mod arguments;
mod bookmark;
mod check;
mod dlq;
mod papers;
mod range;
mod replay;
mod schema;
mod status;
mod tail;
mod teardown;
mod verify;

pub use arguments::{Arguments, Command, Common};
pub use bookmark::Bookmark;
pub use check::Check;
pub use dlq::{Dlq, DlqChoice, DlqFilter};
pub use papers::{CompletionsOptions, ManOptions};
pub use range::Range;
pub use replay::Replay;
pub use schema::{Schema, SchemaCheck, Side};
pub use status::StatusOptions;
pub use tail::TailOptions;
pub use teardown::TeardownOptions;
pub use verify::{Verify, VerifyRepair};
