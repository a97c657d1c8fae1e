//! Rooms and, later, the cluster protocol of Socket.IO.
