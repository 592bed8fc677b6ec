//! Calls whose messages are bytes.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use futures::stream;
use prost_reflect::MethodDescriptor;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};

/// Longer than any call may take.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) async fn connect(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address").timeout(DEADLINE);
    endpoint.connect().await.expect("the platform listens")
}

/// Sends one message and waits for the first response, or for its absence.
pub(crate) async fn call(channel: Channel, method: &MethodDescriptor, message: Vec<u8>) -> Result<(), Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = path.try_into().expect("a path");
    let mut client = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    client.ready().await.map_err(|error| Status::unknown(format!("the connection was lost: {error}")))?;
    let request = Request::new(stream::iter([message]));
    let mut responses = client.streaming(request, path, Plain).await?.into_inner();
    // A watch does not end by itself.
    let first = tokio::time::timeout(Duration::from_secs(5), responses.message()).await;
    first.unwrap_or(Ok(None)).map(drop)
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
