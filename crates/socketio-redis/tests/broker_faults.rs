//! 1,000 clients on two servers while their Redis is killed, restarted, stopped, or cut off without a word.
//!
//! Every run cuts a smaller crowd off; with `SOCKETIO_SOAK` set it is every fault, and the partition of a network namespace
//! where that can be made. `cargo xtask soak broker-faults` does so and prints the table.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use socketio::Bus;
use socketio_adapter::cluster::Emitter;
use socketio_redis::{RedisBus, RedisStreamsBus, SubscriptionMode, emitter, streams_emitter};
use socketio_testkit::broker_faults::{BUFFER, Fault, Faulty, Figures, PROMISE, survives};
use socketio_testkit::contract::Broker;
use socketio_testkit::{Network, Proxy, Upstream, within};

const BOUND: Duration = Duration::from_secs(280);

/// A redis-server that keeps what it acknowledges, on an address of its own, and a proxy in front of it.
struct Redis<B> {
    name: &'static str,
    bus: fn(&str) -> B,
    emitter: fn(&str) -> Emitter,
    keeps: bool,
    child: Child,
    dir: PathBuf,
    address: SocketAddrV4,
    proxy: Option<Proxy>,
    network: Option<Network>,
}

impl<B> Redis<B> {
    async fn start(
        name: &'static str,
        keeps: bool,
        bus: fn(&str) -> B,
        emitter: fn(&str) -> Emitter,
        fault: Fault,
    ) -> Self {
        let network = (fault == Fault::Namespace).then(|| Network::new().expect("a network namespace can be made"));
        let ip = network.as_ref().map_or(Ipv4Addr::LOCALHOST, |network| network.ip());
        for _ in 0..20 {
            // Somebody else may take the port in between: then another one is tried.
            let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
            let address = SocketAddrV4::new(ip, port);
            let dir = std::env::temp_dir().join(format!("sio-faults-{}-{port}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a folder");
            let Some(child) = spawn(address, &dir, network.as_ref()) else {
                drop(std::fs::remove_dir_all(&dir));
                continue;
            };
            let proxy = match fault {
                Fault::Partition => {
                    Some(Proxy::start(Upstream::Tcp(SocketAddr::V4(address))).await.expect("a free port"))
                }
                _ => None,
            };
            return Self { name, bus, emitter, keeps, child, dir, address, proxy, network };
        }
        panic!("redis-server does not start");
    }

    fn url(&self) -> String {
        let address = self.proxy.as_ref().map_or(SocketAddr::V4(self.address), Proxy::address);
        format!("redis://{address}/")
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(done.is_ok_and(|status| status.success()), "a signal can be sent to a child");
    }

    fn start_again(&mut self) {
        drop(self.child.wait());
        let until = Instant::now() + Duration::from_secs(60);
        self.child = loop {
            match spawn(self.address, &self.dir, self.network.as_ref()) {
                Some(child) => break child,
                None => assert!(Instant::now() < until, "the port stays taken"),
            }
        };
    }
}

fn spawn(address: SocketAddrV4, dir: &PathBuf, network: Option<&Network>) -> Option<Child> {
    let mut command = match network {
        Some(network) => network.command("redis-server"),
        None => Command::new("redis-server"),
    };
    command
        .args(["--port", &address.port().to_string(), "--bind", &address.ip().to_string(), "--save", ""])
        .args(["--appendonly", "yes", "--protected-mode", "no", "--daemonize", "no", "--dir"])
        .arg(dir);
    support::started(&mut command, "Ready to accept connections")
}

impl<B> Drop for Redis<B> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

impl<B: Bus> Broker for Redis<B> {
    type Bus = B;

    fn bus(&self) -> B {
        (self.bus)(&self.url())
    }

    async fn junk(&self, _: &str, _: &[u8]) {}
}

impl<B: Bus> Faulty for Redis<B> {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn keeps(&self) -> bool {
        self.keeps
    }

    fn emitter(&self) -> Emitter {
        (self.emitter)(&self.url())
    }

    async fn hurt(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => {
                self.child.kill().expect("it can be killed");
                drop(self.child.wait());
            }
            Fault::Restart => {
                self.signal("TERM");
                self.start_again();
            }
            Fault::Pause => self.signal("STOP"),
            Fault::Partition => self.proxy.as_ref().expect("a proxy").partition(),
            Fault::Namespace => self.network.as_ref().expect("a namespace").cut().expect("cut"),
        }
    }

    async fn heal(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.start_again(),
            Fault::Restart => {}
            Fault::Pause => self.signal("CONT"),
            Fault::Partition => self.proxy.as_ref().expect("a proxy").heal(),
            Fault::Namespace => self.network.as_ref().expect("a namespace").mend().expect("mended"),
        }
    }
}

fn classic(url: &str) -> RedisBus {
    RedisBus::classic(url).expect("a URL").buffer_bytes(BUFFER)
}

fn sharded(url: &str) -> RedisBus {
    RedisBus::sharded(url).expect("a URL").subscription_mode(SubscriptionMode::DynamicPrivate).buffer_bytes(BUFFER)
}

fn streams(url: &str) -> RedisStreamsBus {
    RedisStreamsBus::new(url).expect("a URL").buffer_bytes(BUFFER)
}

fn program(url: &str) -> Emitter {
    emitter(url).expect("a URL")
}

fn sharded_program(url: &str) -> Emitter {
    sharded(url).emitter()
}

fn streams_program(url: &str) -> Emitter {
    streams_emitter(url).expect("a URL")
}

async fn check<B: Bus>(name: &'static str, bus: fn(&str) -> B, emitter: fn(&str) -> Emitter, keeps: bool) {
    let soak = std::env::var_os("SOCKETIO_SOAK").is_some();
    let (mut faults, clients) = match soak {
        true => (vec![Fault::Kill, Fault::Restart, Fault::Pause, Fault::Partition], 1_000),
        false => (vec![Fault::Partition], 200),
    };
    if soak {
        match Network::new() {
            Ok(_) => faults.push(Fault::Namespace),
            Err(why) => println!("{why}"),
        }
    }
    for fault in faults {
        within(BOUND, async {
            let mut redis = Redis::start(name, keeps, bus, emitter, fault).await;
            let figures = survives(&mut redis, fault, clients).await;
            println!("\n{}\n{figures}", Figures::HEAD);
            assert!(!soak || figures.resumed <= PROMISE, "{:?} until traffic went on", figures.resumed);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_classic_protocol_a_crowd_survives() {
    check("classic", classic, program, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_sharded_protocol_a_crowd_survives() {
    check("sharded", sharded, sharded_program, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_streams_a_crowd_survives_and_nothing_acknowledged_is_lost() {
    check("streams", streams, streams_program, true).await;
}
