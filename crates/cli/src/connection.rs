//! A client made from the global flags.

use std::time::Duration;

use anyhow::Result;
use flowstone_client::{Client, ClientOptions};

use crate::args::Global;

/// How long a connection that worked before is tried again.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// Connects when it is first used.
pub(crate) fn connect(global: &Global) -> Result<Client> {
    let options = ClientOptions {
        retry_for: global.retry_for.unwrap_or_default(),
        ..ClientOptions::default()
    };
    Ok(Client::with_options(&global.server, options)?)
}

/// As [`connect`], for what goes on for long and should survive the broker's restarts.
pub(crate) fn connect_for_long(global: &Global) -> Result<Client> {
    let options = ClientOptions {
        retry_for: retry_streams_for(global),
        ..ClientOptions::default()
    };
    Ok(Client::with_options(&global.server, options)?)
}

/// How long a stream that broke is opened again.
pub(crate) fn retry_streams_for(global: &Global) -> Duration {
    global.retry_for.unwrap_or(RETRY_FOR)
}
