//! The sharded protocol: Node's `ClusterMessage` on channels that live on one shard each.

use std::sync::Arc;

use socketio_adapter::cluster::wire::{self, Foreign};
use socketio_adapter::cluster::{BusError, Envelope, Target};

use crate::{Decoded, SubscriptionMode, Words};

/// What Node takes for the id of a socket. Clients of Socket.IO 2.x have longer ones in other namespaces and in clusters.
const ID_LENGTH: usize = 20;

/// Whether a room has no channel in the dynamic mode when it is the room of an id: who publishes knows no more than its name.
pub(crate) fn looks_like_an_id(room: &str) -> bool {
    room.encode_utf16().count() == ID_LENGTH
}

/// The channel of a message, and the message.
pub(crate) fn encode(words: &Words, envelope: &Envelope, to: &Target) -> Result<(String, Vec<u8>), BusError> {
    let main = words.main_channel(&envelope.namespace);
    let channel = match (to, envelope.message.only_room()) {
        (Target::Asker(Some(server)), _) => format!("{main}{}#", server.as_str()),
        (Target::Asker(None), _) | (Target::Everybody, None) => main,
        (Target::Everybody, Some(room)) => match words.mode {
            SubscriptionMode::Dynamic if !looks_like_an_id(room) => format!("{main}{room}#"),
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

#[cfg(test)]
mod tests {
    use socketio_adapter::cluster::wire::WireLimits;
    use socketio_adapter::cluster::{Message, ServerId};
    use socketio_adapter::{BroadcastOptions, Selection};
    use socketio_proto::OwnedArgs;

    use super::*;
    use crate::Dialect;

    #[test]
    fn what_is_for_one_socket_goes_where_its_server_listens() {
        for mode in [SubscriptionMode::Static, SubscriptionMode::Dynamic, SubscriptionMode::DynamicPrivate] {
            for own in [true, false] {
                check(mode, "news", own);
                check(mode, "AAAAAAAAAAAAAAAAAAAA", own);
                // Of clients of Socket.IO 2.x: in a cluster, in another namespace, in both.
                check(mode, "AAAAAAAAAAAAAAAAAAAAserver-1", own);
                check(mode, "/chat#AAAAAAAAAAAAAAAAAAAA", own);
                check(mode, "/chat#AAAAAAAAAAAAAAAAAAAAserver-1", own);
            }
        }

        #[track_caller]
        fn check(mode: SubscriptionMode, room: &str, own: bool) {
            let words = Words {
                dialect: Dialect::Sharded,
                prefix: "socket.io".to_owned(),
                mode,
                specific_responses: false,
                limits: WireLimits::default(),
                id: ServerId::from("me"),
            };
            let event = OwnedArgs::event("hi", &()).expect("an event");
            let options = BroadcastOptions { selection: Selection::everybody().to(room), ..Default::default() };
            let message = Message::Broadcast { event, options, request: None };
            let envelope = Envelope { sender: Some("other".into()), namespace: "/".into(), message };
            let (channel, _) = encode(&words, &envelope, &Target::Everybody).expect("it can be written");
            let heard = words.room_channel("/", room, own).map(|channel| channel.name);
            // A room of 20 characters that is no id has a channel that nobody publishes on.
            let hears = channel == words.main_channel("/") || heard.as_ref() == Some(&channel);
            assert!(hears, "{mode:?} {room} {own}: published on {channel}, heard on {heard:?}");
        }
    }
}
