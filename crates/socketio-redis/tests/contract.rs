//! The contract of every adapter on a real Redis: both protocols, and each way to listen to rooms.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use socketio_redis::SubscriptionMode;
use support::{PythonBroker, RedisBroker};

macro_rules! contract {
    ($($name:ident: $sharded:literal $mode:ident $specific:literal;)*) => {$(
        mod $name {
            use super::*;

            async fn broker() -> RedisBroker {
                RedisBroker { specific: $specific, ..RedisBroker::start($sharded, SubscriptionMode::$mode) }
            }

            socketio_testkit::adapter_contract!(broker);
        }
    )*};
}

mod python {
    use super::*;

    async fn broker() -> PythonBroker {
        PythonBroker::start()
    }

    socketio_testkit::adapter_contract!(broker);
}

contract! {
    classic: false Dynamic false;
    classic_pattern: false Static true;
    sharded: true Dynamic false;
    sharded_static: true Static false;
    sharded_private: true DynamicPrivate false;
}
