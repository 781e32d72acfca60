//! `flowstone serve`: the broker.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use flowstone_disk::{Env, raise_open_files_limit};
use flowstone_server::{Server, ServerConfig};

use crate::args::Switch;
use crate::signals::Stop;

/// What the line that tells that the server is ready begins with; behind it stand the address and
/// the data directory.
pub(crate) const READY: &str = "flowstone is ready on ";

/// Run the broker
///
/// Prints one line when it is ready, and logs to standard error. SIGINT or SIGTERM stops it: what runs
/// is finished, everything is synced, and it exits with 0 within 5 seconds. A second signal ends it at
/// once; what was acknowledged is on disk then, too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  flowstone serve
  flowstone serve --data-dir /var/lib/flowstone --listen 0.0.0.0:7420
  flowstone serve --listen 127.0.0.1:0        a free port, told when it is ready
  flowstone serve --config flowstone.toml     `flowstone config` prints such a file")]
pub(crate) struct ServeArgs {
    /// The directory that holds everything; it is made if it is not there [default: flowstone-data]
    #[arg(long, env = "FLOWSTONE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:7420]
    #[arg(long, env = "FLOWSTONE_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,

    /// Address and port to serve metrics on for Prometheus, at /metrics [default: they are not served]
    #[arg(long, env = "FLOWSTONE_METRICS_LISTEN", value_name = "ADDR:PORT")]
    metrics_listen: Option<SocketAddr>,

    /// A configuration file; flags win over it
    #[arg(long, env = "FLOWSTONE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the default configuration file, and do not serve
    #[arg(long, env = "FLOWSTONE_PRINT_CONFIG", value_parser = Switch::new())]
    print_config: bool,
}

impl ServeArgs {
    fn server_config(self) -> Result<ServerConfig> {
        let mut config = match &self.config {
            Some(path) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read the configuration {}", path.display()))?;
                ServerConfig::from_toml(&text, path)?
            }
            None => ServerConfig::default(),
        };
        if let Some(data_dir) = self.data_dir {
            config.data_dir = data_dir;
        }
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(listen) = self.metrics_listen {
            config.metrics_listen = Some(listen);
        }
        Ok(config)
    }
}

pub(crate) async fn run(args: ServeArgs) -> Result<()> {
    if args.print_config {
        return super::config::print_default();
    }
    let config = args.server_config()?;
    let data_dir = config.data_dir.clone();
    match raise_open_files_limit() {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit on open files stays as it is"),
    }
    // Listened to before the start, so that a signal during recovery is not lost.
    let mut stop = Stop::listen()?;
    let server = tokio::select! {
        server = Server::start(config, Env::real()) => server?,
        () = stop.asked() => return Ok(()),
    };
    eprintln!(
        "{READY}{}, data in {}",
        server.local_addr(),
        data_dir.display()
    );
    server.run_until(async move { stop.asked().await }).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(config: Option<PathBuf>) -> ServeArgs {
        ServeArgs {
            data_dir: Some("elsewhere".into()),
            listen: None,
            metrics_listen: None,
            config,
            print_config: false,
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flowstone.toml");
        fs::write(&path, ServerConfig::default_toml()).unwrap();
        let config = args(Some(path.clone())).server_config().unwrap();
        assert_eq!(config.data_dir, PathBuf::from("elsewhere"));
        assert_eq!(config.listen, ServerConfig::default().listen);

        fs::write(&path, "[server]\nlisten = \"127.0.0.1:1\"\n").unwrap();
        let config = args(Some(path)).server_config().unwrap();
        assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.data_dir, PathBuf::from("elsewhere"));
    }

    #[test]
    fn a_file_that_is_not_there_is_told_by_its_name() {
        let error = args(Some("no-such.toml".into()))
            .server_config()
            .unwrap_err();
        assert!(format!("{error:#}").contains("no-such.toml"), "{error:#}");
    }
}
