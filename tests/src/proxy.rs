//! An address that stays while the broker behind it comes and goes.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to where it is told to. While there is no target, new connections wait for
/// one. Dropping it closes the address.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    target: watch::Sender<Option<String>>,
    silent: watch::Sender<bool>,
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
        let target = watch::Sender::new(None);
        let silent = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, target.subscribe(), silent.subscribe()));
        Self {
            address,
            target,
            silent,
            accepting,
        }
    }

    /// The address as clients are given it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Passes connections on to this address from now on, or to none. Those that there are stay.
    pub fn point_to(&self, target: Option<&str>) {
        self.target.send_replace(target.map(str::to_owned));
    }

    /// Passes nothing on any more, and keeps all connections open: a cable that is cut.
    pub fn fall_silent(&self) {
        self.silent.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<Option<String>>,
    silent: watch::Receiver<bool>,
) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(pass_on(client, target.clone(), silent.clone()));
    }
}

async fn pass_on(
    mut client: TcpStream,
    mut target: watch::Receiver<Option<String>>,
    mut silent: watch::Receiver<bool>,
) {
    let Ok(target) = target.wait_for(Option::is_some).await.map(|to| to.clone()) else {
        return;
    };
    let address = target.expect("it was waited for");
    let Ok(mut broker) = TcpStream::connect(address).await else {
        return;
    };
    let gone_silent = async {
        if silent.wait_for(|silent| *silent).await.is_err() {
            // The proxy is gone, and those that it has connected go on.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // Ends when the broker or the client does.
        _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => return,
        () = gone_silent => {}
    }
    // Both ends stay open until the proxy is dropped.
    let _ = silent.wait_for(|silent| !*silent).await;
}
