//! An address that stays while the broker behind it comes and goes.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes connections on to where it is told to. Without a target, or with one that is away, a
/// connection is closed as soon as it is made. Dropping it closes the address.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    target: Arc<Mutex<Option<String>>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there is a free port");
        let address = listener
            .local_addr()
            .expect("a listener has an address")
            .to_string();
        let target = Arc::new(Mutex::new(None));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&target)));
        Self {
            address,
            target,
            accepting,
        }
    }

    /// The address as clients are given it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Passes new connections on to this address, or to none.
    pub fn point_to(&self, target: Option<&str>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target.map(str::to_owned);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: Arc<Mutex<Option<String>>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let target = target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        tokio::spawn(async move {
            let Some(target) = target else { return };
            let Ok(mut broker) = TcpStream::connect(target).await else {
                return;
            };
            // Ends when the broker or the client does.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
        });
    }
}
