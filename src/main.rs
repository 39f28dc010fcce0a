//! The binary: reads the command line, gathers the settings, calls one command, and turns its
//! result into an exit code. Nothing else happens here.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;

use walrelay::cli::{Arguments, Command};
use walrelay::command::{config, dlq, health, run, setup, verify};
use walrelay::config::{Inputs, load};
use walrelay::error::{EXIT_OK, Error, Result};
use walrelay::telemetry;

fn main() -> ExitCode {
    // Wrong arguments end the process in here, with exit code 2.
    let arguments = Arguments::parse();
    match perform(arguments) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn perform(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { command, common } = arguments;
    let flags = common.flags().map_err(Error::usage)?;
    let loaded = load(&Inputs::from_process(common.config, flags))?;
    let (format, level) = loaded.log()?;
    let is_text = telemetry::start_log(format, level);
    let mut out = stdout().lock();
    let performed = match command {
        Command::Config { json } => config::run(&loaded, json, &mut out),
        Command::Health => {
            let (address, port) = loaded.http()?;
            block_on(health::run(address, port, &mut out))
        }
        Command::Dlq { command } => {
            let (table, _, _) = loaded.names()?;
            let outbox = dlq::Outbox { table, stream: loaded.stream_name()? };
            let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
            block_on(dlq::run(&url, timeout, &outbox, &command, &mut out))
        }
        Command::Setup { print, role, notify } => {
            let (table, publication, slot) = loaded.names()?;
            let shards = loaded.shards()?;
            let plan = setup::Plan {
                table: &table,
                publication: &publication,
                slot: &slot,
                shards: &shards,
                backlog: loaded.backlog()?,
                mode: loaded.mode()?,
                notify,
                role: role.as_deref(),
            };
            if print {
                setup::print(&plan, &mut out)
            } else {
                let (url, timeout) = (loaded.database_url()?, loaded.duration("connect_timeout")?);
                block_on(setup::run(&url, timeout, &plan, &mut out))
            }
        }
        Command::Verify(asked) => {
            let settings = loaded.settings()?;
            block_on(verify::run(&settings, &asked, &mut out))
        }
        Command::Run => {
            drop(out);
            let ended = loaded.settings().and_then(|settings| block_on(run::run(settings)));
            if let Err(error) = &ended
                && !is_text
            {
                // Whoever reads the other lines by machine reads this one as well.
                tracing::error!(error = %error, hint = error.next_step(), "stopped");
                return Ok(ExitCode::from(error.exit_code()));
            }
            ended
        }
    };
    performed.map(|()| ExitCode::from(EXIT_OK))
}

/// One thread: the line is a single loop, and two servers are always slower than it.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::definite("cannot start the event loop").because(error))?;
    runtime.block_on(future)
}

fn report(error: &Error) {
    let hint = error.next_step().map(|step| format!(" hint: {step}\n")).unwrap_or_default();
    // With stderr gone there is nobody left to tell; the exit code remains.
    let _unheard = write!(stderr(), "error: {error}\n{hint}");
}
