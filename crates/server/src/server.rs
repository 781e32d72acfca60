//! A server from start to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use flowstone_broker::{Broker, Error};
use flowstone_disk::Env;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::config::ServerConfig;
use crate::error::{ServeError, StartError};

/// A server that listens and holds its data directory; [`run_until`](Self::run_until) serves.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    listener: TcpListener,
    local_addr: SocketAddr,
    broker: Broker,
}

impl Server {
    /// Takes the port, then opens the data directory. Clients that connect meanwhile wait. Nothing is
    /// changed on disk when the configuration or the port is refused.
    ///
    /// # Errors
    /// Each [`StartError`] names what is in the way and what to do.
    pub async fn start(config: ServerConfig, env: Env) -> Result<Self, StartError> {
        config.validate()?;
        let listen = config.listen;
        let listening = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => StartError::PortTaken { listen },
            _ => StartError::Listen { listen, source },
        };
        let listener = TcpListener::bind(listen).await.map_err(listening)?;
        let local_addr = listener.local_addr().map_err(listening)?;
        let broker_config = config.broker_config();
        let broker = tokio::task::spawn_blocking(move || Broker::open(broker_config, env))
            .await
            .expect("opening the broker does not panic")
            .map_err(|error| match error {
                Error::Open(open) => StartError::Open(open),
                other => StartError::Broker(other),
            })?;
        Ok(Self {
            config,
            listener,
            local_addr,
            broker,
        })
    }

    /// The address listened on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The id of the cluster that the data directory belongs to.
    pub fn cluster_id(&self) -> Uuid {
        self.broker.cluster_id()
    }

    /// Serves until `shutdown` resolves, then stops: no new calls, running ones are finished, streams end
    /// with SHUTTING_DOWN, everything is synced. Takes at most `shutdown_timeout_ms` from then on.
    ///
    /// # Errors
    /// See [`ServeError`]; what was acknowledged is on disk also then.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        shutdown.await;
        drop(self.listener);
        let timeout_ms = self.config.shutdown_timeout_ms;
        tokio::time::timeout(Duration::from_millis(timeout_ms), self.broker.shutdown())
            .await
            .map_err(|_| ServeError::Timeout { timeout_ms })?
            .map_err(ServeError::Broker)
    }
}
