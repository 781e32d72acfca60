//! The connection to a broker, and how a call is made and repeated.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use flowstone_proto::v1::cluster_service_client::ClusterServiceClient;
use flowstone_proto::v1::group_service_client::GroupServiceClient;
use flowstone_proto::v1::log_service_client::LogServiceClient;
use flowstone_proto::v1::topic_service_client::TopicServiceClient;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::backoff::Backoff;
use crate::stream::Responses;
use crate::{Error, ProducerBuilder, Result, SubscribeBuilder};

/// Windows and frames far above HTTP/2's defaults: with those a stream is limited to a fraction
/// of what loopback or a local network carries. What has come and waits for its reader is out of the processor's cache
/// when it is read, so more is not better (docs/performance.md).
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Above any response that a broker is configured to send; a bound all the same.
const RESPONSE_BYTES_MAX: usize = 80 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long the TCP connection may take.
    pub connect_timeout: Duration,
    /// How long one attempt of a call may take. Streams are not calls in this sense.
    pub call_timeout: Duration,
    /// For how long a call that failed with a retryable error is repeated. Zero: never.
    pub retry_for: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            retry_for: Duration::ZERO,
        }
    }
}

/// A connection to a broker. Clones are cheap and share it; it is made when it is first needed
/// and made anew when it was lost. Each producer and each subscription has one of its own: on a
/// shared one a reader that pauses would leave no window for the others.
#[derive(Clone, Debug)]
pub struct Client {
    /// For calls; streams have connections of their own.
    channel: Channel,
    transport: Endpoint,
    endpoint: Arc<str>,
    options: Arc<ClientOptions>,
}

impl Client {
    /// A client of the broker at `endpoint`: `http://host:port`, or `host:port`.
    ///
    /// Does not connect yet, but needs a Tokio runtime around it.
    ///
    /// # Errors
    /// When `endpoint` is not such an address.
    pub fn connect(endpoint: impl AsRef<str>) -> Result<Self> {
        Self::with_options(endpoint, ClientOptions::default())
    }

    /// As [`Client::connect`], with other timeouts.
    ///
    /// # Errors
    /// When `endpoint` is not an address.
    pub fn with_options(endpoint: impl AsRef<str>, options: ClientOptions) -> Result<Self> {
        let address = normalize(endpoint.as_ref())?;
        let invalid = |detail: String| {
            Error::local(
                Code::InvalidArgument,
                None,
                format!("{address:?} is not the address of a broker: {detail}"),
            )
        };
        let endpoint =
            Endpoint::from_shared(address.clone()).map_err(|error| invalid(error.to_string()))?;
        if endpoint.uri().host().is_none_or(str::is_empty) {
            return Err(invalid("it names no host".to_owned()));
        }
        let transport = endpoint
            .tcp_nodelay(true)
            .connect_timeout(options.connect_timeout)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Ok(Self {
            channel: transport.connect_lazy(),
            transport,
            endpoint: address.into(),
            options: Arc::new(options),
        })
    }

    /// The address this client was made for.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Begins the description of a producer to one topic.
    pub fn producer(&self, topic: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic.into())
    }

    /// Begins the description of a subscription to one topic.
    pub fn subscribe(&self, topic: impl Into<String>) -> SubscribeBuilder {
        SubscribeBuilder::new(self.clone(), topic.into())
    }

    /// A call over a connection of its own.
    pub(crate) fn stream(
        &self,
        path: &'static str,
        requests: Body,
    ) -> impl Future<Output = std::result::Result<Responses, Status>> + Send + 'static {
        let channel = self.transport.connect_lazy();
        Responses::open(channel, path, requests, RESPONSE_BYTES_MAX)
    }

    pub(crate) fn cluster_service(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel.clone())
    }

    pub(crate) fn log(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) fn groups(&self) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// A status as an error that says, where nobody answered, who did not.
    pub(crate) fn error(&self, status: &Status) -> Error {
        let error = Error::from_status(status);
        if error.code() != Code::Unavailable || error.reason().is_some() {
            return error;
        }
        let detail = error.message();
        Error::local(
            Code::Unavailable,
            None,
            format!("no broker answers at {}: {detail}", self.endpoint),
        )
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.options.call_timeout
    }

    pub(crate) async fn call<T, F, Fut>(&self, attempt: F) -> Result<T>
    where
        F: FnMut(Client) -> Fut,
        Fut: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        self.call_within(self.options.call_timeout, attempt).await
    }

    /// Makes the call, and again after retryable errors while `retry_for` lasts.
    pub(crate) async fn call_within<T, F, Fut>(
        &self,
        timeout: Duration,
        mut attempt: F,
    ) -> Result<T>
    where
        F: FnMut(Client) -> Fut,
        Fut: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let give_up_at = Instant::now() + self.options.retry_for;
        let mut backoff = Backoff::default();
        loop {
            let error = match self.once(timeout, attempt(self.clone())).await {
                Ok(answer) => return Ok(answer),
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => error,
            };
            let delay = backoff.after(&error);
            if Instant::now() + delay > give_up_at {
                return Err(error);
            }
            tracing::debug!(%error, ?delay, "the call is repeated");
            tokio::time::sleep(delay).await;
        }
    }

    /// Waits for one attempt of a call.
    pub(crate) async fn once<T>(
        &self,
        timeout: Duration,
        attempt: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<T> {
        match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.error(&status)),
            Err(_) => Err(Error::local(
                Code::DeadlineExceeded,
                None,
                format!("{} did not answer within {timeout:?}", self.endpoint),
            )),
        }
    }
}

fn normalize(endpoint: &str) -> Result<String> {
    let (scheme, address) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    if scheme != "http" {
        return Err(Error::local(
            Code::InvalidArgument,
            None,
            format!("{endpoint:?}: {scheme} is not supported, only http"),
        ));
    }
    Ok(format!("http://{}", address.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_may_leave_out_its_scheme() {
        let client = Client::connect("127.0.0.1:7420").unwrap();
        assert_eq!(client.endpoint(), "http://127.0.0.1:7420");
        let client = Client::connect("http://broker:7420/").unwrap();
        assert_eq!(client.endpoint(), "http://broker:7420");
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused_by_name() {
        for bad in ["", "http://", "https://broker:7420", "ftp://broker", "a b"] {
            let error = Client::connect(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{bad:?}: {error}");
            assert!(error.message().contains(bad), "{bad:?}: {error}");
        }
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_unavailable_and_says_where() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Client::connect(&address)
            .unwrap()
            .cluster()
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains(&address), "{error}");
        assert!(error.message().contains("refused"), "{error}");
        assert!(error.is_retryable());
    }
}
