//! Our server on the system's allocator.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    peer_ours::run()
}
