//! The sharded protocol: Node's `ClusterMessage` on channels that live on one shard each.

use std::sync::Arc;

use socketio_adapter::cluster::wire::{self, Foreign};
use socketio_adapter::cluster::{BusError, Envelope, Target};

use crate::{Decoded, SubscriptionMode, Words};

/// What Node takes for the id of a socket.
const ID_LENGTH: usize = 20;

/// The channel of a message, and the message.
pub(crate) fn encode(words: &Words, envelope: &Envelope, to: &Target) -> Result<(String, Vec<u8>), BusError> {
    let main = words.main_channel(&envelope.namespace);
    let channel = match (to, envelope.message.only_room()) {
        (Target::Asker(Some(server)), _) => format!("{main}{}#", server.as_str()),
        (Target::Asker(None), _) | (Target::Everybody, None) => main,
        (Target::Everybody, Some(room)) => match words.mode {
            // The rooms of ids have no channels, and who publishes cannot know which those are.
            SubscriptionMode::Dynamic if room.encode_utf16().count() != ID_LENGTH => format!("{main}{room}#"),
            SubscriptionMode::DynamicPrivate => format!("{main}{room}#"),
            SubscriptionMode::Dynamic | SubscriptionMode::Static => main,
        },
    };
    Ok((channel, wire::encode(envelope)?))
}

pub(crate) fn decode(words: &Words, namespace: &Arc<str>, bytes: &[u8]) -> Decoded {
    // Our own messages come back. Those in JSON can be told by their end.
    let id = words.id.as_str();
    if bytes.len() > id.len() + namespace.len() {
        let own = format!(r#""uid":"{id}","nsp":"{namespace}"}}"#);
        if bytes.ends_with(own.as_bytes()) {
            return Ok(None);
        }
    }
    let envelope = wire::decode(bytes, &words.limits)?;
    if envelope.namespace != *namespace {
        return Err(Foreign::Field("nsp"));
    }
    Ok(Some(envelope))
}
