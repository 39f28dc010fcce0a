//! Which rows and entries a command reads, and how fast: what `verify` and `schema check` share.

use clap::Args;

/// A range of the table and its streams.
#[derive(Args, Clone, Debug, Default)]
pub struct Range {
    /// Only what was written at this time or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what was written before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only rows with this id or a higher one
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    pub from_id: Option<i64>,
    /// Only rows with this id or a lower one
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    pub to_id: Option<i64>,
    /// Only this stream; may be repeated. Without it all streams that the rows name
    #[arg(long, value_name = "NAME")]
    pub stream: Vec<String>,
    /// Read at most so many rows and entries a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
}
