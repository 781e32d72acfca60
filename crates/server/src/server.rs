//! A server from start to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flowstone_broker::{Broker, Error};
use flowstone_disk::Env;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use uuid::Uuid;

use crate::config::ServerConfig;
use crate::connections::Connections;
use crate::error::{ServeError, StartError};
use crate::front::Front;
use crate::metrics::{self, Source};
use crate::services::{SERVICE_NAMES, Services};

/// A server that listens and holds its data directory; [`run_until`](Self::run_until) serves.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    listener: TcpListener,
    local_addr: SocketAddr,
    metrics: Option<(TcpListener, SocketAddr)>,
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
        let (listener, local_addr) = bind(config.listen, "listen").await?;
        let metrics = match config.metrics_listen {
            Some(listen) => Some(bind(listen, "metrics-listen").await?),
            None => None,
        };
        let broker_config = config.broker_config();
        let opened = tokio::task::spawn_blocking(move || Broker::open(broker_config, env)).await;
        let broker = match opened {
            Ok(Ok(broker)) => broker,
            Ok(Err(Error::Open(error))) => return Err(StartError::Open(error)),
            Ok(Err(error)) => return Err(StartError::Broker(error)),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        tracing::debug!(%local_addr, cluster_id = %broker.cluster_id(), "ready to serve");
        Ok(Self {
            config,
            listener,
            local_addr,
            metrics,
            broker,
        })
    }

    /// The address listened on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address that metrics are served on, with the real port, if they are.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
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
        let Self {
            config,
            listener,
            local_addr,
            metrics,
            broker,
        } = self;
        let timeout = Duration::from_millis(config.shutdown_timeout_ms);
        let services = Services {
            broker: broker.clone(),
            endpoint: config
                .advertised_endpoint
                .clone()
                .unwrap_or_else(|| local_addr.to_string()),
            outcomes: Arc::default(),
            stopping: CancellationToken::new(),
            config: Arc::new(config),
        };
        let stopping = services.stopping.clone();
        // Told until the end, also how a stop goes on.
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        if let Some((listener, address)) = metrics {
            tracing::info!(%address, "metrics are served");
            let source = Source {
                broker: broker.clone(),
                outcomes: Arc::clone(&services.outcomes),
                started: Instant::now(),
            };
            tokio::spawn(metrics::serve(listener, source, over));
        }
        let (mut health, health_service) = tonic_health::server::health_reporter();
        for name in SERVICE_NAMES {
            health
                .set_service_status(name, ServingStatus::Serving)
                .await;
        }
        let routes = with_reflection(services.routes().add_service(health_service));
        let front = Front::new(routes, services.config.limits.max_request_bytes);
        let connections = Connections::new(front, &services.config);

        let reporter = health.clone();
        let signal = async {
            shutdown.await;
            tracing::info!(%local_addr, "stopping");
            for name in SERVICE_NAMES.into_iter().chain([""]) {
                reporter
                    .set_service_status(name, ServingStatus::NotServing)
                    .await;
            }
            broker.stop_accepting();
            stopping.cancel();
        };
        let serving = async {
            tokio::select! {
                never = connections.accept(&listener) => match never {},
                () = signal => {}
            }
            // Who comes now is told so by the operating system.
            drop(listener);
            connections.close().await;
        };
        let overdue = async {
            stopping.cancelled().await;
            // A watch of the health ends only with what it watches.
            tokio::time::sleep(timeout / 20).await;
            for name in SERVICE_NAMES.into_iter().chain([""]) {
                health.clear_service_status(name).await;
            }
            // The rest of the time is for the last sync.
            tokio::time::sleep(timeout / 2).await;
            tracing::warn!("connections that are still open are cut");
            connections.cut();
            tokio::time::sleep(timeout / 20).await;
        };
        tokio::select! {
            () = serving => {}
            () = overdue => {}
        }
        drop(services);
        let stopped = tokio::time::timeout(timeout / 3, broker.shutdown()).await;
        match stopped {
            Ok(stopped) => stopped.map_err(ServeError::Broker)?,
            Err(_) => {
                return Err(ServeError::Timeout {
                    timeout_ms: timeout.as_millis().try_into().unwrap_or(u64::MAX),
                });
            }
        }
        tracing::info!(%local_addr, "stopped");
        Ok(())
    }
}

/// Listens on an address that a flag of the command line sets.
async fn bind(
    listen: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken { listen, flag },
        _ => StartError::Listen {
            listen,
            flag,
            source,
        },
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

/// Adds both versions of the reflection service, which tell what is mounted here.
fn with_reflection(routes: Routes) -> Routes {
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(flowstone_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let compiled_in = "the descriptors are compiled in";
    routes
        .add_service(described().build_v1().expect(compiled_in))
        .add_service(described().build_v1alpha().expect(compiled_in))
}
