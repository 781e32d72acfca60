//! A server for the process that a benchmark starts beside itself.

use std::error::Error;
use std::io::Read;
use std::path::Path;

use flowstone_disk::Env;
use flowstone_server::{Server, ServerConfig};
use tokio::runtime::Runtime;

/// Serves a data directory on a port that is free, which it prints, until standard input ends.
///
/// # Errors
/// When the server does not start, or does not stop well.
pub fn serve(dir: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = ServerConfig {
        listen: "127.0.0.1:0".parse()?,
        data_dir: dir.to_path_buf(),
        ..ServerConfig::default()
    };
    Runtime::new()?.block_on(async {
        let server = Server::start(config, Env::real()).await?;
        println!("{}", server.local_addr());
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        server.run_until(async { drop(ended.await) }).await?;
        Ok(())
    })
}
