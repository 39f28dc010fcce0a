//! `walrelay health`: asks the running relay whether it is ready. For container health checks.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::telemetry;

/// Longer than any answer from memory takes, shorter than the patience of an orchestrator.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Succeeds when /readyz of the relay on this machine says 200; writes what it does. With several
/// tables all are meant, or this one.
pub async fn run(
    (address, port): (IpAddr, u16),
    table: Option<&str>,
    out: &mut impl Write,
) -> Result<()> {
    if port == 0 {
        return Err(Error::usage(
            "http_port is 0: this relay serves no pages, so nothing can be asked",
        ));
    }
    let address = SocketAddr::new(reachable(address), port);
    let (code, body) =
        telemetry::ask(address, &telemetry::path_of("/readyz", table), TIMEOUT).await?;
    let state = body.trim();
    if code != 200 {
        return Err(Error::definite(format!("walrelay at http://{address} is not ready: {state}"))
            .hint(format!("its log and http://{address}/status say why")));
    }
    writeln!(out, "{state}")
        .map_err(|error| Error::definite("cannot write to stdout").because(error))
}

/// One listens on every address, but one cannot connect to it.
pub(super) fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}
