//! From arguments to frames, once for every recipient.

use engineio::{Fanout, Frame, HEADROOM, SendError};
use serde::Serialize;
use smallvec::SmallVec;
use socketio_proto::{Chunk, Encoded};

use crate::env::Env;
use crate::{EmitError, Fault, Socket};

/// One packet as the engine sends it: the packet itself, then its attachments. Cloning it copies no data.
pub(crate) type Frames = SmallVec<[Frame; 1]>;

/// What became of frames for one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    Queued,
    /// Volatile, and the client could not take it at once.
    Dropped,
    Refused(SendError),
}

/// Turns encoded chunks, which have the engine's headroom in front, into frames without copying.
pub(crate) fn frames(mut encoded: Encoded, compress: bool) -> Frames {
    // The usual packet is one text message.
    match encoded.len() {
        1 => encoded.pop().map(|chunk| one(frame(chunk, compress))).unwrap_or_default(),
        _ => encoded.into_iter().map(|chunk| frame(chunk, compress)).collect(),
    }
}

fn one(frame: Frame) -> Frames {
    SmallVec::from_buf([frame])
}

fn frame(chunk: Chunk, compress: bool) -> Frame {
    let mut frame = match chunk.binary {
        true => Frame::binary(chunk.bytes, chunk.start),
        false => Frame::text(chunk.bytes, chunk.start),
    };
    frame.compress = compress;
    frame
}

impl Env {
    /// Encodes an event of the application. A failure is the application's fault, so it is also logged.
    pub(crate) fn encode_event<T: Serialize>(
        &self,
        namespace: &str,
        id: Option<u64>,
        event: &str,
        args: &T,
        compress: bool,
    ) -> Result<Frames, EmitError> {
        Ok(frames(self.encode(namespace, id, event, args, None)?, compress))
    }

    /// [`encode_event`](Self::encode_event) without the last step, with an offset as one more argument.
    pub(crate) fn encode<T: Serialize>(
        &self,
        namespace: &str,
        id: Option<u64>,
        event: &str,
        args: &T,
        offset: Option<&str>,
    ) -> Result<Encoded, EmitError> {
        self.parser.encode_event(namespace, id, event, args, offset, HEADROOM).map_err(|error| {
            tracing::warn!(namespace, event, %error, "an event could not be encoded");
            self.fault(|| Fault::NotEncodable { namespace, event, error: &error });
            error.into()
        })
    }
}

impl Socket {
    /// [`Socket::deliver`] as part of a broadcast.
    pub(crate) fn deliver_in(&self, fanout: &mut Fanout, frames: &Frames, volatile: bool) -> Delivery {
        let session = &self.0.client.session;
        if volatile {
            return self.taken_or_dropped(fanout.send_volatile(session, frames.iter().cloned()));
        }
        self.queued_or_refused(fanout.send(session, frames.iter().cloned()))
    }

    /// Hands frames to the engine: all or none, in order, with nothing in between.
    pub(crate) fn deliver(&self, mut frames: Frames, volatile: bool) -> Delivery {
        let session = &self.0.client.session;
        if volatile {
            return self.taken_or_dropped(session.send_volatile(frames));
        }
        self.queued_or_refused(match frames.len() {
            1 => session.send(frames.pop()),
            _ => session.send(frames),
        })
    }

    /// What became of a volatile event, counted.
    fn taken_or_dropped(&self, taken: bool) -> Delivery {
        if taken {
            return Delivery::Queued;
        }
        self.0.nsp.env.counters.volatile_dropped.add();
        Delivery::Dropped
    }

    /// What became of any other event, counted.
    pub(crate) fn queued_or_refused(&self, sent: Result<(), SendError>) -> Delivery {
        match sent {
            Ok(()) => Delivery::Queued,
            Err(error) => {
                self.0.nsp.env.counters.emits_refused.add();
                Delivery::Refused(error)
            }
        }
    }
}
