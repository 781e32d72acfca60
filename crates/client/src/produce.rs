//! One request at a time, numbered by the caller.

use flowstone_proto::v1 as proto;

use crate::{Client, Result};

impl Client {
    /// Appends the records of one request and waits for the answer. With a `producer` the same request
    /// is repeated after errors that allow it; without one it is made once, since a repeat might append
    /// twice. [`Client::producer`] batches, and numbers its requests itself.
    ///
    /// # Errors
    /// What the broker or the connection said.
    pub async fn produce(&self, request: proto::ProduceRequest) -> Result<proto::ProduceResponse> {
        let repeats = request.producer.is_some();
        let attempt = |client: Client| {
            let request = request.clone();
            async move { client.log().produce(request).await }
        };
        if repeats {
            self.call(attempt).await
        } else {
            self.once(self.call_timeout(), attempt(self.clone())).await
        }
    }
}
