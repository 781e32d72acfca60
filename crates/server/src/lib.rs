//! The gRPC front end of the broker: the services, the mapping of errors, configuration, shutdown.
//!
//! It knows nothing of files. Records pass through it as the bytes that the client sent and the bytes
//! that lie on disk; they are never decoded into messages.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use flowstone_disk::Env;
//! use flowstone_server::{Server, ServerConfig};
//!
//! let server = Server::start(ServerConfig::default(), Env::real()).await?;
//! println!("listening on {}", server.local_addr());
//! server.run_until(tokio::time::sleep(std::time::Duration::from_secs(60))).await?;
//! # Ok(())
//! # }
//! ```

mod config;
mod connections;
mod deadline;
mod error;
mod fields;
mod front;
mod grpc;
mod metrics;
mod page;
mod server;
mod services;
mod status;
mod windows;
pub mod wire;

pub use config::{Http2Config, ServerConfig};
pub use error::{ConfigError, ServeError, StartError};
pub use server::Server;
