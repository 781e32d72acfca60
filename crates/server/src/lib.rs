//! The gRPC front end of the broker: the services, the mapping of errors, configuration, shutdown.
//!
//! It knows nothing of files. Records pass through it as the bytes that the client sent and the bytes
//! that lie on disk; they are never decoded into messages.

mod codec;
mod config;
mod deadline;
mod error;
mod fields;
mod front;
mod incoming;
mod page;
mod server;
mod services;
mod status;
pub mod wire;

pub use config::{Http2Config, ServerConfig};
pub use error::{ConfigError, ServeError, StartError};
pub use server::Server;
